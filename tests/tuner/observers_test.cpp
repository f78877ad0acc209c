// Observers: the figures they add, where these are kept, what they can decide, and what comes of bad ones.
#include "tuner/observers.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <stdexcept>

#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

class Scripted : public Observer {
 public:
  explicit Scripted(std::function<Figures(const Measurement&)> after) : after_(std::move(after)) {}

  std::vector<std::string> calls;

  [[nodiscard]] std::string name() const override { return "scripted"; }
  void before(const Measurement& measurement) override {
    CHECK(measurement.trial.samples.empty());
    calls.emplace_back("before");
  }
  void during(const Measurement& measurement) override {
    CHECK_FALSE(measurement.trial.samples.empty());
    calls.emplace_back("during");
  }
  Figures after(const Measurement& measurement) override {
    calls.emplace_back("after");
    return after_(measurement);
  }

 private:
  std::function<Figures(const Measurement&)> after_;
};

std::string kind_of(const Values& configuration) {
  return std::get<std::string>(configuration.at("KIND"));
}

TuneOptions observed(std::function<Figures(const Measurement&)> after) {
  TuneOptions options;
  options.observers = {std::make_shared<Scripted>(std::move(after))};
  return options;
}

TEST_CASE("an observer is called around each measurement, and its figures are in trial and store") {
  Tuning tuning;
  auto observer = std::make_shared<Scripted>([](const Measurement& measurement) {
    CHECK(measurement.problem == "twice n=100 dtype=f32");
    CHECK(measurement.binary_bytes > 0);
    return Figures{{"runs", static_cast<double>(measurement.trial.samples.size())}};
  });
  TuneOptions options;
  options.observers = {observer, make_observer("binary")};
  const TuneResult result = tuning.tune(options);
  int worked = 0;
  for (const auto& trial : result.trials) {
    const bool ok = trial.status == TrialStatus::ok;
    worked += ok ? 1 : 0;
    CHECK(trial.figures.contains("runs") == ok);
    if (!ok) continue;
    CHECK(trial.figures.at("runs") == static_cast<double>(trial.samples.size()));
    CHECK(trial.figures.at("binary_bytes") > 0);
  }
  CHECK(worked == 2);
  REQUIRE(observer->calls.size() >= 6);
  CHECK(observer->calls[0] == "before");
  CHECK(observer->calls[1] == "during");
  CHECK(std::count(observer->calls.begin(), observer->calls.end(), "after") == 2);

  const auto problem = problem_record(tuning.problem(), tuning.backend.device());
  for (const auto& record :
       tuning.store.trials(problem.op, problem.problem_key, problem.device_kind))
    CHECK(record.trial.figures.contains("runs") == (record.trial.status == TrialStatus::ok));
}

TEST_CASE("the winner has least of the objective, not of time") {
  Tuning tuning;
  // The fast one is given the larger figure.
  const auto figure = [](const Measurement& measurement) {
    return Figures{{"watts", kind_of(measurement.trial.configuration) == "fast" ? 300.0 : 200.0}};
  };
  TuneOptions options = observed(figure);
  options.objective = "watts";
  std::vector<double> best;
  options.on_progress = [&](const TuneProgress& progress) { best.push_back(progress.best); };
  const TuneResult result = tuning.tune(options);
  CHECK(kind_of(result.winner.configuration) == "slow");
  CHECK(result.winner.seconds == doctest::Approx(100e-6));
  CHECK(best.back() == 200);
  REQUIRE(tuning.store.winners().size() == 1);
  CHECK(tuning.store.winners().front().objective == "watts");
  CHECK(tuning.store.runs().front().objective == "watts");
  // The same trials, and the time again.
  CHECK(kind_of(tuning.tune().winner.configuration) == "fast");
}

