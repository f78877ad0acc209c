#include "tuner/tuner.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <map>
#include <thread>

#include "cache/sqlite.h"
#include "runtime/language/value.h"
#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

std::string kind_of(const Values& configuration) {
  return std::get<std::string>(configuration.at("KIND"));
}

std::map<std::string, Trial> by_kind(const TuneResult& result) {
  std::map<std::string, Trial> trials;
  for (const auto& trial : result.trials)
    CHECK(trials.emplace(kind_of(trial.configuration), trial).second);  // none twice
  return trials;
}

int measured_anew(const TuneResult& result) {
  int count = 0;
  for (const auto& trial : result.trials) count += trial.from_cache ? 0 : 1;
  return count;
}

// "kinds" with only these valid, in this order: the first is the default.
void make_kinds(Tuning& tuning, const std::vector<std::string>& kinds) {
  std::vector<std::string> listed = kinds;  // the source names some, valid or not
  for (const char* kind : {"slow", "fast", "nan", "wrong", "broken", "refused", "greedy"})
    if (std::count(kinds.begin(), kinds.end(), kind) == 0) listed.emplace_back(kind);
  const std::string text =
      replaced(kinds_template, R"(["slow", "fast", "nan", "wrong", "broken", "refused", "greedy"])",
               fmt::format("[\"{}\"]", fmt::join(listed, "\", \"")));
  const std::string valid = fmt::format("KIND in ('{}',)", fmt::join(kinds, "', '"));
  tuning.folder.write(
      "twice/kinds.json",
      replaced(text, "\"let\"", fmt::format("\"constraints\": [\"{}\"], \"let\"", valid)));
}

TEST_CASE("a run finds the fastest configuration that is right, and says how the others failed") {
  Tuning tuning;
  const TuneResult result = tuning.tune();
  CHECK(result.problem == "twice n=100 dtype=f32");
  CHECK(result.candidates == 7);
  CHECK(result.stopped_by == "exhausted");
  CHECK(kind_of(result.winner.configuration) == "fast");
  CHECK(result.winner.provenance == Provenance::tuned);
  CHECK(result.winner.seconds == doctest::Approx(50e-6));
  CHECK(result.default_seconds == doctest::Approx(100e-6));
  CHECK(result.flops == 100);
  CHECK(result.bytes == 800);

  const auto trials = by_kind(result);
  CHECK(trials.size() == 7);
  CHECK(trials.at("slow").status == TrialStatus::ok);
  CHECK(trials.at("slow").error == 0);
  CHECK(trials.at("fast").median == doctest::Approx(50e-6));
  CHECK(!trials.at("fast").samples.empty());
  CHECK(trials.at("nan").status == TrialStatus::wrong_result);
  CHECK(mentions(trials.at("nan").message, {"y", "1 of 100", "NaN"}));
  CHECK(trials.at("wrong").status == TrialStatus::wrong_result);
  CHECK(trials.at("wrong").error == doctest::Approx(0.5));
  CHECK(trials.at("wrong").samples.empty());  // never timed
  CHECK(trials.at("broken").status == TrialStatus::compile_error);
  CHECK(mentions(trials.at("broken").message, {"this one does not compile"}));
  CHECK(trials.at("refused").status == TrialStatus::launch_error);
  CHECK(mentions(trials.at("refused").message, {"refuses this launch"}));
  CHECK(trials.at("greedy").status == TrialStatus::invalid_resources);
  CHECK(mentions(trials.at("greedy").message, {"shared memory"}));
}

TEST_CASE("a run that is repeated measures nothing twice") {
  Tuning tuning;
  const TuneResult first = tuning.tune();
  CHECK(measured_anew(first) == 7);
  const TuneResult again = tuning.tune();
  CHECK(measured_anew(again) == 0);
  CHECK(again.trials.size() == 7);
  CHECK(again.winner.configuration == first.winner.configuration);
  TuneOptions fresh;
  fresh.fresh = true;
  CHECK(measured_anew(tuning.tune(fresh)) == 7);
}

TEST_CASE("what won for the tuning key is tried right after the defaults") {
  Tuning tuning;
  tuning.tune();
  TuneOptions options;
  options.budget.trials = 2;
  options.strategy = "random";
  // Another problem of the key, so that nothing measured counts for it.
  for (options.seed = 0; options.seed < 4; ++options.seed) {
    const TuneResult result = tuning.tune(options, 127 - static_cast<std::int64_t>(options.seed));
    CHECK(by_kind(result).contains("fast"));
    CHECK(kind_of(result.winner.configuration) == "fast");
  }
}

