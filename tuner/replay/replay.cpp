#include "tuner/replay/replay.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>

#include "runtime/base/threads.h"
#include "tuner/strategy.h"

namespace cudadent {
namespace {

struct Run {
  std::vector<double> best;  // seconds after each evaluation; 0 before a success
  std::size_t stopped = 0;   // evaluations at which it would have stopped; 0: never
  double seconds = 0;        // spent in ask and tell
  [[nodiscard]] double fraction(std::size_t evaluation, double optimum) const {
    const double seconds_then = best[std::min(evaluation, best.size() - 1)];
    return seconds_then > 0 ? optimum / seconds_then : 0;
  }
};

Run run_once(const RecordedSpace& recorded, const std::string& name, const ReplayOptions& options,
             std::uint64_t seed) {
  using Clock = std::chrono::steady_clock;
  Run run;
  const auto begin = Clock::now();
  const auto strategy = make_strategy(name, recorded.space(), seed);
  double best = 0;
  while (run.best.size() < options.budget) {
    const std::size_t room = options.budget - run.best.size();
    const auto candidates = strategy->ask(std::min(std::max<std::size_t>(options.batch, 1), room));
    if (candidates.empty()) break;
    for (const Candidate candidate : candidates) {
      const auto seconds = recorded.seconds(candidate);
      strategy->tell({candidate, seconds});
      if (seconds && (best == 0 || *seconds < best)) best = *seconds;
      run.best.push_back(best);
    }
    if (run.stopped == 0 && strategy->converged()) run.stopped = run.best.size();
  }
  const double spent = std::chrono::duration<double>(Clock::now() - begin).count();
  run.seconds = run.best.empty() ? 0 : spent / static_cast<double>(run.best.size());
  if (run.best.empty()) run.best.push_back(0);
  return run;
}

// A task for each repeat of each strategy, done by as many threads as asked for.
std::vector<std::vector<Run>> run_all(const RecordedSpace& recorded, const ReplayOptions& options) {
  const auto repeats = static_cast<std::size_t>(std::max(options.repeats, 1));
  const std::size_t total = options.strategies.size() * repeats;
  std::vector<std::vector<Run>> runs(options.strategies.size(), std::vector<Run>(repeats));
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::size_t done = 0;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::size_t i = next++; i < total; i = next++) {
      const std::size_t strategy = i / repeats, repeat = i % repeats;
      try {
        runs[strategy][repeat] =
            run_once(recorded, options.strategies[strategy], options, options.seed + repeat);
        const std::lock_guard lock(mutex);
        ++done;
        if (options.on_progress) options.on_progress(done, total);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = total;
      }
    }
  };
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1U);
  const std::size_t threads =
      options.threads > 0 ? static_cast<std::size_t>(options.threads) : cores;
  on_threads(std::min(threads, total), work);
  if (failure) std::rethrow_exception(failure);
  return runs;
}

void add_stops(ReplayCurve& curve, const std::vector<Run>& runs, double optimum) {
  for (const Run& run : runs) {
    if (run.stopped == 0) continue;
    ++curve.stopped;
    const double then = run.fraction(run.stopped - 1, optimum);
    curve.stopped_evaluations += static_cast<double>(run.stopped);
    curve.stopped_fraction += then;
    curve.stopped_missed += run.fraction(run.best.size() - 1, optimum) - then;
  }
  if (curve.stopped == 0) return;
  for (double* sum : {&curve.stopped_evaluations, &curve.stopped_fraction, &curve.stopped_missed}) {
    *sum /= curve.stopped;
  }
}

double score_of(const std::vector<Run>& runs, const RecordedSpace& recorded,
                const std::vector<double>& baseline, std::uint64_t budget) {
  double score = 0;
  const auto evaluations = static_cast<std::size_t>(budget);
  for (std::size_t i = 0; i < evaluations; ++i) {
    double found = 0;
    for (const Run& run : runs) {
      const double best = run.best[std::min(i, run.best.size() - 1)];
      found += best > 0 ? best : recorded.sorted_seconds().back();
    }
    found /= static_cast<double>(runs.size());
    const double room = baseline[i] - recorded.optimum();
    score += room > 0 ? (baseline[i] - found) / room : 0;
  }
  return evaluations == 0 ? 0 : score / static_cast<double>(evaluations);
}

ReplayCurve curve_of(const std::string& strategy, const std::vector<Run>& runs,
                     const RecordedSpace& recorded, std::uint64_t budget) {
  ReplayCurve curve;
  curve.strategy = strategy;
  const auto count = static_cast<double>(runs.size());
  for (std::size_t i = 0; i < budget; ++i) {
    double sum = 0, squares = 0, lowest = 1, highest = 0;
    for (const Run& run : runs) {
      const double fraction = run.fraction(i, recorded.optimum());
      sum += fraction;
      squares += fraction * fraction;
      lowest = std::min(lowest, fraction);
      highest = std::max(highest, fraction);
    }
    const double mean = sum / count;
    curve.mean.push_back(mean);
    curve.deviation.push_back(std::sqrt(std::max(squares / count - mean * mean, 0.0)));
    curve.lowest.push_back(lowest);
    curve.highest.push_back(highest);
  }
  for (const Run& run : runs) curve.ask_seconds += run.seconds / count;
  add_stops(curve, runs, recorded.optimum());
  return curve;
}

