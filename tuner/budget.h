// Budgets as people write them.
#pragma once

#include <cudadent/cudadent.h>

#include <string_view>

namespace cudadent {

// "30s", "2m" or "1h" of time, or a number of trials. Throws Error(invalid_argument).
Budget parse_budget(std::string_view text);

}  // namespace cudadent
