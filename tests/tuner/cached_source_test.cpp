#include "tuner/cached_source.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "cache/claim.h"
#include "cache/formats/portable.h"
#include "cache/shipped.h"
#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

using namespace tests;

std::string kind_of(const Choice& choice) {
  return std::get<std::string>(choice.configuration.at("KIND"));
}

Choice choose(Tuning& tuning, OnMiss on_miss, std::int64_t n = 100, Values more = {}) {
  const auto entry = tuning.entry();
  more.merge(twice_problem(n));
  return CachedSource(tuning.context(), {.on_miss = on_miss})
      .choose(*entry, make_problem(entry->manifest, more));
}

TEST_CASE("a miss that tunes, then the cache") {
  Tuning tuning;
  const Choice first = choose(tuning, OnMiss::tune);
  CHECK(first.provenance == Provenance::tuned);
  CHECK(kind_of(first) == "fast");
  CHECK(first.kernel_template->name == "kinds");
  const int timings = tuning.backend.timings;
  for (const OnMiss on_miss : {OnMiss::tune, OnMiss::nearest, OnMiss::fail}) {
    const Choice again = choose(tuning, on_miss);
    CHECK(again.provenance == Provenance::cached);
    CHECK(again.configuration == first.configuration);
    CHECK(again.seconds == doctest::Approx(50e-6));
  }
  // One winner for all that share a tuning key: 65 … 128.
  CHECK(choose(tuning, OnMiss::fail, 65).provenance == Provenance::cached);
  CHECK(tuning.backend.timings == timings);
}

TEST_CASE("a miss tunes the largest problem of the key") {
  Tuning tuning;
  choose(tuning, OnMiss::tune, 70);
  const auto problems = tuning.store.problems("twice", "");
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].description == "twice n=128 dtype=f32");
}

TEST_CASE("a miss that fails says how to tune") {
  Tuning tuning;
  CHECK(fails(ErrorCode::not_tuned,
              {"twice n=100 dtype=f32", "cudadent-tune tune twice n=100 dtype=f32"},
              [&] { choose(tuning, OnMiss::fail); }));
  CHECK(tuning.backend.launches == 0);
}

TEST_CASE("a miss that takes the nearest: the nearest known, else the default") {
  Tuning tuning;
  const Choice none = choose(tuning, OnMiss::nearest);
  CHECK(none.provenance == Provenance::defaulted);
  CHECK(kind_of(none) == "slow");
  CHECK(none.seconds == 0);
  choose(tuning, OnMiss::tune, 1000);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::nearest);
  CHECK(choose(tuning, OnMiss::nearest, 2000).provenance == Provenance::neighbour);
  CHECK(kind_of(choose(tuning, OnMiss::nearest)) == "fast");
  // Other options or data types are no neighbours.
  CHECK(choose(tuning, OnMiss::nearest, 100, {{"mode", std::string("loud")}}).provenance ==
        Provenance::defaulted);
  CHECK(choose(tuning, OnMiss::nearest, 100, {{"dtype", std::string("f64")}}).provenance ==
        Provenance::defaulted);
  // What is only near is not remembered as known.
  CHECK_THROWS_AS(choose(tuning, OnMiss::fail), Error);
}

TEST_CASE("of several neighbours the nearest") {
  Tuning tuning;
  choose(tuning, OnMiss::tune, 4000);
  allow_kinds(tuning.folder, "('slow', 'wrong')");
  choose(tuning, OnMiss::tune, 100);
  tuning.folder.write("twice/kinds.json", kinds_template);
  // The template is what it was at 4000 again, and the winner at 100 belongs to another.
  CHECK(kind_of(choose(tuning, OnMiss::nearest, 200)) == "fast");
  tuning.tune({}, 300);
  CHECK(choose(tuning, OnMiss::nearest, 200).seconds == doctest::Approx(50e-6));
}

TEST_CASE("a winner of a template that has changed does not count") {
  Tuning tuning;
  choose(tuning, OnMiss::tune);
  tuning.folder.write("twice/kinds.cpp", std::string(kinds_source) + "// changed\n");
  CHECK_THROWS_AS(choose(tuning, OnMiss::fail), Error);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::defaulted);
  CHECK(choose(tuning, OnMiss::tune).provenance == Provenance::tuned);
}

