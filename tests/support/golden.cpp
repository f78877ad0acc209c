#include "tests/support/golden.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace cudadent::tests {

namespace {

// The first line in which two texts differ, with its number.
std::string first_difference(const std::string& before, const std::string& now) {
  std::istringstream before_lines(before), now_lines(now);
  for (int number = 1;; ++number) {
    std::string old_line, new_line;
    const bool had = static_cast<bool>(std::getline(before_lines, old_line));
    const bool has = static_cast<bool>(std::getline(now_lines, new_line));
    if (!had && !has) return "the end of the last line";
    if (had != has || old_line != new_line)
      return fmt::format("line {}\n  was: {}\n  is:  {}", number, had ? old_line : "(no more)",
                         has ? new_line : "(no more)");
  }
}

}  // namespace

void check_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path file = std::filesystem::path(CUDADENT_GOLDEN_FOLDER) / name;
  if (std::getenv("CUDADENT_RENEW_GOLDEN") != nullptr) {
    std::ofstream stream(file, std::ios::binary);
    stream << text;
    REQUIRE(stream.flush());
    return;
  }
  std::ifstream stream(file, std::ios::binary);
  const std::string golden{std::istreambuf_iterator<char>(stream), {}};
  if (golden != text)
    FAIL_CHECK(
        fmt::format("{} is not what it was: {}\nIf that is meant, run "
                    "scripts/renew_golden.sh, look at what it changed, and commit that too",
                    file.string(), first_difference(golden, text)));
}

}  // namespace cudadent::tests
