#include "tuner/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace cudadent {

namespace {

constexpr double most_trials = 1e15;  // all smaller ones are exact in a double

void check_seconds(const char* name, double seconds, bool may_be_zero) {
  if (seconds > 0 || (seconds == 0 && may_be_zero)) return;  // false for NaN
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} = {}: expected seconds {} 0, or infinity", name, seconds,
                          may_be_zero ? "from" : "above"));
}

void check_count(const char* name, std::int64_t count) {
  if (count >= 0) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} = {}: expected a number from 0", name, count));
}

}  // namespace

Budget parse_budget(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  if (error == std::errc{} && std::isfinite(number) && number > 0) {
    if (unit == "ms") return {.seconds = number * 1e-3};
    if (unit == "s") return {.seconds = number};
    if (unit == "m" || unit == "min") return {.seconds = number * 60};
    if (unit == "h") return {.seconds = number * 3600};
    if ((unit.empty() || unit == "trials") && number == std::floor(number) && number <= most_trials)
      return {.seconds = 0, .trials = static_cast<std::int64_t>(number)};
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("budget \"{}\" is not like 500ms, 30s, 2m, 1h or 200 trials", text));
}

void check_budget(const Budget& budget) {
  check_seconds("budget.seconds", budget.seconds, true);
  check_count("budget.trials", budget.trials);
  check_count("budget.patience", budget.patience);
}

void check_options(const TuneOptions& options) {
  check_budget(options.budget);
  check_count("compile_workers", options.compile_workers);
  check_seconds("compile_timeout", options.compile_timeout, false);
  check_seconds("run_timeout", options.run_timeout, false);
  if (options.objective.empty())
    throw Error(ErrorCode::invalid_argument,
                "objective is empty: expected \"seconds\" or the name of an observer's figure");
}

void check_wait_for_others(double seconds) { check_seconds("wait_for_others", seconds, true); }

}  // namespace cudadent