TEST_CASE("a winner that is not valid for the problem at hand does not count") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json",
                      replaced(kinds_template, "\"let\"",
                               "\"constraints\": [\"n >= 100 or KIND != 'fast'\"], \"let\""));
  CHECK(kind_of(choose(tuning, OnMiss::tune, 100)) == "fast");
  CHECK(choose(tuning, OnMiss::fail, 101).provenance == Provenance::cached);
  CHECK_THROWS_AS(choose(tuning, OnMiss::fail, 99), Error);
  CHECK(kind_of(choose(tuning, OnMiss::nearest, 99)) == "slow");
}

TEST_CASE("a problem that the template of its key's winner is not for is tuned by itself") {
  Tuning tuning;
  // The problem that is tuned for the key, n=128, fits both, and the first is faster.
  tuning.folder.write("twice/kinds.json", replaced(kinds_template, "\"parameters\"",
                                                   "\"requires\": [\"n >= 120\"], \"parameters\""));
  const std::string other = replaced(kinds_template, "\"kinds\"", "\"other\"");
  tuning.folder.write("twice/other.json",
                      replaced(other, "\"let\"", "\"constraints\": [\"KIND == 'slow'\"], \"let\""));
  tuning.folder.write("twice/other.cpp", kinds_source);
  SUBCASE("before it has a winner") {}
  SUBCASE("when it has one") {
    CHECK(choose(tuning, OnMiss::tune, 128).kernel_template->name == "kinds");
  }
  const Choice choice = choose(tuning, OnMiss::tune, 100);
  CHECK(choice.kernel_template->name == "other");
  CHECK(choice.provenance == Provenance::tuned);
  CHECK(choose(tuning, OnMiss::nearest, 100).kernel_template->name == "other");
}

// The winner as another device found it.
void put_winner_of(Tuning& tuning, const std::string& device_kind, std::int64_t n) {
  const Problem problem = tuning.problem(n);
  WinnerRecord winner;
  winner.problem = problem_record(problem, tuning.backend.device());
  winner.problem.device_kind = device_kind;
  winner.kernel_template = "kinds";
  for (const auto& kernel : tuning.entry()->templates)
    if (kernel->name == "kinds") winner.template_hash = kernel->hash;
  winner.configuration = {{"KIND", std::string("fast")}};
  winner.seconds = 1e-3;
  tuning.store.put_winner(winner);
}

TEST_CASE("a winner of another device counts when it is of this architecture") {
  Tuning tuning;
  const std::string& architecture = tuning.backend.device().architecture;
  put_winner_of(tuning, "Other 4 cores quite-another", 100);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::defaulted);
  put_winner_of(tuning, "Other 4 cores " + architecture, 100);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::other_device);
  // Of another problem, what this device knows comes first, far as it may be; of the very problem the other's, but
  // for a bucket beside.
  choose(tuning, OnMiss::tune, 1'000'000);
  CHECK(choose(tuning, OnMiss::nearest, 1000).provenance == Provenance::nearest);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::other_device);
  choose(tuning, OnMiss::tune, 200);
  CHECK(choose(tuning, OnMiss::nearest).provenance == Provenance::neighbour);
}

TEST_CASE("a winner that ships is launched without tuning, until its template changes") {
  Tuning tuning;
  put_winner_of(tuning, tuning.backend.device().kind(), 100);
  auto shipped = tuning.store.winners();
  Store store(":memory:", {.shipped = [text = to_portable({shipped, {}, {}}).dump()] {
                const std::vector<EmbeddedFile> files{{"shop.json", text}};
                return std::make_shared<const ShippedWinners>(files);
              }});
  const auto choose_with = [&](OnMiss on_miss, std::int64_t n) {
    const auto entry = tuning.entry();
    TuningContext context{tuning.backend, tuning.library(), store, {}, {}};
    return CachedSource(context, {.on_miss = on_miss})
        .choose(*entry, make_problem(entry->manifest, twice_problem(n)));
  };
  const Choice choice = choose_with(OnMiss::tune, 65);
  CHECK(choice.provenance == Provenance::shipped);
  CHECK(kind_of(choice) == "fast");
  CHECK(tuning.backend.timings == 0);
  CHECK(choose_with(OnMiss::nearest, 1000).provenance == Provenance::nearest);

  tuning.folder.write("twice/kinds.cpp", std::string(kinds_source) + "// changed\n");
  CHECK_THROWS_AS(choose_with(OnMiss::fail, 65), Error);
  CHECK(choose_with(OnMiss::tune, 65).provenance == Provenance::tuned);
  CHECK(choose_with(OnMiss::tune, 65).provenance == Provenance::cached);
}

