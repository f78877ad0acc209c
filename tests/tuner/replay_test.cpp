#include "tuner/replay/replay.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "tests/support/errors.h"
#include "tuner/replay/recordings.h"

namespace {

using namespace cudadent;
using namespace cudadent::tests;

// 8 · 6 configurations, one valley, every seventh fails.
RecordedSpace valley() {
  std::vector<RecordedConfiguration> records;
  for (std::int64_t a = 0; a < 8; ++a) {
    for (std::int64_t b = 0; b < 6; ++b) {
      const auto x = static_cast<double>(a - 5), y = static_cast<double>(b - 1);
      std::optional<double> seconds;
      if (records.size() % 7 != 3) seconds = 1e-3 * (1 + 0.1 * (x * x + y * y));
      records.push_back({"", {{"A", std::int64_t{1} << a}, {"B", b}}, seconds});
    }
  }
  return {"valley", records};
}

// Draws one of every 3-subset of a space of 5 and takes the mean of the fastest.
TEST_CASE("the expectation of random search is what enumerating every draw gives") {
  const std::vector<double> seconds{1, 2, 4, 8};  // and one failure
  std::vector<RecordedConfiguration> records;
  for (std::int64_t i = 0; i < 5; ++i) {
    std::optional<double> time;
    if (i < 4) time = seconds[static_cast<std::size_t>(i)];
    records.push_back({"", {{"A", i}}, time});
  }
  const RecordedSpace recorded("five", records);
  const auto expected = expected_random(recorded, 5);
  CHECK(expected[0] == doctest::Approx((1 + 2 + 4 + 8 + 8) / 5.0));
  double sum = 0;
  for (unsigned subset = 0; subset < 32; ++subset) {
    if (__builtin_popcount(subset) != 3) continue;
    for (std::size_t i = 0; i < 4; ++i) {
      if ((subset >> i & 1U) == 0) continue;
      sum += seconds[i];
      break;
    }
  }
  CHECK(expected[2] == doctest::Approx(sum / 10));
  CHECK(expected[4] == 1);
  // The median counts upwards from the middle: 4. Within 1 + 0.05 · 3 only after all five.
  CHECK(score_budget(recorded) == 5);
}

TEST_CASE("a replay reports fractions of the optimum that rise to one") {
  ReplayOptions options;
  options.strategies = {"exhaustive", "random"};
  options.budget = 60;
  options.repeats = 40;
  options.threads = 2;
  std::size_t last = 0;
  options.on_progress = [&](std::size_t done, std::size_t total) {
    CHECK(total == 80);
    CHECK(done == last + 1);
    last = done;
  };
  const RecordedSpace recorded = valley();
  const SpaceReplay result = replay(recorded, options);
  CHECK(last == 80);
  CHECK(result.configurations == 48);
  CHECK(result.failures == 7);
  REQUIRE(result.curves.size() == 2);
  for (const ReplayCurve& curve : result.curves) {
    REQUIRE(curve.mean.size() == 60);
    for (std::size_t i = 1; i < 60; ++i) CHECK(curve.mean[i] >= curve.mean[i - 1]);
    CHECK(curve.mean[47] == doctest::Approx(1));
    CHECK(curve.lowest[20] <= curve.mean[20] + 1e-12);
    CHECK(curve.mean[20] <= curve.highest[20] + 1e-12);
    CHECK(curve.stopped == 0);
  }
  CHECK(result.curves[0].deviation[10] == doctest::Approx(0));  // exhaustive: every run the same
  const ReplayCurve& random = result.curves[1];
  CHECK(random.mean[9] == doctest::Approx(result.baseline[9]).epsilon(0.05));
  CHECK(std::fabs(random.score) < 0.25);
}

TEST_CASE("a replay is the same again, on however many threads; means over spaces are means") {
  ReplayOptions options;
  options.strategies = {"auto"};
  options.budget = 20;
  options.repeats = 4;
  options.threads = 1;
  const RecordedSpace recorded = valley();
  const SpaceReplay one = replay(recorded, options);
  options.threads = 4;
  const SpaceReplay other = replay(recorded, options);
  CHECK(one.curves[0].mean == other.curves[0].mean);
  const auto average = averaged({one, other});
  REQUIRE(average.size() == 1);
  CHECK(average[0].mean[10] == doctest::Approx(one.curves[0].mean[10]));
  options.strategies = {"magic"};
  const auto error = error_of([&] { static_cast<void>(replay(recorded, options)); });
  REQUIRE(error);
  CHECK(mentions(error->what(), {"magic", "auto"}));
}

// Published recordings, where there are some: auto is no worse than the others on any, but for noise.
TEST_CASE("auto leads on recorded spaces") {
  const char* folder = std::getenv("CUDADENT_DATA");
  const auto file = std::filesystem::path(folder != nullptr ? folder : "") / "recorded_spaces" /
                    "pnpoly_RTX3090.t4.json.gz";
  if (folder == nullptr || !std::filesystem::exists(file)) {
    MESSAGE("skipped: CUDADENT_DATA names no folder with recorded_spaces/");
    return;
  }
  ReplayOptions options;
  options.strategies = {"auto", "random", "iterated_local_search"};
  options.budget = 60;
  options.repeats = 6;
  const SpaceReplay result = replay(read_recorded_space(file), options);
  CHECK(result.curves[0].mean[49] > 0.95);
  CHECK(result.curves[0].mean[49] > result.curves[1].mean[49]);
  CHECK(result.curves[0].mean[49] > result.curves[2].mean[49]);
}

}  // namespace
