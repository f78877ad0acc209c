#include "tuner/search_limits.h"

#include <algorithm>
#include <limits>

#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

// By how much of its budget a run may be longer, to measure what it compiled while the problem was laid out. A second is
// hardly more than opening a worker and laying out take.
constexpr double overtime = 0.5;

}  // namespace

double SearchLimits::time_left() const {
  const double seconds = task_.options.budget.seconds;
  if (seconds <= 0) return std::numeric_limits<double>::infinity();
  return (1 - final_share) * seconds - seconds_since(task_.start);
}

bool SearchLimits::overtime_is_over() const {
  return seconds_since(task_.start) > (1 + overtime) * task_.options.budget.seconds;
}

bool SearchLimits::is_worth_overtime(Candidate candidate) const {
  return space_.is_essential(candidate) ||
         (first_under_way_.contains(candidate) && !overtime_is_over());
}

bool SearchLimits::too_late() const {
  const auto count = static_cast<double>(std::max<std::int64_t>(1, log_.new_trials()));
  return result_.compile_seconds / count >= time_left();
}

std::string SearchLimits::stop_reason() const {
  if (task_.cancelled()) return "cancelled";
  const Budget& budget = task_.options.budget;
  if (out_of_time() && log_.has_essentials() && (first_under_way_.empty() || overtime_is_over()))
    return "time";
  if (budget.trials > 0 && log_.new_trials() >= budget.trials) return "trials";
  if (budget.patience > 0 && log_.since_improvement() >= budget.patience) return "patience";
  // Asked for a number of trials, a run makes them.
  if (budget.until_converged && budget.trials == 0 && log_.has_essentials() &&
      strategy_.converged())
    return "converged";
  return {};
}

}  // namespace cudadent
