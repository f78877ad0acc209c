#include "tuner/background_tuner.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/errors.h"
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

TEST_CASE("what the machine failed to do is tried again when the problem is met again") {
  Tuning tuning;
  Tuned tuned;
  std::atomic<int> runs{0};
  BackgroundTuner tuner(
      [&](const OperatorEntry&, const Problem&, const auto&) {
        if (++runs == 1) throw Error(ErrorCode::machine_failed, "no space left");
        throw Error(ErrorCode::unsupported, "never");
      },
      tuned.failed());
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem(100));
  tuner.submit(*entry, problem);
  REQUIRE(tuned.wait_for(1));
  for (int i = 0; i < 5000 && runs < 2; ++i) {
    tuner.submit(*entry, problem);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  REQUIRE(tuned.wait_for(2));
  for (int i = 0; i < 20; ++i) tuner.submit(*entry, problem);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(runs == 2);
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

TEST_CASE("in the child of a fork problems are tuned by a thread of its own") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const auto problem = make_problem(entry->manifest, twice_problem());
  Tuned tuned;
  std::atomic<bool> begun{false};
  auto tuner = std::make_unique<BackgroundTuner>(
      [&](const OperatorEntry&, const Problem& which, const std::function<bool()>& cancelled) {
        begun = true;
        while (which.values.at("n") == Value(std::int64_t{7}) && !cancelled())
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const std::lock_guard lock(tuned.mutex);
        tuned.problems.push_back(which.describe());
      },
      tuned.failed());
  tuner->submit(*entry, make_problem(entry->manifest, twice_problem(7)));  // keeps it busy
  tuner->submit(*entry, problem);  // waits behind it, for the parent's thread
  while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(wait_for(start_child([&] {
          tuner->submit(*entry, problem);
          const bool well = tuned.wait_for(1) && tuned.problems.size() == 1;
          tuner.reset();
          return well;
        })) == 0);
  CHECK(wait_for(start_child([&] {
          tuner.reset();  // of the parent's thread it waits for nothing
          return true;
        })) == 0);
}

TEST_CASE("where there is no thread left a problem fails, and may be tried again") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const auto problem = make_problem(entry->manifest, twice_problem());
  CHECK(wait_for(start_child([&] {
          if (!limit_threads(0)) return false;
          Tuned tuned;
          BackgroundTuner tuner([](const auto&, const auto&, const auto&) {}, tuned.failed());
          tuner.submit(*entry, problem);
          tuner.submit(*entry, problem);
          return tuned.failures.size() == 2 &&
                 mentions(tuned.failures[0], {"twice n=100", "thread"});
        })) == 0);
}

}  // namespace
}  // namespace cudadent
