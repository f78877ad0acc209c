// Every built-in CUDA template against float64, on the emulator: random configurations on random small
// problems, each under several schedules of its threads and copies.
//
//   CUDADENT_EMULATED_CASES=2000   how many; a few hundred by default
//   CUDADENT_EMULATED_SEED=7       which; always the same by default

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "cache/store.h"
#include "emulator/backend.h"
#include "tests/emulator/cases.h"
#include "tests/support/environment.h"
#include "tuner/workbench.h"

namespace cudadent {
namespace {

using test::number_from_environment;

constexpr std::uint64_t default_cases = 240;
constexpr std::uint64_t default_seed = 20250711;
constexpr int launches_a_case = 3;

TEST_CASE("cuda templates on the emulator") {
  const auto count = number_from_environment("CUDADENT_EMULATED_CASES", default_cases);
  const auto seed = number_from_environment("CUDADENT_EMULATED_SEED", default_seed);
  TemplateLibrary library{{}};
  emulator::CaseMaker maker(library, seed);
  std::vector<emulator::Case> cases;
  for (std::uint64_t i = 0; i < count; ++i) cases.push_back(maker.next());

  std::vector<std::string> faults(cases.size());
  std::atomic<std::size_t> next = 0;
  {
    std::vector<std::jthread> workers;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i)
      workers.emplace_back([&] {
        for (std::size_t at = next++; at < cases.size(); at = next++)
          faults[at] = emulator::try_case(cases[at], launches_a_case).fault;
      });
  }
  for (std::size_t i = 0; i < cases.size(); ++i)
    CHECK_MESSAGE(faults[i].empty(), cases[i].describe(), "\n", faults[i]);
  MESSAGE(cases.size(), " cases of ", maker.templates(), " templates, seed ", seed,
          "; parameter values without one: ", fmt::format("{}", fmt::join(maker.missed(), ", ")));
}

// Stream-K: the tiles of an odd round are cut along k into as many ranges as the device has multiprocessors.
TEST_CASE("tiles that several blocks have a range of on the emulator") {
  struct Cut {
    const char* what;
    std::int64_t m, n, batch;
    int sm_count;
  };
  // Tiles have 64 by 64, and 9 stages of k.
  constexpr std::array cuts{
      Cut{"5 tiles on 4: all of them, some by one block, some by two", 300, 64, 1, 4},
      Cut{"11 tiles on 3: 5 of them, then two rounds of whole ones", 700, 64, 1, 3},
      Cut{"3 tiles on 7: up to four blocks a tile", 130, 64, 1, 7},
      Cut{"12 tiles on 5: 7 of them, of several matrices", 70, 96, 3, 5},
      Cut{"17 tiles on 17, valid for 18 of the same tuning key: none", 1050, 64, 1, 17}};
  TemplateLibrary library{{}};
  const auto entry = library.find("gemm");
  emulator::Case given{.kernel = entry->template_named("wgmma"), .sm = 90, .seed = default_seed};
  given.configuration = {{"BM", std::int64_t{64}},
                         {"BN", std::int64_t{64}},
                         {"STAGES", std::int64_t{6}},
                         {"CONSUMERS", std::int64_t{1}},
                         {"CLUSTER_M", std::int64_t{1}},
                         {"CLUSTER_N", std::int64_t{1}},
                         {"CLUSTER_K", std::int64_t{1}},
                         {"SPLIT_K", std::int64_t{1}},
                         {"RASTER", std::int64_t{2}},
                         {"IN_FLIGHT", std::int64_t{1}},
                         {"STORE_BUFFERS", std::int64_t{2}},
                         {"STORE_COLUMNS", std::int64_t{32}},
                         {"SCHEDULE", std::string("stream")},
                         {"SWAP", false}};
  for (const Cut& cut : cuts) {
    CAPTURE(cut.what);
    given.problem = make_problem(entry->manifest, {{"m", cut.m},
                                                   {"n", cut.n},
                                                   {"k", std::int64_t{520}},
                                                   {"batch", cut.batch},
                                                   {"bias", true},
                                                   {"residual", true},
                                                   {"dtype", std::string("bf16")}});
    given.sm_count = cut.sm_count;
    CHECK(emulator::try_case(given, launches_a_case, true).fault == "");
  }
}

// What a tuning run on a GPU does, _compare/cuda included.
TEST_CASE("the verification of a tuning run on the emulator") {
  const auto backend =
      emulator::make_emulator_backend({.sm = 80, .sm_count = 4}, Environment::read());
  TemplateLibrary library{{}};
  Store store(":memory:");
  const auto entry = library.find("gemm");
  const auto problem_with = [&](const char* activation) {
    return make_problem(entry->manifest, {{"m", std::int64_t{37}},
                                          {"n", std::int64_t{41}},
                                          {"k", std::int64_t{23}},
                                          {"dtype", std::string("f32")},
                                          {"activation", std::string(activation)}});
  };
  const Problem problem = problem_with("relu");
  Workbench workbench(*backend, library, store, *entry, problem, 3);
  CHECK(workbench.reference() == "reference");
  const auto verdict_on = [&](const Problem& other) {
    const auto kernel = entry->template_named("simt");
    const auto chosen = default_configuration(*kernel, other, backend->device());
    return workbench.verify(*workbench.load(specialize(kernel, other, *chosen, backend->device())));
  };
  const Verdict right = verdict_on(problem), wrong = verdict_on(problem_with("none"));
  CHECK(right.complaint == "");
  CHECK(right.error < 1e-6);
  CHECK(wrong.complaint != "");
  CHECK(wrong.error > 0.1);
}

}  // namespace
}  // namespace cudadent
