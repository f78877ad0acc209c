// What the database keeps of a tuning run besides its trials and its winner.
#pragma once

#include <cudadent/cudadent.h>

#include "cache/store.h"
#include "runtime/backends/backend.h"

namespace cudadent {

// The run that has just ended with `result`; when it began is told from result.elapsed.
RunRecord run_record(const ProblemRecord& problem, Backend& backend, const TuneOptions& options,
                     const TuneResult& result);

}  // namespace cudadent
