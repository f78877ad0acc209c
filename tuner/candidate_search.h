// The search of a tuning run: candidates are compiled and measured until it is to stop.
#pragma once

#include <memory>
#include <string>

#include "tuner/candidate_queue.h"
#include "tuner/laboratory.h"

namespace cudadent {

// Measures what the queue hands out, into the log; what is still compiled at the end is dropped. Returns why it
// ended, as TuneResult::stopped_by has it, "cancelled" wherever that was heard. Throws Error(compiler_unavailable), and
// what the strategy and the observers throw.
std::string search_candidates(const TuningTask& task, const RunSpace& space, Laboratory& laboratory,
                              std::unique_ptr<CandidateQueue> queue, SearchLimits& limits,
                              TrialLog& log, TuneResult& result);

}  // namespace cudadent
