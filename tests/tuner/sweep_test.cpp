// Sweeps at work, with the tiny operator and times that do not depend on the machine.
#include "tuner/sweep/sweep.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "runtime/language/value.h"
#include "tests/support/errors.h"
#include "tests/support/tuning.h"
#include "tuner/sweep/json_reader.h"

namespace cudadent {
namespace {

using namespace tests;

// Where sweeps run: a database in a file, which outlives them, and one or two equal devices.
struct Place {
  Folder folder;
  Place() {
    write_twice(folder);
    allow_kinds(folder, "('slow', 'fast')");
  }
  [[nodiscard]] std::filesystem::path database() const { return folder / "a.db"; }
};

struct Sweep {
  const Place& place;
  TemplateLibrary library;
  std::vector<std::unique_ptr<CountingBackend>> backends;
  std::vector<std::unique_ptr<Store>> stores;
  std::vector<std::unique_ptr<CachedSource>> sources;
  std::vector<SweepDevice> devices;
  SweepOptions options;
  std::vector<SweepJob> jobs;
  std::vector<std::string> trials;  // as they were reported

  explicit Sweep(const Place& at, int count = 1) : place(at), library({at.folder.path()}) {
    for (int i = 0; i < count; ++i) {
      backends.push_back(std::make_unique<CountingBackend>());
      stores.push_back(std::make_unique<Store>(place.database()));
      const TuningContext context{*backends.back(), library, *stores.back(), {}};
      sources.push_back(
          std::make_unique<CachedSource>(context, MissPolicy{.on_miss = OnMiss::fail}));
      devices.push_back({"device " + std::to_string(i), context, *sources.back()});
    }
    options.tuning.strategy = "exhaustive";
    options.tuning.compile_workers = 1;
    options.on_progress = [this](const SweepJob& job, const Trial* trial) {
      if (trial != nullptr) trials.push_back(job.description + " " + to_text(trial->configuration));
    };
  }

  bool run(const std::string& problems, bool fresh = false) {
    const auto plan =
        parse_sweep(parse_json(R"({"problems": )" + problems + "}", "test"), "test", Suites({}));
    options.tuning.fresh = fresh;
    jobs = sweep_jobs(plan, devices, fresh);
    return run_sweep(jobs, devices, options);
  }

