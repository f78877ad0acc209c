// Strategies compared on recorded spaces: how close to the optimum, after how many evaluations.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tuner/replay/recorded_space.h"

namespace cudadent {

struct ReplayOptions {
  std::vector<std::string> strategies;
  std::uint64_t budget = 200;  // evaluations of a run; failures count
  int repeats = 50;            // repeat i runs with seed + i
  std::uint64_t seed = 0;
  std::size_t batch = 1;  // asked for at once
  int threads = 0;        // 0: one a core
  // Called from any thread, one at a time, after each run.
  std::function<void(std::size_t done, std::size_t total)> on_progress;
};

// What one strategy did on one space. Element i of a list is after i + 1 evaluations; a run that ended
// earlier (the space was exhausted) stays at its last value.
struct ReplayCurve {
  std::string strategy;
  std::vector<double> mean;  // over the repeats, of optimum ÷ fastest so far; 0 before a success
  std::vector<double> deviation;        // standard, of the same
  std::vector<double> lowest, highest;  // the worst and the best repeat
  // The methodology's score, averaged over the evaluations up to the space's score budget: 0 is what
  // random search expects, 1 the optimum at once.
  double score = 0;
  // When converged() first said so, within the budget.
  int stopped = 0;                 // repeats in which it did
  double stopped_evaluations = 0;  // mean of those; 0 when none
  double stopped_fraction = 0;     // mean fraction of the optimum then
  double stopped_missed = 0;       // mean of fraction at the end of the budget − fraction then
  double ask_seconds = 0;          // mean time an asked candidate took to choose, tells included
};

struct SpaceReplay {
  std::string space;
  std::uint64_t configurations = 0;
  std::uint64_t failures = 0;       // of the configurations
  double optimum = 0, median = 0;   // seconds, of the successes
  std::uint64_t score_budget = 0;   // see score_budget()
  std::vector<double> baseline;     // random search's expected fraction of the optimum, analytic
  std::vector<ReplayCurve> curves;  // in the order of the strategies
};

// Runs every strategy `repeats` times. Throws Error(invalid_argument) for an unknown strategy.
SpaceReplay replay(const RecordedSpace& recorded, const ReplayOptions& options);

// Over several spaces, evaluation by evaluation: curves only.
std::vector<ReplayCurve> averaged(const std::vector<SpaceReplay>& replays);

// The fastest time random search is expected to have found after 1 … `evaluations` draws without
// putting back, in seconds; before a success it counts as the slowest time.
std::vector<double> expected_random(const RecordedSpace& recorded, std::uint64_t evaluations);
// Evaluations in which random search is expected to come within optimum + 5 % of (median − optimum).
std::uint64_t score_budget(const RecordedSpace& recorded);

}  // namespace cudadent