TEST_CASE("a run that was ended goes on where it stopped") {
  Tuning tuning;
  TuneOptions options;
  options.budget.trials = 2;
  const TuneResult first = tuning.tune(options);
  CHECK(first.stopped_by == "trials");
  CHECK(measured_anew(first) == 2);
  const TuneResult second = tuning.tune(options);
  CHECK(measured_anew(second) == 2);
  CHECK(second.trials.size() == 4);
  CHECK(measured_anew(tuning.tune()) == 3);
}

TEST_CASE("a changed template loses its own trials only") {
  Tuning tuning;
  tuning.folder.write("twice/other.json", replaced(twice_reference, "host_reference", "other"));
  tuning.folder.write("twice/other.cpp", twice_reference_source);
  CHECK(measured_anew(tuning.tune()) == 8);
  tuning.folder.write("twice/other.cpp", std::string(twice_reference_source) + "// changed\n");
  const TuneResult result = tuning.tune();
  CHECK(measured_anew(result) == 1);
  for (const auto& trial : result.trials)
    CHECK(trial.from_cache == (trial.kernel_template == "kinds"));
}

TEST_CASE("another problem shares no trials") {
  Tuning tuning;
  tuning.tune();
  CHECK(measured_anew(tuning.tune({}, 101)) == 7);
}

TEST_CASE("what would be launched without tuning is measured first, however short the time") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json",
                      replaced(kinds_template, "\"let\"",
                               "\"prior\": \"1e-6*(1 if KIND == 'fast' else 2)\", \"let\""));
  TuneOptions options;
  options.budget.seconds = 1e-6;
  const TuneResult result = tuning.tune(options);
  REQUIRE(result.trials.size() == 2);
  CHECK(to_text(result.trials[0].configuration) == "KIND=fast");
  CHECK(to_text(result.trials[1].configuration) == "KIND=slow");  // the default
  CHECK(result.stopped_by == "time");
  CHECK(to_text(result.winner.configuration) == "KIND=fast");
}

TEST_CASE("no budget is too short for the defaults") {
  Tuning tuning;
  tuning.folder.write("twice/other.json", replaced(twice_reference, "host_reference", "other"));
  tuning.folder.write("twice/other.cpp", twice_reference_source);
  TuneOptions options;
  options.budget.seconds = 1e-9;
  const TuneResult result = tuning.tune(options);
  CHECK(result.stopped_by == "time");
  std::vector<std::string> measured;
  for (const auto& trial : result.trials) measured.push_back(trial.kernel_template);
  std::sort(measured.begin(), measured.end());
  CHECK(measured == std::vector<std::string>{"kinds", "other"});
  CHECK(kind_of(result.winner.configuration) == "slow");
  CHECK(result.winner.seconds == doctest::Approx(result.default_seconds));
}

TEST_CASE("what was compiled while the problem was laid out is measured, though the time is over") {
  const std::string judged = replaced(kinds_template, "\"let\"",
                                      "\"prior\": \"1e-6*(2 if KIND == 'fast' else 1)\", \"let\"");
  {
    Tuning compiled;  // everything, once in this process: that must not take time below
    compiled.folder.write("twice/kinds.json", judged);
    compiled.tune();
  }
  Tuning tuning;
  tuning.folder.write("twice/kinds.json", judged);
  TuneOptions options;
  options.budget.seconds = 2;
  const auto start = std::chrono::steady_clock::now();
  tuning.backend.on_compile = [&](const Specialization& specialization) {
    if (specialization.kernel_template->name == "host_reference")  // as the problem is laid out
      std::this_thread::sleep_until(start + std::chrono::milliseconds(2050));
  };
  const TuneResult result = tuning.tune(options);
  CHECK(result.stopped_by == "time");
  CHECK(result.trials.size() > 2);  // more than what no budget is too short for
  CHECK(kind_of(result.winner.configuration) == "fast");
}

TEST_CASE("patience ends a run that makes no progress") {
  Tuning tuning;
  TuneOptions options;
  options.budget.patience = 3;
  options.compile_workers = 1;
  const TuneResult result = tuning.tune(options);
  CHECK((result.stopped_by == "patience" || result.stopped_by == "exhausted"));
  // Ended by patience, the last three were no better than what came before.
  if (result.stopped_by == "patience")
    for (std::size_t i = result.trials.size() - 3; i < result.trials.size(); ++i)
      CHECK(kind_of(result.trials[i].configuration) != "fast");
}