  [[nodiscard]] std::vector<std::string> states() const {
    std::vector<std::string> names;
    for (const auto& job : jobs) names.emplace_back(name_of(job.state));
    return names;
  }
};

using Names = std::vector<std::string>;
constexpr const char* two_sizes =
    R"([{"op": "twice", "problem": {"dtype": "f32", "n": [100, 1000]}}])";

TEST_CASE("each problem gets its winner, and a second sweep has nothing to do") {
  const Place place;
  {
    Sweep sweep(place);
    CHECK(sweep.run(two_sizes));
    CHECK(sweep.states() == Names{"tuned", "tuned"});
    CHECK(to_text(sweep.jobs[0].winner->configuration) == "KIND=fast");
    CHECK(sweep.trials.size() == 4);
  }
  Sweep again(place);
  CHECK(again.run(two_sizes));
  CHECK(again.states() == Names{"known", "known"});
  CHECK(to_text(again.jobs[1].winner->configuration) == "KIND=fast");
  CHECK(again.backends[0]->timings == 0);

  CHECK(again.run(two_sizes, true));
  CHECK(again.states() == Names{"tuned", "tuned"});
}

TEST_CASE("problems that share a winner are tuned once") {
  const Place place;
  Sweep sweep(place);
  CHECK(sweep.run(R"([{"op": "twice", "problem": {"dtype": "f32", "n": [100, 120, 300]}}])"));
  CHECK(sweep.states() == Names{"tuned", "known", "tuned"});
  CHECK(sweep.jobs[1].same_as == 0);
}

TEST_CASE("a problem that fails is reported and the others go on") {
  const Place place;
  Sweep sweep(place);
  CHECK(sweep.run(R"([{"op": "no_such", "problem": {}},
                      {"op": "twice", "problem": {"dtype": "f32"}},
                      {"op": "twice", "problem": {"dtype": "f32", "n": 0}},
                      {"op": "twice", "problem": {"dtype": "f32", "n": 100}}])"));
  CHECK(sweep.states() == Names{"failed", "failed", "failed", "tuned"});
  CHECK(mentions(sweep.jobs[0].error, {"no_such", "twice"}));
  CHECK(mentions(sweep.jobs[1].error, {"n"}));
}

TEST_CASE("an interrupted sweep measures nothing twice when it goes on") {
  const Place place;
  {
    Sweep sweep(place);
    bool stop = false;
    sweep.options.tuning.cancelled = [&] { return stop; };
    sweep.options.on_progress = [&, keep = sweep.options.on_progress](const SweepJob& job,
                                                                      const Trial* trial) {
      keep(job, trial);
      stop = true;  // after the first trial
    };
    CHECK(!sweep.run(two_sizes));
    CHECK(sweep.states() == Names{"interrupted", "pending"});
    CHECK(sweep.trials.size() == 1);
    CHECK(sweep.stores[0]->winners().empty());  // half a search is no winner
    CHECK(sweep.stores[0]->claim(
              problem_record(*sweep.jobs[0].problem, sweep.backends[0]->device())) != nullptr);
  }
  Sweep rest(place);
  CHECK(rest.run(two_sizes));
  CHECK(rest.states() == Names{"tuned", "tuned"});
  CHECK(rest.jobs[0].known_trials == 1);
  CHECK(rest.trials.size() == 3);
}

TEST_CASE("a number of trials counts those of the sweep before") {
  const Place place;
  {
    Sweep sweep(place);
    sweep.options.per_problem = {.seconds = 0, .trials = 1};
    CHECK(sweep.run(R"([{"op": "twice", "problem": {"dtype": "f32", "n": 100}}])"));
    CHECK(sweep.trials.size() == 1);
  }
}

TEST_CASE("equal devices share the problems") {
  const Place place;
  Sweep sweep(place, 2);
  CHECK(sweep.run(
      R"([{"op": "twice", "problem": {"dtype": ["f32", "f64"], "n": [100, 1000, 10000]}}])"));
  CHECK(sweep.states() == Names(6, "tuned"));
  CHECK(sweep.trials.size() == 12);
}

TEST_CASE("what another process is tuning is left to it, and its winner taken") {
  const Place place;
  Sweep sweep(place);
  const auto op = sweep.library.find("twice");
  const auto claimed = make_problem(op->manifest, twice_problem(100));
  const auto record = problem_record(claimed, sweep.backends[0]->device());
  Store other(place.database());
  auto claim = other.claim(record);
  REQUIRE(claim);
  // The other one is done as soon as the sweep has done what it could.
  sweep.options.on_end = [&](const SweepJob& job) {
    if (job.state != SweepState::tuned || !claim) return;
    WinnerRecord winner;
    winner.problem = record;
    winner.kernel_template = "kinds";
    for (const auto& kernel : op->templates)
      if (kernel->name == "kinds") winner.template_hash = kernel->hash;
    winner.configuration = {{"KIND", std::string("slow")}};
    other.put_winner(winner);
    claim.reset();
  };
  CHECK(sweep.run(two_sizes));
  CHECK(sweep.states() == Names{"elsewhere", "tuned"});
  CHECK(to_text(sweep.jobs[0].winner->configuration) == "KIND=slow");
}

TEST_CASE("a process that never gets done is waited for no longer than asked") {
  const Place place;
  Sweep sweep(place);
  sweep.options.wait_for_others = 0;
  Store other(place.database());
  const auto op = sweep.library.find("twice");
  const auto claim = other.claim(
      problem_record(make_problem(op->manifest, twice_problem(100)), sweep.backends[0]->device()));
  CHECK(sweep.run(two_sizes));
  CHECK(sweep.states() == Names{"elsewhere", "tuned"});
  CHECK(mentions(sweep.jobs[0].error, {"process", std::to_string(::getpid())}));
}

}  // namespace
}  // namespace cudadent