TEST_CASE("where nothing is known, what the prior promises most of, if it is clearly more") {
  Tuning tuning;
  const auto with_prior = [&](const std::string& prior) {
    tuning.folder.write("twice/kinds.json", replaced(kinds_template, "\"let\"",
                                                     "\"prior\": \"" + prior + "\", \"let\""));
    return choose(tuning, OnMiss::nearest);
  };
  const Choice promised = with_prior("1.0 if KIND == 'fast' else 2.0");
  CHECK(promised.provenance == Provenance::predicted);
  CHECK(kind_of(promised) == "fast");
  CHECK(with_prior("1.96 if KIND == 'fast' else 2.0").provenance == Provenance::defaulted);
  CHECK(tuning.backend.compiles == 0);
}

TEST_CASE(
    "a launch that is left with the reference says so, and which constraint excludes the rest") {
  Tuning tuning;
  allow_kinds(tuning.folder, "('no', 'such')");
  CHECK(choose(tuning, OnMiss::nearest).kernel_template->name == "host_reference");
  REQUIRE(tuning.warnings.size() == 1);
  CHECK(mentions(tuning.warnings[0], {"twice n=100", "only the reference", "kinds",
                                      "satisfies 'KIND in ('no', 'such')'"}));
}

TEST_CASE("in the background: what is known at once, and the problem is handed on") {
  Tuning tuning;
  std::vector<std::string> handed_on;
  const auto entry = tuning.entry();
  CachedSource source(tuning.context(),
                      {.on_miss = OnMiss::background,
                       .tune_aside = [&](const OperatorEntry&, const Problem& problem) {
                         handed_on.push_back(problem.describe());
                       }});
  const Problem problem = make_problem(entry->manifest, twice_problem());
  CHECK(source.choose(*entry, problem).provenance == Provenance::defaulted);
  CHECK(handed_on == std::vector<std::string>{"twice n=100 dtype=f32"});
  tuning.tune();
  CHECK(source.choose(*entry, problem).provenance == Provenance::cached);
  CHECK(handed_on.size() == 1);
}

TEST_CASE("while another process tunes the problem, one waits for its winner") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem());
  const auto record = problem_record(problem, tuning.backend.device());
  auto claim = tuning.store.claim(record);
  REQUIRE(claim);
  SUBCASE("not for ever") {
    CachedSource source(tuning.context(), {.on_miss = OnMiss::tune, .wait_for_others = 0.1});
    CHECK(source.choose(*entry, problem).provenance == Provenance::defaulted);
    CHECK(tuning.warnings.size() == 1);
  }
  SUBCASE("and takes it") {
    CachedSource source(tuning.context(), {.on_miss = OnMiss::tune, .wait_for_others = 60});
    std::jthread other([&] {
      tuning.tune();
      claim.reset();
    });
    CHECK(source.choose(*entry, problem).provenance == Provenance::cached);
  }
  SUBCASE("and tunes when the other gives up") {
    CachedSource source(tuning.context(), {.on_miss = OnMiss::tune, .wait_for_others = 60});
    std::jthread other([&] { claim.reset(); });
    CHECK(source.choose(*entry, problem).provenance == Provenance::tuned);
  }
}

// Tunes until it is cancelled or told that it is enough.
TuneOptions until(std::atomic<bool>& begun, std::atomic<bool>& enough) {
  TuneOptions options;
  options.on_progress = [&](const TuneProgress&) {
    begun = true;
    while (!enough) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  return options;
}

TEST_CASE("two threads that meet a tuning key by different problems tune it once") {
  Tuning tuning;
  const auto entry = tuning.entry();
  CachedSource source(tuning.context(), {.on_miss = OnMiss::tune});
  std::vector<Choice> choices(3);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < choices.size(); ++t)
      threads.emplace_back([&, t] {
        const auto problem =
            make_problem(entry->manifest, twice_problem(100 + static_cast<std::int64_t>(t)));
        choices[t] = source.choose(*entry, problem);
      });
  }
  CHECK(tuning.store.runs().size() == 1);
  for (const auto& choice : choices) CHECK(choice.configuration == choices[0].configuration);
}