TEST_CASE("a run that is cancelled while it searches ends with what it has, and compares no more") {
  Tuning tuning;
  int seen = 0;
  std::vector<std::string> phases;
  TuneOptions options;
  options.on_progress = [&](const TuneProgress& progress) {
    ++seen;
    phases.push_back(progress.phase);
    CHECK(progress.candidates == 7);
  };
  options.cancelled = [&] { return seen > 0; };
  const TuneResult result = tuning.tune(options);
  CHECK(result.stopped_by == "cancelled");
  CHECK(result.trials.size() < 7);
  CHECK(kind_of(result.winner.configuration) == "slow");
  CHECK(result.winner.seconds == doctest::Approx(100e-6));
  CHECK(result.default_seconds == result.winner.seconds);
  CHECK(phases == std::vector<std::string>{"search"});
  CHECK(tuning.warnings.empty());
  CHECK(tuning.store.counts().winners == 1);
}

TEST_CASE("a run that is cancelled while finalists race ends with the best so far") {
  for (const int rounds : {0, 1, 2}) {
    Tuning tuning;
    make_kinds(tuning, {"slow", "fast"});
    int finals = 0;
    TuneOptions options;
    options.on_progress = [&](const TuneProgress& progress) {
      if (progress.phase == "finalists") ++finals;
    };
    // Heard between two runs of one round, too.
    tuning.backend.on_time = [&, timed = 0]() mutable { finals += ++timed > 12 ? 100 : 0; };
    options.cancelled = [&] { return finals > rounds; };
    const TuneResult result = tuning.tune(options);
    CHECK(result.stopped_by == "cancelled");
    CHECK(finals < 250);  // at most two more runs after it was asked
    CHECK(kind_of(result.winner.configuration) == "fast");
    CHECK(result.default_seconds >= result.winner.seconds);
  }
}

TEST_CASE("every phase of a run hears that it is cancelled") {
  Tuning tuning;
  bool asked = false;
  TuneOptions options;
  options.cancelled = [&] { return asked; };
  SUBCASE("before it begins") {
    asked = true;
    CHECK(fails(ErrorCode::cancelled, {"cancelled"}, [&] { tuning.tune(options); }));
  }
  SUBCASE("while the reference is compiled") {
    tuning.backend.on_compile = [&](const Specialization& specialization) {
      if (specialization.description.find("host_reference") != std::string::npos) asked = true;
    };
    CHECK(fails(ErrorCode::cancelled, {"twice n=100", "cancelled"}, [&] { tuning.tune(options); }));
  }
  SUBCASE("while the first candidate is timed") {
    tuning.backend.on_time = [&] { asked = true; };
    CHECK(fails(ErrorCode::cancelled, {"twice n=100", "cancelled"}, [&] { tuning.tune(options); }));
    CHECK(tuning.backend.timings <= 3);
  }
  CHECK(tuning.store.counts().winners == 0);
  asked = false;
  tuning.backend.on_compile = {};
  tuning.backend.on_time = {};
  CHECK(kind_of(tuning.tune(options).winner.configuration) == "fast");
}

TEST_CASE("where cancelled runs are to have no winner, they keep their trials and have none") {
  Tuning tuning;
  const auto entry = tuning.entry();
  auto context = tuning.context();
  context.cancelled_runs_have_winners = false;
  int seen = 0;
  TuneOptions options;
  options.on_progress = [&](const TuneProgress&) { ++seen; };
  options.cancelled = [&] { return seen > 1; };
  const Problem problem = make_problem(entry->manifest, twice_problem());
  CHECK(fails(ErrorCode::cancelled, {"twice n=100", "goes on from there"},
              [&] { tune(context, *entry, problem, options); }));
  CHECK(tuning.store.counts().winners == 0);
  CHECK(tuning.store.counts().trials >= 2);
}

