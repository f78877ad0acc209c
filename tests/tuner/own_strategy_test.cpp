// Searches of a user's own: what they are given, and what comes of those that misbehave.
#include "tuner/strategies/own_strategy.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

// Its methods are a test's.
class Scripted : public Strategy {
 public:
  std::function<std::vector<Candidate>(std::size_t)> on_ask = [](std::size_t) {
    return std::vector<Candidate>();
  };
  std::function<void(const Observation&)> on_tell = [](const Observation&) {};

  std::vector<Candidate> ask(std::size_t count) override { return on_ask(count); }
  void tell(const Observation& observation) override { on_tell(observation); }
};

// Options whose strategy is what `script` makes of a new one.
TuneOptions options_with(std::function<void(Scripted&, const CandidateSpace&)> script) {
  TuneOptions options;
  options.strategy = "scripted";
  options.make_strategy = [script = std::move(script)](const CandidateSpace& space, std::uint64_t) {
    auto strategy = std::make_unique<Scripted>();
    script(*strategy, space);
    return strategy;
  };
  return options;
}

// One after another, from 0.
std::function<std::vector<Candidate>(std::size_t)> in_order(const CandidateSpace& space) {
  return [&space, next = Candidate{0}](std::size_t count) mutable {
    std::vector<Candidate> candidates;
    while (candidates.size() < count && next < space.size()) candidates.push_back(next++);
    return candidates;
  };
}

TEST_CASE("a search of the user's own finds the winner, and hears of each candidate once") {
  Tuning tuning;
  std::map<Candidate, std::optional<double>> told;
  const TuneOptions options = options_with([&](Scripted& strategy, const CandidateSpace& space) {
    strategy.on_ask = in_order(space);
    strategy.on_tell = [&](const Observation& observation) {
      told[observation.candidate] = observation.value;
    };
  });
  const TuneResult result = tuning.tune(options);
  CHECK(std::get<std::string>(result.winner.configuration.at("KIND")) == "fast");
  CHECK(result.trials.size() == 7);
  CHECK(result.stopped_by == "exhausted");
  CHECK(told.size() == 7);
  const auto failed = std::count_if(told.begin(), told.end(),
                                    [](const auto& entry) { return !entry.second.has_value(); });
  CHECK(failed == 5);
  const auto runs = tuning.store.runs();
  REQUIRE(runs.size() == 1);
  CHECK(runs.front().strategy == "scripted");
}

TEST_CASE("a search sees templates, configurations and neighbours of the space") {
  Tuning tuning;
  std::uint64_t size = 0;
  std::string name;
  Values configuration;
  std::optional<Candidate> found, unknown;
  std::vector<Candidate> neighbours;
  std::optional<double> predicted = 1;
  const auto beyond = [&](const CandidateSpace& space) {
    return fails(ErrorCode::invalid_argument, {"candidate 7", "has 7"},
                 [&] { (void)space.configuration(7); });
  };
  tuning.tune(options_with([&](Scripted&, const CandidateSpace& space) {
    size = space.size();
    name = space.kernel_template(1);
    configuration = space.configuration(1);
    found = space.find("kinds", configuration);
    unknown = space.find("nobody", configuration);
    neighbours = space.neighbours(0);
    predicted = space.predicted_seconds(0);
    CHECK(beyond(space));
  }));
  CHECK(size == 7);
  CHECK(name == "kinds");
  CHECK(configuration.contains("KIND"));
  CHECK(found == Candidate{1});
  CHECK_FALSE(unknown.has_value());
  CHECK(neighbours.size() == 6);
  CHECK_FALSE(predicted.has_value());
}

