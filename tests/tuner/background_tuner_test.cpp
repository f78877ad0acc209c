#include "tuner/background_tuner.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

// What was tuned, in order; wait_for() waits at most some seconds for so many.
struct Tuned {
  std::mutex mutex;
  std::vector<std::string> problems, failures;

  [[nodiscard]] BackgroundTuner::Failed failed() {
    return [this](const Problem& problem, const std::exception& error) {
      const std::lock_guard lock(mutex);
      failures.push_back(problem.describe() + ": " + error.what());
    };
  }
  bool wait_for(std::size_t count) {
    for (int i = 0; i < 5000; ++i) {
      {
        const std::lock_guard lock(mutex);
        if (problems.size() + failures.size() >= count) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
};

TEST_CASE("problems are tuned in order, each tuning key once") {
  Tuning tuning;
  Tuned tuned;
  BackgroundTuner tuner(
      [&](const OperatorEntry&, const Problem& problem, const auto&) {
        const std::lock_guard lock(tuned.mutex);
        tuned.problems.push_back(problem.describe());
      },
      tuned.failed());
  const auto entry = tuning.entry();
  for (const std::int64_t n : {100, 1000, 101})
    tuner.submit(*entry, make_problem(entry->manifest, twice_problem(n)));
  REQUIRE(tuned.wait_for(2));
  CHECK(tuned.problems ==
        std::vector<std::string>{"twice n=100 dtype=f32", "twice n=1000 dtype=f32"});
}

TEST_CASE("a run that fails is reported, and the next one goes on") {
  Tuning tuning;
  Tuned tuned;
  BackgroundTuner tuner(
      [&](const OperatorEntry&, const Problem& problem, const auto&) {
        if (problem.describe() == "twice n=100 dtype=f32") throw Error(ErrorCode::internal, "no");
        const std::lock_guard lock(tuned.mutex);
        tuned.problems.push_back(problem.describe());
      },
      tuned.failed());
  const auto entry = tuning.entry();
  for (const std::int64_t n : {100, 1000})
    tuner.submit(*entry, make_problem(entry->manifest, twice_problem(n)));
  REQUIRE(tuned.wait_for(2));
  CHECK(tuned.failures == std::vector<std::string>{"twice n=100 dtype=f32: no"});
  CHECK(tuned.problems.size() == 1);
}

TEST_CASE("the end cancels what is under way and drops the rest") {
  Tuning tuning;
  std::atomic<int> begun{0}, cancelled_runs{0};
  {
    BackgroundTuner tuner(
        [&](const OperatorEntry&, const Problem&, const std::function<bool()>& cancelled) {
          ++begun;
          while (!cancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          ++cancelled_runs;
        },
        [](const Problem&, const std::exception&) {});
    const auto entry = tuning.entry();
    for (const std::int64_t n : {100, 1000})
      tuner.submit(*entry, make_problem(entry->manifest, twice_problem(n)));
    while (begun == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(begun == 1);
  CHECK(cancelled_runs == 1);
}

}  // namespace
}  // namespace cudadent