TEST_CASE("candidates that take the device down cost a trial each where it can be had again") {
  Tuning tuning;
  tuning.backend.recoverable = true;
  make_kinds(tuning, {"slow", "faulting", "endless", "fast", "wrong"});
  const TuneResult result = tuning.tune();
  const auto trials = by_kind(result);
  CHECK(trials.size() == 5);
  CHECK(trials.at("faulting").status == TrialStatus::fault);
  CHECK(mentions(trials.at("faulting").message, {"faulted"}));
  CHECK(trials.at("endless").status == TrialStatus::timeout_once);
  CHECK(trials.at("wrong").status == TrialStatus::wrong_result);
  CHECK(kind_of(result.winner.configuration) == "fast");
  CHECK(result.stopped_by == "exhausted");
  // The faulting one ran twice, unless it came right after a restart: who had run before it might have been
  // to blame.
  CHECK(result.worker_restarts >= 2);
  CHECK(result.worker_restarts <= 3);
  CHECK(tuning.backend.recoveries == result.worker_restarts);
  REQUIRE(tuning.warnings.size() == 1);
  CHECK(mentions(tuning.warnings[0], {"1 of 5", "next run", "KIND=endless", "timeout_once"}));
}

TEST_CASE("a candidate that takes too long is tried again by the next run, and then no more") {
  Tuning tuning;
  tuning.backend.recoverable = true;
  make_kinds(tuning, {"slow", "endless", "fast"});
  CHECK(by_kind(tuning.tune()).at("endless").status == TrialStatus::timeout_once);
  const TuneResult second = tuning.tune();
  CHECK(measured_anew(second) == 1);
  CHECK(by_kind(second).at("endless").status == TrialStatus::timeout);
  tuning.warnings.clear();
  CHECK(measured_anew(tuning.tune()) == 0);
  CHECK(tuning.warnings.empty());
}

TEST_CASE("what the machine failed to do is no fact: said, stored as what it is, and tried again") {
  Tuning tuning;
  std::atomic<bool> failing = true;
  const std::string kinds = "('slow', 'fast', 'wrong')";
  allow_kinds(tuning.folder, kinds);
  const auto fail_for = [&](const std::string& part) {
    tuning.backend.on_compile = [&, part](const Specialization& specialization) {
      if (failing && specialization.description.find(part) != std::string::npos)
        throw Error(ErrorCode::machine_failed, "the compiler was ended by signal 9");
    };
  };
  SUBCASE("for the default") {
    fail_for("KIND=slow");
    const TuneResult result = tuning.tune();
    CHECK(by_kind(result).at("slow").status == TrialStatus::disturbed);
    CHECK(kind_of(result.winner.configuration) == "fast");
    REQUIRE(tuning.warnings.size() == 1);
    CHECK(mentions(tuning.warnings[0], {"1 of 3", "next run", "default", "KIND=slow", "signal 9"}));
    const auto stored =
        tuning.store.trials("twice", tuning.problem().key(), tuning.backend.device().kind());
    CHECK(std::count_if(stored.begin(), stored.end(), [](const TrialRecord& record) {
            return record.trial.status == TrialStatus::disturbed;
          }) == 1);
  }
  SUBCASE("for all") {
    fail_for("KIND=");
    CHECK(fails(ErrorCode::machine_failed, {"3 disturbed", "signal 9"}, [&] { tuning.tune(); }));
  }
  failing = false;
  const TuneResult again = tuning.tune();
  CHECK(by_kind(again).at("slow").status == TrialStatus::ok);
  CHECK(again.default_seconds == doctest::Approx(100e-6));
  CHECK(measured_anew(tuning.tune()) == 0);
}

TEST_CASE("binaries of another compiler are neither run nor recorded as this one's") {
  Tuning tuning;
  tuning.tune();
  const auto key = tuning.problem().key(), kind = tuning.backend.device().kind();
  tuning.backend.compiler_name = "another compiler 2.0";
  std::atomic<int> of_the_winner = 0;
  tuning.backend.on_compile = [&](const Specialization& specialization) {
    if (specialization.description.find("KIND=fast") != std::string::npos) ++of_the_winner;
  };
  TuneOptions options;
  options.fresh = true;
  const TuneResult result = tuning.tune(options);
  CHECK(kind_of(result.winner.configuration) == "fast");
  CHECK(of_the_winner == 1);
  std::map<std::string, int> compilers;
  for (const auto& record : tuning.store.trials("twice", key, kind)) ++compilers[record.compiler];
  CHECK(compilers ==
        std::map<std::string, int>{{"a compiler 1.0", 7}, {"another compiler 2.0", 7}});
  const auto winner = tuning.store.winner("twice", tuning.problem().tuning_key(), kind);
  REQUIRE(winner);
  CHECK(winner->compiler == "another compiler 2.0");
  const auto binary = tuning.store.find_binary(winner->specialization_hash);
  REQUIRE(binary);
  CHECK(binary->compiler == "another compiler 2.0");
}