TEST_CASE("what a search throws comes out of the run, and the trials are kept") {
  Tuning tuning;
  const TuneOptions options = options_with([](Scripted& strategy, const CandidateSpace& space) {
    strategy.on_ask = in_order(space);
    strategy.on_tell = [told = 0](const Observation&) mutable {
      if (++told == 3) throw std::out_of_range("I give up");
    };
  });
  CHECK_THROWS_WITH_AS(tuning.tune(options), "I give up", std::out_of_range);
  CHECK(tuning.store.counts().trials == 3);
  CHECK(tuning.store.counts().winners == 0);
  TuneOptions sound;
  const TuneResult result = tuning.tune(sound);  // goes on from there
  CHECK(std::count_if(result.trials.begin(), result.trials.end(),
                      [](const Trial& trial) { return trial.from_cache; }) == 3);
}

TEST_CASE("a search that misbehaves is told how, by its name") {
  Tuning tuning;
  const auto complaint = [&](std::initializer_list<std::string_view> parts,
                             std::function<void(Scripted&, const CandidateSpace&)> script) {
    return fails(ErrorCode::invalid_argument, parts,
                 [&] { tuning.tune(options_with(std::move(script))); });
  };
  CHECK(complaint({"strategy scripted", "candidate 7", "not in the space", "has 7"},
                  [](Scripted& strategy, const CandidateSpace& space) {
                    strategy.on_ask = [&](std::size_t) { return std::vector{space.size()}; };
                  }));
  CHECK(complaint(
      {"strategy scripted", "proposed", "at most"}, [](Scripted& strategy, const CandidateSpace&) {
        strategy.on_ask = [](std::size_t count) { return std::vector<Candidate>(count + 1, 0); };
      }));
  TuneOptions none;
  none.strategy = "none";
  none.make_strategy = [](const CandidateSpace&, std::uint64_t) { return nullptr; };
  CHECK(fails(ErrorCode::invalid_argument, {"strategy none", "null"}, [&] { tuning.tune(none); }));
}

TEST_CASE(
    "a search that repeats itself is told again, and when it goes on and on that is an error") {
  Tuning tuning;
  int asked = 0, told = 0;
  const auto script = [&](Scripted& strategy, const CandidateSpace&) {
    strategy.on_ask = [&](std::size_t) {
      ++asked;
      return std::vector<Candidate>{0};
    };
    strategy.on_tell = [&](const Observation& observation) { told += observation.candidate == 0; };
  };
  CHECK(fails(ErrorCode::invalid_argument, {"strategy scripted", "repeats itself", "KIND="},
              [&] { tuning.tune(options_with(script)); }));
  CHECK(asked >= 1000);
  CHECK(told >= 900);
  CHECK(tuning.store.counts().trials >= 1);
}

TEST_CASE("a search that draws with repeats still comes to the space's end") {
  Tuning tuning;
  const TuneResult result =
      tuning.tune(options_with([](Scripted& strategy, const CandidateSpace& space) {
        strategy.on_ask = [&space, state = std::uint64_t{1}](std::size_t) mutable {
          state = state * 6364136223846793005U + 1442695040888963407U;
          return std::vector<Candidate>{(state >> 33U) % space.size()};
        };
      }));
  CHECK(result.trials.size() == 7);
  CHECK(result.stopped_by == "exhausted");
}

TEST_CASE("a search that proposes nothing ends the run with what was measured first") {
  Tuning tuning;
  const TuneResult result = tuning.tune(options_with([](Scripted&, const CandidateSpace&) {}));
  CHECK(result.stopped_by == "exhausted");
  CHECK(result.trials.size() >= 1);
  CHECK(result.winner.seconds > 0);
}

TEST_CASE("a search that never proposes anything new hears that the run is cancelled") {
  Tuning tuning;
  int asked = 0;
  TuneOptions options = options_with([&](Scripted& strategy, const CandidateSpace&) {
    strategy.on_ask = [&](std::size_t) {
      ++asked;
      return std::vector<Candidate>{0};
    };
  });
  options.cancelled = [&] { return asked > 10; };
  const TuneResult result = tuning.tune(options);
  CHECK(result.stopped_by == "cancelled");
  CHECK(asked < 1000);
}

}  // namespace
}  // namespace cudadent
