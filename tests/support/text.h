// Texts of tests: manifests and kernels with a part changed.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace cudadent::tests {

// `text` with its first `from` replaced; a text without it fails the test.
inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + std::string(from));
  return text.replace(at, from.size(), to);
}

}  // namespace cudadent::tests