TEST_CASE("while one thread tunes, others find what is known and wait for what is not") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const auto problem = [&](std::int64_t n) {
    return make_problem(entry->manifest, twice_problem(n));
  };
  tuning.tune({}, 8);
  std::atomic<bool> begun{false}, enough{false}, cancelled{false};
  MissPolicy policy{.on_miss = OnMiss::tune};
  policy.tuning.cancelled = [&] { return cancelled.load(); };
  CachedSource source(tuning.context(), policy);
  std::jthread tuner([&] { source.tune(*entry, problem(100), until(begun, enough)); });
  while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  CHECK(source.choose(*entry, problem(8)).provenance == Provenance::cached);
  CHECK(!enough);
  SUBCASE("for its winner, where the key is the same") {
    std::jthread waiting(
        [&] { CHECK(source.choose(*entry, problem(90)).provenance == Provenance::cached); });
    enough = true;
    tuner.join();
    waiting.join();
    CHECK(tuning.store.runs().size() == 2);
  }
  SUBCASE("for the device, where it is another: two runs would disturb each other's timing") {
    std::atomic<bool> timing{false};
    TuneOptions options;
    options.on_progress = [&](const TuneProgress&) { timing = true; };
    std::jthread waiting([&] { source.tune(*entry, problem(1000), options); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(!timing);
    enough = true;
    tuner.join();
    waiting.join();
    CHECK(timing);
  }
  SUBCASE("until cancelled") {
    cancelled = true;
    CHECK(fails(ErrorCode::cancelled, {"twice n=90", "cancelled", "another thread was tuning it"},
                [&] { source.choose(*entry, problem(90)); }));
    CHECK(fails(ErrorCode::cancelled, {"twice n=1024", "another problem was being tuned"},
                [&] { source.choose(*entry, problem(1000)); }));
    enough = true;
  }
}

TEST_CASE("waiting for another process's winner can be cancelled") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem());
  const auto claim = tuning.store.claim(problem_record(problem, tuning.backend.device()));
  MissPolicy policy{.on_miss = OnMiss::tune};
  policy.tuning.cancelled = [] { return true; };
  CHECK(fails(ErrorCode::cancelled, {"twice n=100", "another process was tuning it"},
              [&] { CachedSource(tuning.context(), policy).choose(*entry, problem); }));
}

TEST_CASE("a callback may launch what is being tuned: it gets what is known") {
  Tuning tuning;
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem());
  std::optional<Choice> within;
  CachedSource source(tuning.context(), {.on_miss = OnMiss::tune});
  TuneOptions options;
  options.on_progress = [&](const TuneProgress&) {
    if (!within) within = source.choose(*entry, problem);
  };
  source.tune(*entry, problem, options);
  REQUIRE(within);
  CHECK(within->provenance == Provenance::defaulted);
  CHECK(tuning.store.runs().size() == 1);
}

TEST_CASE("a callback may fork: its child does not go on with the run, and harms it in nothing") {
  const Folder folder;
  Tuning tuning(true, folder / "a.db");
  const auto entry = tuning.entry();
  CachedSource source(tuning.context(), {.on_miss = OnMiss::tune});
  TuneOptions options;
  pid_t child = -1;
  options.on_progress = [&](const TuneProgress&) {
    if (child < 0) child = ::fork();
  };
  const auto tune = [&] {
    source.tune(*entry, make_problem(entry->manifest, twice_problem()), options);
  };
  try {
    tune();
  } catch (const Error& error) {
    const bool well = child == 0 && error.code() == ErrorCode::device_unavailable &&
                      mentions(error.what(), {"go on with a tuning run", "fork"});
    ::_exit(well ? 0 : 1);
  }
  REQUIRE(child > 0);
  CHECK(wait_for(child) == 0);
  CHECK(tuning.store.runs().size() == 1);
  CHECK(tuning.store.runs()[0].failed == 5);  // nan, wrong, broken, refused, greedy
}

TEST_CASE("of several defaults the one whose prior promises most") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json",
                      replaced(kinds_template, "\"let\"", "\"prior\": \"2.0\", \"let\""));
  tuning.folder.write("twice/other.json",
                      replaced(twice_reference, "\"template\": \"host_reference\"",
                               "\"template\": \"other\", \"prior\": \"1.0\""));
  tuning.folder.write("twice/other.cpp", twice_reference_source);
  CHECK(choose(tuning, OnMiss::nearest).kernel_template->name == "other");
  CHECK(tuning.backend.compiles == 0);
}

}  // namespace
}  // namespace cudadent
