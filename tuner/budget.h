// Budgets as people write them, and what limits of a run may be.
#pragma once

#include <cudadent/cudadent.h>

#include <string_view>

namespace cudadent {

// "500ms", "30s", "2m" (also "2min") or "1h" of time, or a number of trials: "200", "200 trials". Decimals have a
// point, whatever the locale. Throws Error(invalid_argument).
Budget parse_budget(std::string_view text);

// Throw Error(invalid_argument) that names the limit which is NaN, negative, or 0 where that is no limit.
void check_budget(const Budget& budget);
void check_options(const TuneOptions& options);
// As RuntimeOptions::wait_for_others.
void check_wait_for_others(double seconds);

}  // namespace cudadent