TEST_CASE("a budget of infinity, or of more seconds than a clock can tell, is none") {
  for (const double seconds : {std::numeric_limits<double>::infinity(), 1e300, 3.6e11}) {
    Tuning tuning;
    TuneOptions options;
    options.budget.seconds = seconds;
    CHECK(tuning.tune(options).stopped_by == "exhausted");
  }
}

TEST_CASE("options that make no sense are refused before anything runs") {
  Tuning tuning;
  TuneOptions options;
  options.run_timeout = std::numeric_limits<double>::quiet_NaN();
  CHECK(fails(ErrorCode::invalid_argument, {"run_timeout", "nan"}, [&] { tuning.tune(options); }));
  CHECK(tuning.backend.launches == 0);
}

TEST_CASE(
    "where only the reference is left, that is said, with the constraints that exclude the rest") {
  Tuning tuning;
  tuning.folder.write(
      "twice/kinds.json",
      replaced(kinds_template, "\"let\"",
               "\"constraints\": [\"n > 0\", \"KIND != 'slow'\", \"KIND in ('slow',)\"], \"let\""));
  const TuneResult result = tuning.tune();
  CHECK(result.winner.kernel_template == "host_reference");
  REQUIRE(tuning.warnings.size() == 1);
  CHECK(mentions(tuning.warnings[0],
                 {"twice n=100", "only the reference", "kinds", "none of its 7 configurations",
                  "'KIND != 'slow'' and 'KIND in ('slow',)'"}));
  allow_kinds(tuning.folder, "('no', 'such')");
  tuning.tune();
  CHECK(mentions(tuning.warnings.back(), {"satisfies 'KIND in ('no', 'such')'"}));
  // An operator with nothing but a reference is as it was meant.
  Tuning only_reference(false);
  only_reference.tune();
  CHECK(only_reference.warnings.empty());
}

TEST_CASE("a default that takes the device down is a trial like others") {
  Tuning tuning;
  tuning.backend.recoverable = true;
  make_kinds(tuning, {"faulting", "fast"});
  const TuneResult result = tuning.tune();
  CHECK(by_kind(result).at("faulting").status == TrialStatus::fault);
  CHECK(kind_of(result.winner.configuration) == "fast");
  CHECK(result.default_seconds == 0);
}

TEST_CASE("a device lost for good ends the run with the best so far") {
  Tuning tuning;
  make_kinds(tuning, {"slow", "faulting"});
  const TuneResult result = tuning.tune();
  CHECK(result.stopped_by == "device lost");
  CHECK(by_kind(result).at("faulting").status == TrialStatus::fault);
  CHECK(kind_of(result.winner.configuration) == "slow");
  CHECK(result.winner.seconds == doctest::Approx(100e-6));
  CHECK(tuning.warnings.size() == 1);
}

TEST_CASE("a run that never ends is waited for less when a good time is known") {
  Tuning tuning;
  make_kinds(tuning, {"fast"});
  TuneOptions options;
  options.run_timeout = 30;
  tuning.tune(options);
  CHECK(tuning.backend.run_limit == doctest::Approx(2));  // 1000 times 50 µs is less than the least
}

TEST_CASE("candidates run where the context says") {
  Tuning tuning;
  const auto entry = tuning.entry();
  auto context = tuning.context();
  context.open_worker = [&](const TuneOptions& options) -> std::unique_ptr<Backend> {
    if (options.isolation == Isolation::in_process) return nullptr;
    return std::make_unique<CountingBackend>();
  };
  const Problem problem = make_problem(entry->manifest, twice_problem());
  CHECK(tune(context, *entry, problem, {}).isolated);
  CHECK(tuning.backend.launches == 0);
  TuneOptions here;
  here.isolation = Isolation::in_process;
  here.fresh = true;
  CHECK_FALSE(tune(context, *entry, problem, here).isolated);
  CHECK(tuning.backend.launches > 0);
}

TEST_CASE("the winner is never slower than the default") {
  Tuning tuning;
  allow_kinds(tuning.folder, "('slow', 'wrong')");
  const TuneResult result = tuning.tune();
  CHECK(kind_of(result.winner.configuration) == "slow");
  CHECK(result.winner.seconds == result.default_seconds);
}

