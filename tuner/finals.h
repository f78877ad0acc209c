// The last stage of a tuning run: the best of the trials are compared, and one becomes the winner.
#pragma once

#include <optional>

#include "tuner/laboratory.h"
#include "tuner/trial_log.h"

namespace cudadent {

struct Outcome {
  Candidate candidate = 0;
  double seconds = 0;          // median
  double default_seconds = 0;  // of its template's default in the same comparison; 0 unknown
};

// Races the best few and the defaults. Nothing where not one round was made: the device is lost, or the run was
// cancelled, which ends the race. Throws what the trial log throws.
std::optional<Outcome> race_finalists(const TuningTask& task, const RunSpace& space,
                                      Laboratory& laboratory, TrialLog& log);

// The trial that has least of the objective, as it was measured in the search. Throws Error(unsupported,
// compile_failed, launch_failed or machine_failed) when no candidate works, with what failed how often, and cancelled.
// `stopped_by` says why the search ended.
Outcome best_of_trials(const TuningTask& task, const RunSpace& space, const TrialLog& log,
                       const std::string& stopped_by);

// Keeps it, with its binary, for launches to come.
void store_winner(const TuningTask& task, const RunSpace& space, const Outcome& outcome,
                  Workshop& workshop, Forgiving& remember);

// Throws Error(cancelled).
[[noreturn]] void throw_cancelled(const TuningTask& task, const TrialLog& log);

}  // namespace cudadent