TEST_CASE("trials that lack the objective are measured anew, others are not") {
  Tuning tuning;
  tuning.tune();
  TuneOptions options = observed([](const Measurement&) { return Figures{{"watts", 1.0}}; });
  options.objective = "watts";
  const auto recalled = [&] {
    const TuneResult result = tuning.tune(options);
    return std::count_if(result.trials.begin(), result.trials.end(),
                         [](const Trial& trial) { return trial.from_cache; });
  };
  CHECK(recalled() == 5);  // those that failed
  CHECK(recalled() == 7);
}

TEST_CASE("an objective that is not there, or is no amount, is an error that says so") {
  Tuning tuning;
  TuneOptions options = observed([](const Measurement&) { return Figures{{"watts", -1.0}}; });
  options.objective = "joules";
  CHECK(fails(ErrorCode::invalid_argument, {"objective 'joules'", "KIND=", "seconds", "watts"},
              [&] { tuning.tune(options); }));
  options.objective = "watts";
  CHECK(fails(ErrorCode::invalid_argument, {"objective 'watts' is -1", "above 0"},
              [&] { tuning.tune(options); }));
  options.objective = "";
  CHECK(fails(ErrorCode::invalid_argument, {"objective is empty"}, [&] { tuning.tune(options); }));
}

TEST_CASE("what an observer throws comes out of the run, when the trial is stored") {
  Tuning tuning;
  const auto fail = [](const Measurement&) -> Figures {
    throw std::out_of_range("the meter is gone");
  };
  CHECK_THROWS_WITH_AS(tuning.tune(observed(fail)), "the meter is gone", std::out_of_range);
  const auto problem = problem_record(tuning.problem(), tuning.backend.device());
  const auto trials = tuning.store.trials(problem.op, problem.problem_key, problem.device_kind);
  CHECK(std::count_if(trials.begin(), trials.end(), [](const TrialRecord& record) {
          return record.trial.status == TrialStatus::ok;
        }) == 1);
  // An Error is no fault of the candidate either.
  const auto refuse = [](const Measurement&) -> Figures {
    throw Error(ErrorCode::launch_failed, "no meter");
  };
  Tuning other;
  CHECK(fails(ErrorCode::launch_failed, {"no meter"}, [&] { other.tune(observed(refuse)); }));
  CHECK(other.store.counts().trials >= 1);
}

TEST_CASE("figures that are no numbers, without names or given twice are errors") {
  Tuning tuning;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(fails(ErrorCode::invalid_argument, {"observer scripted", "watts is nan", "no number"}, [&] {
    tuning.tune(observed([&](const Measurement&) { return Figures{{"watts", nan}}; }));
  }));
  CHECK(fails(ErrorCode::invalid_argument, {"observer scripted", "no name"}, [&] {
    TuneOptions options = observed([](const Measurement&) { return Figures{{"", 1.0}}; });
    options.fresh = true;
    tuning.tune(options);
  }));
  CHECK(fails(ErrorCode::invalid_argument, {"observer scripted", "binary_bytes", "another"}, [&] {
    TuneOptions options =
        observed([](const Measurement&) { return Figures{{"binary_bytes", 1.0}}; });
    options.observers.insert(options.observers.begin(), make_observer("binary"));
    options.fresh = true;
    tuning.tune(options);
  }));
}

TEST_CASE("the fastest and the slowest run are figures") {
  Tuning tuning;
  TuneOptions options;
  options.observers = {make_observer("samples")};
  for (const auto& trial : tuning.tune(options).trials) {
    if (trial.status != TrialStatus::ok) continue;
    const auto [least, most] = std::minmax_element(trial.samples.begin(), trial.samples.end());
    CHECK(trial.figures == Figures{{"fastest_seconds", *least}, {"slowest_seconds", *most}});
  }
}

TEST_CASE("built-in observers are known by name") {
  REQUIRE_FALSE(observers().empty());
  for (const auto& [name, doc] : observers()) {
    CHECK(make_observer(name)->name() == name);
    CHECK_FALSE(doc.empty());
  }
  CHECK(fails(ErrorCode::invalid_argument, {"'power'", "known", "binary"},
              [] { make_observer("power"); }));
}

}  // namespace
}  // namespace cudadent
