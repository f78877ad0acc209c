#include "tuner/budget.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace cudadent {

Budget parse_budget(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  if (error == std::errc{} && std::isfinite(number) && number > 0) {
    if (unit == "s") return {.seconds = number};
    if (unit == "m") return {.seconds = number * 60};
    if (unit == "h") return {.seconds = number * 3600};
    if (unit.empty() && number >= 1)
      return {.seconds = 0, .trials = static_cast<std::int64_t>(number)};
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("budget \"{}\" is not like 30s, 2m, 1h or 200 (trials)", text));
}

}  // namespace cudadent
