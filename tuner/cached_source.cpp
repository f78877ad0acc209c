#include "tuner/cached_source.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "cache/claim.h"
#include "runtime/operators/specialization.h"
#include "tuner/judge.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

constexpr auto claim_poll = std::chrono::milliseconds(50);

[[noreturn]] void throw_cancelled(const std::string& problem, std::string_view meanwhile) {
  throw Error(ErrorCode::cancelled, fmt::format("{}: cancelled while {}", problem, meanwhile));
}

}  // namespace

std::string why_outdated(const OperatorEntry& entry, const Problem& problem,
                         const WinnerRecord& winner, const Device& device) {
  const auto kernel = entry.template_named(winner.kernel_template);
  if (kernel == nullptr) return fmt::format("there is no template {}", winner.kernel_template);
  if (kernel->hash != winner.template_hash)
    return fmt::format("template {} has changed since it was tuned", winner.kernel_template);
  if (const auto unfit = why_unfit(*kernel, problem, device); !unfit.empty())
    return fmt::format("{} requires {}", kernel->name, unfit);
  return why_invalid(*kernel, problem, winner.configuration, device);
}

std::optional<Choice> CachedSource::usable(const OperatorEntry& entry, const Problem& problem,
                                           const WinnerRecord& winner,
                                           Provenance provenance) const {
  if (!why_outdated(entry, problem, winner, context_.backend.device()).empty()) return std::nullopt;
  return Choice{entry.template_named(winner.kernel_template), winner.configuration, winner.seconds,
                provenance};
}

std::optional<Choice> CachedSource::known(const OperatorEntry& entry, const Problem& problem) {
  const auto record = problem_record(problem, context_.backend.device());
  std::optional<Choice> choice;
  context_.store.winner(
      record.op, record.tuning_key, record.device_kind, [&](const WinnerRecord& winner) {
        choice = usable(entry, problem, winner,
                        winner.shipped ? Provenance::shipped : Provenance::cached);
        return choice.has_value();
      });
  return choice;
}

Turns::Turn CachedSource::turn_of_key(const ProblemRecord& problem, const TuneOptions& options) {
  auto turn = keys_.take(problem.op + " " + problem.tuning_key, options.cancelled);
  if (!turn) throw_cancelled(problem.description, "another thread was tuning it");
  return std::move(*turn);
}

TuneResult CachedSource::run(const OperatorEntry& entry, const Problem& problem,
                             const TuneOptions& options) {
  const auto turn = runs_.take("the device", options.cancelled);
  if (!turn) throw_cancelled(problem.describe(), "another problem was being tuned");
  // The child of a callback that forks must not go on with the run: worker and threads are its parent's, and what
  // it would store as measured is not.
  TuneOptions watched = options;
  const auto check_process = [forks = fork_count()] {
    if (forks != fork_count())
      fail_in_child("go on with a tuning run", "The parent goes on with it.");
  };
  watched.on_progress = [&](const TuneProgress& progress) {
    if (options.on_progress) options.on_progress(progress);
    check_process();
  };
  watched.cancelled = [&] {
    const bool cancelled = options.cancelled && options.cancelled();
    check_process();
    return cancelled;
  };
  return cudadent::tune(context_, entry, problem, watched);
}

TuneResult CachedSource::tune(const OperatorEntry& entry, const Problem& problem,
                              const TuneOptions& options) {
  const auto turn = turn_of_key(problem_record(problem, context_.backend.device()), options);
  return run(entry, problem, options);
}

Choice CachedSource::choice_by_tuning(const OperatorEntry& entry, const Problem& problem,
                                      const TuneOptions& options) {
  const TuneResult result = run(entry, problem, options);
  return Choice{entry.template_named(result.winner.kernel_template), result.winner.configuration,
                result.winner.seconds, Provenance::tuned};
}

bool CachedSource::does_for(const Choice& choice, const Problem& problem) const {
  const Device& device = context_.backend.device();
  return why_unfit(*choice.kernel_template, problem, device).empty() &&
         why_invalid(*choice.kernel_template, problem, choice.configuration, device).empty();
}

std::optional<Choice> CachedSource::tuned(const OperatorEntry& entry, const Problem& problem,
                                          const TuneOptions& options) {
  const auto record = problem_record(problem, context_.backend.device());
  const auto turn = turn_of_key(record, options);
  if (turn.nested()) return std::nullopt;
  const auto start = std::chrono::steady_clock::now();
  while (true) {
    if (const auto claim = context_.store.claim(record)) {
      // Somebody may have finished since we looked.
      if (auto choice = known(entry, problem)) return choice;
      // For the whole key, unless its winner does not do for this problem: that is then tuned by itself.
      const Problem representative = problem.representative();
      if (!known(entry, representative)) {
        Choice choice = choice_by_tuning(entry, representative, options);
        if (does_for(choice, problem)) return choice;
      }
      return choice_by_tuning(entry, problem, options);
    }
    if (seconds_since(start) >= policy_.wait_for_others) return std::nullopt;
    if (options.cancelled && options.cancelled())
      throw_cancelled(record.description, "another process was tuning it");
    std::this_thread::sleep_for(claim_poll);
    if (auto choice = known(entry, problem)) return choice;
  }
}

Choice CachedSource::fallback(const OperatorEntry& entry, const Problem& problem) {
  const Device& device = context_.backend.device();
  const SearchSpace space = search_space(entry, problem, device, {}, [&](const auto& reasons) {
    if (context_.log) context_.log(LogLevel::warning, only_reference_warning(problem, reasons));
  });
  const auto ranking = judged(space, entry, problem, device, context_.store);
  if (ranking.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: no valid configuration on {}", problem.describe(), device.name));
  const Judged& best = ranking.front();
  const double predicted = std::isfinite(best.predicted_seconds) ? best.predicted_seconds : 0;
  return Choice{space.member_of(best.candidate).kernel_template,
                space.configuration(best.candidate), best.seconds, best.provenance, predicted};
}

Choice CachedSource::choose(const OperatorEntry& entry, const Problem& problem) {
  if (auto choice = known(entry, problem)) return *choice;
  switch (policy_.on_miss) {
    case OnMiss::tune:
      if (auto choice = tuned(entry, problem, policy_.tuning)) return *choice;
      if (context_.log)
        context_.log(
            LogLevel::warning,
            fmt::format("{}: others are tuning this (another process for over {} s, or this very "
                        "thread); going on with what is known of similar problems",
                        problem.describe(), policy_.wait_for_others));
      return fallback(entry, problem);
    case OnMiss::background:
      if (policy_.tune_aside) policy_.tune_aside(entry, problem);
      return fallback(entry, problem);
    case OnMiss::nearest:
      return fallback(entry, problem);
    case OnMiss::fail:
      break;
  }
  throw Error(ErrorCode::not_tuned,
              fmt::format("{} has no winner in {}, and the miss policy is to fail. Tune it: "
                          "cudadent-tune tune {}",
                          problem.describe(), context_.store.file().string(), problem.describe()));
}

}  // namespace cudadent
