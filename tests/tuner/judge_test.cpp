#include "tuner/judge.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runtime/language/value.h"
#include "tests/support/tuning.h"
#include "tuner/cached_source.h"

namespace cudadent {
namespace {

using namespace tests;

constexpr double infinity = std::numeric_limits<double>::infinity();

std::string with_prior(const std::string& prior) {
  return replaced(kinds_template, "\"let\"", "\"prior\": \"" + prior + "\", \"let\"");
}

// As this device, or another, found it.
void put_winner(Tuning& tuning, std::int64_t n, const std::string& kind, double seconds,
                const std::string& device_kind = {}) {
  WinnerRecord winner;
  winner.problem = problem_record(tuning.problem(n), tuning.backend.device());
  if (!device_kind.empty()) winner.problem.device_kind = device_kind;
  winner.kernel_template = "kinds";
  winner.template_hash = tuning.entry()->template_named("kinds")->hash;
  winner.configuration = {{"KIND", kind}};
  winner.seconds = seconds;
  tuning.store.put_winner(winner);
}

std::vector<Judged> ranking(Tuning& tuning, std::int64_t n) {
  const auto entry = tuning.entry();
  const Problem problem = make_problem(entry->manifest, twice_problem(n));
  const Device& device = tuning.backend.device();
  return judged(search_space(*entry, problem, device, {}), *entry, problem, device, tuning.store);
}

Choice choice(Tuning& tuning, std::int64_t n) {
  const auto entry = tuning.entry();
  return CachedSource(tuning.context(), {.on_miss = OnMiss::nearest})
      .choose(*entry, make_problem(entry->manifest, twice_problem(n)));
}

TEST_CASE("the winner of the nearest problem is not launched where it is predicted to be slower") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json",
                      with_prior("5e-5 if (KIND == 'fast') == (n < 500) else 1e-4"));
  put_winner(tuning, 400, "fast", 5e-5);
  const Choice near = choice(tuning, 100);
  CHECK(near.predicted_seconds == doctest::Approx(5e-5));
  CHECK(near.provenance == Provenance::neighbour);
  CHECK(near.seconds == 5e-5);
  CHECK(ranking(tuning, 100).front().predicted_seconds == doctest::Approx(5e-5));
  const Choice far = choice(tuning, 1000);
  CHECK(far.provenance == Provenance::defaulted);
  CHECK(to_text(far.configuration) == "KIND=slow");
  CHECK(ranking(tuning, 1000).front().predicted_seconds == doctest::Approx(5e-5));
}

TEST_CASE("what was measured corrects a prior, the more the nearer it is") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json", with_prior("1e-4"));
  put_winner(tuning, 128, "fast", 2e-4);
  const auto predicted = [&](std::int64_t n, const std::string& kind) {
    const auto entry = tuning.entry();
    const Problem problem = make_problem(entry->manifest, twice_problem(n));
    const Device& device = tuning.backend.device();
    const SearchSpace space = search_space(*entry, problem, device, {});
    for (const auto& judged : judged(space, *entry, problem, device, tuning.store))
      if (space.configuration(judged.candidate) == Values{{"KIND", kind}})
        return judged.predicted_seconds;
    return infinity;
  };
  const double near = predicted(200, "fast"), far = predicted(100'000, "fast");
  CHECK(near > 1.2e-4);
  CHECK(near < 2e-4);
  CHECK(far > 1e-4);
  CHECK(far < near);
  CHECK(predicted(200, "slow") < near);
  SUBCASE("but not what another device measured") {
    Tuning other;
    other.folder.write("twice/kinds.json", with_prior("1e-4"));
    put_winner(other, 128, "fast", 2e-4, "Other 4 " + other.backend.device().architecture);
    const auto all = ranking(other, 200);
    REQUIRE(!all.empty());
    CHECK(all.front().provenance == Provenance::other_device);
    CHECK(all.front().predicted_seconds == doctest::Approx(1e-4));
  }
}

TEST_CASE("what never won has to be clearly cheaper than a default") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json", with_prior("9.8e-5 if KIND == 'fast' else 1e-4"));
  CHECK(choice(tuning, 100).provenance == Provenance::defaulted);
  tuning.folder.write("twice/kinds.json", with_prior("9e-5 if KIND == 'fast' else 1e-4"));
  CHECK(choice(tuning, 100).provenance == Provenance::predicted);
}

