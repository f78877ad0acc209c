#include "tuner/report/prior_quality.h"

#include <doctest/doctest.h>

#include <cmath>

#include "runtime/language/device.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

// "twice" with a prior that holds KIND for what it costs: slow 4, fast 2, the others 1 µs.
struct Ranked {
  Tuning tuning{true};
  std::vector<TrialRecord> trials;

  Ranked() {
    tuning.folder.write(
        "twice/kinds.json",
        replaced(kinds_template, "\"let\"",
                 "\"prior\": \"1e-6*(4 if KIND == 'slow' else 2 if KIND == 'fast' else 1)\", "
                 "\"let\""));
  }
  void add(const std::string& kind, double seconds, TrialStatus status = TrialStatus::ok) {
    TrialRecord record;
    record.template_hash = tuning.entry()->template_named("kinds")->hash;
    record.trial.kernel_template = "kinds";
    record.trial.configuration = {{"KIND", kind}};
    record.trial.status = status;
    record.trial.median = seconds;
    trials.push_back(record);
  }
  std::vector<PriorQuality> qualities() {
    return prior_qualities(trials, *tuning.entry(), tuning.problem(),
                           tuning.backend.device().facts());
  }
};

TEST_CASE("a prior that orders as measurement does") {
  Ranked ranked;
  ranked.add("slow", 8e-6);
  ranked.add("fast", 5e-6);
  ranked.add("nan", 3e-6);
  const auto qualities = ranked.qualities();
  REQUIRE(qualities.size() == 1);  // the reference has no prior
  CHECK(qualities[0].kernel_template == "kinds");
  CHECK(qualities[0].trials == 3);
  CHECK(qualities[0].correlation == doctest::Approx(1));
  CHECK(qualities[0].first_choice == 1);
  CHECK(qualities[0].over_predicted == doctest::Approx(2.5));
}

TEST_CASE("a prior whose first choice is not the fastest") {
  Ranked ranked;
  ranked.add("slow", 4e-6);
  ranked.add("fast", 2e-6);
  ranked.add("nan", 8e-6);
  const auto qualities = ranked.qualities();
  REQUIRE(qualities.size() == 1);
  CHECK(qualities[0].correlation == doctest::Approx(-0.5));
  CHECK(qualities[0].first_choice == 0.25);
}

TEST_CASE("trials that failed, or of a template that has changed since, do not count") {
  Ranked ranked;
  ranked.add("slow", 4e-6);
  ranked.add("fast", 2e-6);
  ranked.add("wrong", 1e-9, TrialStatus::wrong_result);
  ranked.add("nan", 1e-9);
  ranked.trials.back().template_hash = "older";
  REQUIRE(ranked.qualities().size() == 1);
  CHECK(ranked.qualities()[0].trials == 2);
  CHECK(ranked.qualities()[0].first_choice == 1);
  ranked.trials.erase(ranked.trials.begin());
  CHECK(ranked.qualities().empty());  // of one trial there is nothing to say
}

TEST_CASE("where the prior says the same of all there is no correlation") {
  Ranked ranked;
  ranked.add("nan", 4e-6);
  ranked.add("wrong", 2e-6);
  REQUIRE(ranked.qualities().size() == 1);
  CHECK(std::isnan(ranked.qualities()[0].correlation));
}

}  // namespace
}  // namespace cudadent
