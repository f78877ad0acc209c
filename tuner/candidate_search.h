// The search of a tuning run: candidates are compiled and measured until it is to stop.
#pragma once

#include "tuner/strategy.h"
#include "tuner/tuning_run.h"

namespace cudadent {

// Tells `strategy`, a new one on run.space, what earlier runs measured, lays the problem out, and measures
// run.first and then what the strategy asks for. Fills in run.measurer, run.trials, run.best and the result's
// trials; result.stopped_by says why it ended, "cancelled" wherever that was heard. Throws Error:
// compiler_unavailable, and what laying the problem out raises.
void search_candidates(TuningRun& run, Strategy& strategy);

}  // namespace cudadent
