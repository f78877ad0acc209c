// The end of a tuning run: the best candidates and the defaults are compared, and the winner remembered.
#pragma once

#include "tuner/tuning_run.h"

namespace cudadent {

inline constexpr double final_share = 0.1;  // of a run's time is for the comparison

// Fills in the result's winner and default_seconds. Throws Error(unsupported, compile_failed or
// launch_failed) when no candidate works, with what failed how often.
void choose_winner(TuningRun& run);

}  // namespace cudadent