TEST_CASE("nothing that works is an error that says what failed how often") {
  Tuning tuning;
  SUBCASE("compiling first") {
    allow_kinds(tuning.folder, "('broken',)");
    const auto error = error_of([&] { tuning.tune(); });
    REQUIRE(error);
    CHECK(error->code() == ErrorCode::compile_failed);
    CHECK(mentions(error->what(), {"twice n=100", "no configuration works (1 compile_error)",
                                   "kinds KIND=broken"}));
    CHECK(mentions(error->detail(), {"this one does not compile"}));
  }
  SUBCASE("and results") {
    allow_kinds(tuning.folder, "('nan', 'wrong', 'refused')");
    CHECK(fails(ErrorCode::launch_failed, {"1 launch_error", "2 wrong_result"},
                [&] { tuning.tune(); }));
    // And again, from what is remembered.
    CHECK(fails(ErrorCode::launch_failed, {"1 launch_error", "2 wrong_result"},
                [&] { tuning.tune(); }));
  }
  SUBCASE("no configuration is valid") {
    allow_kinds(tuning.folder, "('none', 'other')");
    std::filesystem::remove(tuning.folder / "twice/host_reference.json");
    CHECK(fails(ErrorCode::unsupported, {"twice n=100", "kinds", "7 configurations"},
                [&] { tuning.tune(); }));
  }
  SUBCASE("no time") {
    TuneOptions options;
    options.cancelled = [] { return true; };
    CHECK(fails(ErrorCode::cancelled, {"cancelled"}, [&] { tuning.tune(options); }));
  }
}

TEST_CASE("a configuration that cannot be planned costs one trial") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json", replaced(kinds_template, "\"grid\": [1]",
                                                   "\"grid\": [\"0 if KIND == 'wrong' else 1\"]"));
  const auto trials = by_kind(tuning.tune());
  CHECK(trials.size() == 7);
  CHECK(trials.at("wrong").status == TrialStatus::invalid_resources);
  CHECK(mentions(trials.at("wrong").message, {"grid"}));
}

TEST_CASE("the reference is a candidate only where it is the only one, or asked for") {
  Tuning tuning;
  const auto device = tuning.backend.device();
  CHECK(search_space(*tuning.entry(), tuning.problem(), device, {}).members().size() == 1);
  CHECK(search_space(*tuning.entry(), tuning.problem(), device, {"host_reference"}).size() == 1);
  CHECK(fails(ErrorCode::invalid_argument, {"twice", "no template \"fastest\""},
              [&] { search_space(*tuning.entry(), tuning.problem(), device, {"fastest"}); }));
  CHECK(fails(ErrorCode::unsupported, {"twice n=100", "none for this device"}, [&] {
    search_space(*tuning.entry(), tuning.problem(), *nominal_cuda_device("sm_90a"), {});
  }));
  Tuning only_reference(false);
  const TuneResult result = only_reference.tune();
  CHECK(result.winner.kernel_template == "host_reference");
  CHECK(result.winner.configuration.empty());
}

TEST_CASE("without a reference candidates are compared with each other, and that is said") {
  Tuning tuning;
  std::filesystem::remove(tuning.folder / "twice/host_reference.json");
  CHECK(kind_of(tuning.tune().winner.configuration) == "fast");
  REQUIRE(tuning.warnings.size() == 1);
  CHECK(mentions(tuning.warnings[0], {"twice", "no reference"}));
}

TEST_CASE("the strategy's name is checked before anything runs") {
  Tuning tuning;
  TuneOptions options;
  options.strategy = "no_such_strategy";
  CHECK(fails(ErrorCode::invalid_argument, {"no_such_strategy", "auto"},
              [&] { tuning.tune(options); }));
  CHECK(tuning.backend.launches == 0);
}

TEST_CASE("a cache that cannot be written costs the memory of a result, not the result") {
  const Folder folder;
  const auto file = folder / "cache.db";
  Tuning tuning(true, file, std::chrono::milliseconds(1));
  sqlite::Connection other(file, sqlite::Connection::Access::read_write, std::chrono::seconds(1));
  other.query_text("BEGIN IMMEDIATE");  // nobody else can write now
  CHECK(kind_of(tuning.tune().winner.configuration) == "fast");
  CHECK(tuning.warnings.size() == 1);
  other.query_text("ROLLBACK");
  CHECK(tuning.store.counts().winners == 0);
  CHECK(measured_anew(tuning.tune()) == 7);
  CHECK(tuning.store.counts().winners == 1);
}

}  // namespace
}  // namespace cudadent
