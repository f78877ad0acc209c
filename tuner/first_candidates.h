// What a tuning run measures before its strategy is asked.
#pragma once

#include "tuner/tuning_run.h"

namespace cudadent {

// Fills in run.untuned, run.defaults and run.first: what would be launched without tuning and every template's
// default come first, so that the winner can never be slower than they, then what won for the tuning key (in the store,
// its layers, and what ships), lest it be replaced by something slower, and then what is judged cheapest (judge.h), each
// of these with a value of a parameter that none before it has: a short run looks at every family.
void find_first_candidates(TuningRun& run);

}  // namespace cudadent
