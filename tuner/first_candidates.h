// What a tuning run measures before its strategy is asked.
#pragma once

#include "tuner/tuning_run.h"

namespace cudadent {

// Fills in run.defaults and run.first. Every template's default comes first, so that the winner can never
// be slower than it, then what won for the tuning key (in the store, its layers, and what ships), lest it be
// replaced by something slower, and then what won for problems like this one.
void find_first_candidates(TuningRun& run);

}  // namespace cudadent
