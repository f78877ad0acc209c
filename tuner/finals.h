// The end of a tuning run: the best candidates and the defaults are compared, and the winner remembered.
#pragma once

#include "tuner/tuning_run.h"

namespace cudadent {

inline constexpr double final_share = 0.1;  // of a run's time is for the comparison

// Fills in the result's winner and default_seconds. A run that was cancelled ends the comparison, too: then the
// winner is the best of the rounds so far, or of the trials. Throws Error(unsupported, compile_failed,
// launch_failed or machine_failed) when no candidate works, with what failed how often, and cancelled.
void choose_winner(TuningRun& run);

}  // namespace cudadent
