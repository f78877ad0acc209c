#include "tuner/tuner.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "runtime/base/cancellation.h"
#include "tuner/budget.h"
#include "tuner/candidate_search.h"
#include "tuner/finals.h"
#include "tuner/run_record.h"
#include "tuner/stopwatch.h"
#include "tuner/strategies/own_strategy.h"

namespace cudadent {

namespace {

// What the search and the final race find out; nothing where there was no race, and the trials have to do.
std::optional<Outcome> measure(const TuningTask& task, const RunSpace& space, Workshop& workshop,
                               Strategy& strategy, TrialLog& log, TuneResult& result) {
  SearchLimits limits(task, space, log, strategy, result);
  // The first candidates are compiled while the problem is laid out.
  auto queue =
      std::make_unique<CandidateQueue>(task, space, workshop, log, limits, strategy, result);
  Laboratory laboratory(task, workshop, result);
  result.stopped_by =
      search_candidates(task, space, laboratory, std::move(queue), limits, log, result);
  std::optional<Outcome> outcome;
  if (task.is_for_time() && log.best_candidate()) {
    outcome = race_finalists(task, space, laboratory, log);
    if (!outcome && !task.cancelled())
      task.log(LogLevel::warning,
               fmt::format("{}: the device failed before the best candidates could be compared; "
                           "the winner is the one with the lowest median so far",
                           task.record.description));
  }
  result.worker_restarts = laboratory.measurer().restarts();
  return outcome;
}

std::unique_ptr<Strategy> strategy_of(const TuneOptions& options, const SearchSpace& space,
                                      TuneSeconds& seconds) {
  const Stopwatch watch(seconds.search_seconds);
  return options.make_strategy ? make_own_strategy(options, space)
                               : make_strategy(options.strategy, space, options.seed);
}

Outcome outcome_of(const TuningTask& task, const RunSpace& space, Workshop& workshop,
                   Strategy& strategy, TrialLog& log, TuneResult& result) {
  std::optional<Outcome> outcome;
  try {
    outcome = measure(task, space, workshop, strategy, log, result);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) throw;
    result.stopped_by = "cancelled";
  }
  if (task.cancelled()) {
    result.stopped_by = "cancelled";
    if (!task.context.cancelled_runs_have_winners) throw_cancelled(task, log);
  }
  return outcome ? *outcome : best_of_trials(task, space, log, result.stopped_by);
}

}  // namespace

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
  const TuningTask task(context, entry, problem, options);
  TuneResult result;
  result.problem = task.record.description;
  result.flops = problem.flops();
  result.bytes = problem.bytes();

  const RunSpace space = run_space(task, result);
  result.candidates = space.space.size();
  const auto strategy = strategy_of(options, space.space, result);
  Forgiving remember(context.log);
  Workshop workshop(task, remember, result);
  result.isolated = workshop.isolated();
  TrialLog log(task, space, workshop, remember);
  const Outcome outcome = outcome_of(task, space, workshop, *strategy, log, result);
  store_winner(task, space, outcome, workshop, remember);

  result.winner = {space.kernel_template(outcome.candidate).name,
                   space.space.configuration(outcome.candidate), outcome.seconds,
                   Provenance::tuned};
  result.default_seconds = outcome.default_seconds;
  result.elapsed = seconds_since(task.start);
  log.warn_of_disturbances();
  result.trials = log.take_trials();
  remember(
      [&] { context.store.put_run(run_record(task.record, workshop.backend(), options, result)); });
  return result;
}

}  // namespace cudadent