// The chance that a draw without putting back has missed the best `rank` + 1 of `size` after each of
// 1 … evaluations draws, turned into an expectation of `value(rank)`; `rest` counts when all failed.
template <class OfRank>
std::vector<double> expectation(const RecordedSpace& recorded, std::uint64_t evaluations,
                                double rest, OfRank&& of_rank) {
  const auto& sorted = recorded.sorted_seconds();
  const auto size = static_cast<double>(recorded.space().size());
  std::vector<double> missed(sorted.size(), 1.0);  // none of the best rank + 1 drawn so far
  std::vector<double> result;
  for (std::uint64_t draw = 0; draw < evaluations; ++draw) {
    const double left = size - static_cast<double>(draw);
    double expected = 0, before = 1;
    for (std::size_t rank = 0; rank < sorted.size(); ++rank) {
      const double others = left - static_cast<double>(rank + 1);
      missed[rank] *= left > 0 ? std::max(others, 0.0) / left : 0;
      expected += (before - missed[rank]) * of_rank(sorted[rank]);
      before = missed[rank];
    }
    result.push_back(expected + before * rest);
  }
  return result;
}

}  // namespace

std::vector<double> expected_random(const RecordedSpace& recorded, std::uint64_t evaluations) {
  return expectation(recorded, evaluations, recorded.sorted_seconds().back(),
                     [](double seconds) { return seconds; });
}

std::uint64_t score_budget(const RecordedSpace& recorded) {
  const auto& sorted = recorded.sorted_seconds();
  const double goal = recorded.optimum() + 0.05 * (sorted[sorted.size() / 2] - recorded.optimum());
  std::uint64_t most = 64;
  while (true) {
    most = std::min<std::uint64_t>(most, recorded.space().size());
    const auto expected = expected_random(recorded, most);
    const auto reached = std::find_if(expected.begin(), expected.end(),
                                      [&](double seconds) { return seconds <= goal; });
    if (reached != expected.end()) {
      return static_cast<std::uint64_t>(reached - expected.begin()) + 1;
    }
    if (most == recorded.space().size()) return most;
    most *= 2;
  }
}

SpaceReplay replay(const RecordedSpace& recorded, const ReplayOptions& options) {
  for (const auto& name : options.strategies) {
    static_cast<void>(make_strategy(name, SearchSpace({}), 0));
  }
  const auto runs = run_all(recorded, options);
  SpaceReplay result;
  const auto& sorted = recorded.sorted_seconds();
  result.space = recorded.name();
  result.configurations = recorded.space().size();
  result.failures = result.configurations - sorted.size();
  result.optimum = recorded.optimum();
  result.median = sorted[sorted.size() / 2];
  result.score_budget = score_budget(recorded);
  result.baseline = expectation(recorded, options.budget, 0,
                                [&](double seconds) { return recorded.optimum() / seconds; });
  const auto scored = std::min(result.score_budget, options.budget);
  const auto expected = expected_random(recorded, scored);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    auto& curve = result.curves.emplace_back(
        curve_of(options.strategies[i], runs[i], recorded, options.budget));
    curve.score = score_of(runs[i], recorded, expected, scored);
  }
  return result;
}

std::vector<ReplayCurve> averaged(const std::vector<SpaceReplay>& replays) {
  std::vector<ReplayCurve> result;
  if (replays.empty()) return result;
  const auto spaces = static_cast<double>(replays.size());
  for (std::size_t i = 0; i < replays[0].curves.size(); ++i) {
    ReplayCurve average = replays[0].curves[i];
    for (std::size_t at = 0; at < average.mean.size(); ++at) {
      double mean = 0, deviation = 0, lowest = 0, highest = 0;
      for (const SpaceReplay& each : replays) {
        mean += each.curves[i].mean[at] / spaces;
        deviation += each.curves[i].deviation[at] / spaces;
        lowest += each.curves[i].lowest[at] / spaces;
        highest += each.curves[i].highest[at] / spaces;
      }
      average.mean[at] = mean;
      average.deviation[at] = deviation;
      average.lowest[at] = lowest;
      average.highest[at] = highest;
    }
    average.score = average.stopped_evaluations = average.stopped_fraction = 0;
    average.stopped_missed = average.ask_seconds = 0;
    average.stopped = 0;
    for (const SpaceReplay& each : replays) {
      const ReplayCurve& curve = each.curves[i];
      average.score += curve.score / spaces;
      average.ask_seconds += curve.ask_seconds / spaces;
      average.stopped += curve.stopped;
      average.stopped_evaluations += curve.stopped * curve.stopped_evaluations;
      average.stopped_fraction += curve.stopped * curve.stopped_fraction;
      average.stopped_missed += curve.stopped * curve.stopped_missed;
    }
    for (double* sum :
         {&average.stopped_evaluations, &average.stopped_fraction, &average.stopped_missed}) {
      if (average.stopped > 0) *sum /= average.stopped;
    }
    result.push_back(std::move(average));
  }
  return result;
}

}  // namespace cudadent
