// What a test takes from the environment.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

namespace cudadent::test {

inline std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

// Empty where it is not set.
inline std::string text_from_environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::string() : std::string(text);
}

}  // namespace cudadent::test
