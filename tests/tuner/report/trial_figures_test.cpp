// What trials say, as numbers to draw.
#include "tuner/report/trial_figures.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace cudadent {
namespace {

TrialRecord trial(double seconds, Values configuration = {}, TrialStatus status = TrialStatus::ok) {
  TrialRecord record;
  record.compiler = "c++ 12";
  record.measurement = "clock 1";
  record.template_hash = "new";
  record.trial.kernel_template = "host";
  record.trial.configuration = std::move(configuration);
  record.trial.status = status;
  record.trial.median = status == TrialStatus::ok ? seconds : 0;
  return record;
}

TrialRecord failed(Values configuration = {}) {
  return trial(0, std::move(configuration), TrialStatus::compile_error);
}

Values with(std::int64_t tile, bool pack = false) { return {{"TILE", tile}, {"PACK", pack}}; }

TEST_CASE("a histogram's bins are equally wide in the logarithm and hold everything") {
  const auto bins = logarithmic_histogram({1e-6, 1.5e-6, 1e-5, 1e-4}, 2);
  REQUIRE(bins.size() == 2);
  CHECK(bins[0].low == doctest::Approx(1e-6));
  CHECK(bins[0].high == doctest::Approx(1e-5));
  CHECK(bins[1].high == doctest::Approx(1e-4));
  CHECK(bins[0].count + bins[1].count == 4);
  CHECK(bins[0].count >= 2);
  CHECK(bins[1].count >= 1);  // the slowest belongs to the last bin
}

TEST_CASE("a histogram of little or of nonsense") {
  CHECK(logarithmic_histogram({}, 10).empty());
  CHECK(logarithmic_histogram({1.0}, 0).empty());
  const double infinite = std::numeric_limits<double>::infinity();
  CHECK(logarithmic_histogram({0, -1, infinite, std::nan("")}, 10).empty());
  const auto one = logarithmic_histogram({2e-6, 2e-6, 0}, 10);
  REQUIRE(one.size() == 1);
  CHECK(one[0].count == 2);
  CHECK(one[0].low == 2e-6);
}

TEST_CASE("the best so far falls at improvements, and failures take their turns") {
  const auto curve = best_so_far({failed(), trial(5), failed(), trial(7), trial(3), trial(4)});
  REQUIRE(curve.size() == 3);
  CHECK(curve[0].evaluation == 2);
  CHECK(curve[0].seconds == 5);
  CHECK(curve[1].evaluation == 5);
  CHECK(curve[1].seconds == 3);
  CHECK(curve[2].evaluation == 6);  // so that the line reaches the last trial
  CHECK(curve[2].seconds == 3);
  CHECK(best_so_far({failed(), failed()}).empty());
  CHECK(best_so_far({}).empty());
}

TEST_CASE("statuses are counted by name") {
  const auto counts = count_by_status({trial(1), failed(), failed()});
  CHECK(counts.size() == 2);
  CHECK(counts.at("ok") == 1);
  CHECK(counts.at("compile_error") == 2);
}

TEST_CASE("a parameter that decides the time explains it, one that does nothing does not") {
  std::vector<TrialRecord> trials;
  for (int repeat = 0; repeat < 10; ++repeat)
    for (const std::int64_t tile : {1, 2, 4})
      for (const bool pack : {false, true})
        trials.push_back(trial(8.0 / static_cast<double>(tile) + 0.01 * repeat, with(tile, pack)));
  const auto effects = parameter_effects(trials);
  REQUIRE(effects.size() == 1);
  CHECK(effects[0].kernel_template == "host");
  CHECK(effects[0].best == 2);
  REQUIRE(effects[0].parameters.size() == 2);
  CHECK(effects[0].parameters[0].name == "TILE");
  CHECK(effects[0].parameters[0].importance > 0.99);
  CHECK(effects[0].parameters[1].name == "PACK");
  CHECK(effects[0].parameters[1].importance < 0.01);
  const auto& values = effects[0].parameters[0].values;
  REQUIRE(values.size() == 3);
  CHECK(values[0].value == Value(std::int64_t{1}));
  CHECK(values[2].value == Value(std::int64_t{4}));
  CHECK(values[2].performance.size() == 20);
  CHECK(values[2].performance.back() == 1);                      // the best of all
  CHECK(values[0].performance.back() == doctest::Approx(0.25));  // takes four times as long
  CHECK(values[0].performance.front() <= values[0].performance.back());
}

TEST_CASE("noise is not importance, however many values a parameter has") {
  std::vector<TrialRecord> trials;
  for (std::int64_t i = 0; i < 40; ++i)
    trials.push_back(trial(1 + 0.5 * std::fmod(static_cast<double>(i) * 0.618, 1.0),
                           {{"TILE", i % 20}, {"PACK", i % 2 == 0}}));
  const auto effects = parameter_effects(trials);
  for (const auto& parameter : effects[0].parameters) CHECK(parameter.importance < 0.5);
}

TEST_CASE("failures count for their value, and templates are told apart") {
  std::vector<TrialRecord> trials{trial(4, with(1)), failed(with(2)), failed(with(2)),
                                  trial(2, with(4))};
  TrialRecord other = trial(1, {{"WIDTH", std::string("wide")}});
  other.trial.kernel_template = "quick";
  trials.push_back(other);
  TrialRecord hopeless = failed({{"WIDTH", std::string("wide")}});
  hopeless.trial.kernel_template = "never";
  trials.push_back(hopeless);
  const auto effects = parameter_effects(trials);
  REQUIRE(effects.size() == 3);
  CHECK(effects[0].kernel_template == "quick");  // the fastest first
  CHECK(effects[0].parameters.empty());          // it had no choice
  CHECK(effects[1].kernel_template == "host");
  CHECK(effects[1].failed == 2);
  CHECK(effects[2].kernel_template == "never");
  CHECK(effects[2].best == 0);
  const auto& tile = effects[1].parameters[0];
  CHECK(tile.name == "TILE");
  REQUIRE(tile.values.size() == 3);
  CHECK(tile.values[1].failed == 2);
  CHECK(tile.values[1].performance.empty());
}

TEST_CASE("trials of earlier templates, compilers and methods are not compared") {
  std::vector<TrialRecord> trials(5, trial(1));
  trials[0].template_hash = "old";
  trials[1].compiler = "c++ 11";
  trials[2].measurement = "clock 0";
  trials[3].trial.kernel_template = "other";
  trials[3].template_hash = "of the other";
  const auto kept = comparable_trials(trials);
  REQUIRE(kept.size() == 2);
  CHECK(kept[0].template_hash == "of the other");
  CHECK(kept[1].template_hash == "new");
  CHECK(comparable_trials({}).empty());
}

TEST_CASE("points are thinned evenly, the ends stay") {
  CHECK(evenly_spaced(3, 5) == std::vector<std::size_t>{0, 1, 2});
  CHECK(evenly_spaced(101, 3) == std::vector<std::size_t>{0, 50, 100});
  CHECK(evenly_spaced(0, 3).empty());
}

}  // namespace
}  // namespace cudadent
