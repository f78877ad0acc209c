// What an action throws, for tests of messages.
#pragma once

#include <cudadent/cudadent.h>
#include <doctest/doctest.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace cudadent::tests {

template <class Action>
std::optional<Error> error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// Whether `text` has every part, in this order; tells what it is otherwise.
inline bool mentions(std::string_view text, std::initializer_list<std::string_view> parts) {
  std::size_t from = 0;
  for (const auto part : parts) {
    const auto found = text.find(part, from);
    if (found == std::string_view::npos) {
      MESSAGE("no \"", std::string(part), "\" in: ", std::string(text));
      return false;
    }
    from = found + part.size();
  }
  return true;
}

// Whether the action throws an Error of this code that mentions every part in this order.
template <class Action>
bool fails(ErrorCode code, std::initializer_list<std::string_view> parts, const Action& action) {
  const auto error = error_of(action);
  if (!error) {
    MESSAGE("no error");
    return false;
  }
  if (error->code() != code) {
    MESSAGE(std::string(name_of(error->code())), ": ", std::string(error->what()));
    return false;
  }
  return mentions(error->what(), parts);
}

}  // namespace cudadent::tests
