#include "tuner/tuner.h"

#include <fmt/format.h>

#include "runtime/base/cancellation.h"
#include "tuner/budget.h"
#include "tuner/candidate_search.h"
#include "tuner/finals.h"
#include "tuner/first_candidates.h"
#include "tuner/run_record.h"
#include "tuner/stopwatch.h"
#include "tuner/strategy.h"
#include "tuner/tuning_run.h"

namespace cudadent {

ProblemRecord problem_record(const Problem& problem, const Device& device) {
  return {problem.op->name, problem.tuning_key(), problem.key(), problem.describe(), device.kind()};
}

TuneResult tune(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
                const TuneOptions& options) {
  if (problem.has_no_work())
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{} computes no element: there is nothing to tune", problem.describe()));
  check_options(options);
  const Cancellation scope(options.cancelled);
  TuningRun run(context, entry, problem, options);
  run.enumerate();
  std::unique_ptr<Strategy> strategy;
  {
    const Stopwatch watch(run.result.search_seconds);
    strategy = make_strategy(options.strategy, *run.space, options.seed);
    find_first_candidates(run);
  }
  run.open_backend();
  search_candidates(run, *strategy);
  choose_winner(run);
  TuneResult& result = run.result;
  if (run.measurer) {
    result.verify_seconds = run.measurer->verify_seconds();
    result.measure_seconds = run.measurer->measure_seconds();
    result.prepare_seconds += run.measurer->recover_seconds();
    result.worker_restarts = run.measurer->restarts();
  }
  result.elapsed = seconds_since(run.start);
  run.warn_of_disturbances();
  run.remember(
      [&] { context.store.put_run(run_record(run.record, *run.backend, options, result)); });
  return std::move(result);
}

}  // namespace cudadent