TEST_CASE("without a prior winners come first, by their distance, and nothing is predicted") {
  Tuning tuning;
  put_winner(tuning, 128, "fast", 5e-5);
  put_winner(tuning, 8, "nan", 5e-5);
  const auto all = ranking(tuning, 100'000);
  REQUIRE(all.size() == 3);
  CHECK(all[0].provenance == Provenance::nearest);
  CHECK(all[2].provenance == Provenance::defaulted);
  CHECK(all[0].predicted_seconds == infinity);
  CHECK(to_text(choice(tuning, 100'000).configuration) == "KIND=fast");
  CHECK(choice(tuning, 100'000).predicted_seconds == 0);
}

TEST_CASE("of a ranking, the first and then what brings another value of a parameter") {
  Tuning tuning;
  tuning.folder.write("twice/kinds.json", with_prior("1e-4"));
  const auto entry = tuning.entry();
  const Problem problem = tuning.problem(100);
  const Device& device = tuning.backend.device();
  const SearchSpace space = search_space(*entry, problem, device, {});
  const auto all = judged(space, *entry, problem, device, tuning.store);
  auto twice = all;
  twice.insert(twice.begin() + 1, all.front());
  const auto chosen = diverse(space, twice, 4);
  REQUIRE(chosen.size() == 4);
  for (std::size_t i = 0; i < chosen.size(); ++i) CHECK(chosen[i] == all[i].candidate);
}

// ------------------------------------------------------------------------- built-in templates

struct BuiltIn {
  TemplateLibrary library{{}};
  Device device = *nominal_cuda_device("sm_90a");
  Store store{":memory:"};
  std::shared_ptr<const OperatorEntry> entry;
  Problem problem;
  SearchSpace space;

  BuiltIn(const char* op, const Values& values)
      : entry(library.find(op)),
        problem(make_problem(entry->manifest, values)),
        space(search_space(*entry, problem, device, {})) {}

  std::vector<Judged> ranking() { return judged(space, *entry, problem, device, store); }
};

Values gemm(std::int64_t m, std::int64_t n, std::int64_t k) {
  return {{"m", m}, {"n", n}, {"k", k}, {"dtype", std::string("bf16")}};
}

TEST_CASE("few queries and many keys: tensor cores of Hopper with split keys, not mma") {
  for (const std::int64_t queries : {1, 4}) {
    BuiltIn case_of("attention", {{"batch", std::int64_t{8}},
                                  {"query_length", queries},
                                  {"kv_length", std::int64_t{20000}},
                                  {"heads", std::int64_t{28}},
                                  {"kv_heads", std::int64_t{4}},
                                  {"head_dim", std::int64_t{128}},
                                  {"dtype", std::string("bf16")}});
    const Judged best = case_of.ranking().front();
    CHECK(case_of.space.member_of(best.candidate).kernel_template->name == "wgmma");
    CHECK(as_integer(case_of.space.configuration(best.candidate).at("SPLIT"), "SPLIT") > 1);
    // Reading the keys takes 75 µs.
    CHECK(best.predicted_seconds > 60e-6);
    CHECK(best.predicted_seconds < 150e-6);
  }
}

TEST_CASE("what is found of a prior is hardly dearer than the least of all configurations") {
  for (const auto& values : {gemm(1536, 1536, 8192), gemm(512, 4608, 3584), gemm(17, 8192, 4096),
                             gemm(3000, 3000, 3000)}) {
    BuiltIn case_of("gemm", values);
    CAPTURE(case_of.problem.describe());
    for (const auto& member : case_of.space.members()) {
      if (member.space.size() > 100'000) continue;  // those take the tests too long
      CAPTURE(member.kernel_template->name);
      double least = infinity, found = infinity;
      for (std::uint64_t index = 0; index < member.space.size(); ++index)
        least = std::min(least, member.prior(member.space.configuration(index)));
      for (const auto& judged : case_of.ranking())
        if (&case_of.space.member_of(judged.candidate) == &member)
          found = std::min(found, judged.predicted_seconds);
      CHECK(found <= 1.05 * least);
    }
  }
}

}  // namespace
}  // namespace cudadent
