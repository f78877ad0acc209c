// Every built-in CUDA template against float64, on the emulator: random configurations on random small
// problems, each under several schedules of its threads and copies.
//
//   CUDADENT_EMULATED_CASES=2000   how many; a few hundred by default
//   CUDADENT_EMULATED_SEED=7       which; always the same by default

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "runtime/specialization.h"
#include "runtime/template_library.h"
#include "runtime/value.h"
#include "tests/emulator/backend.h"
#include "tests/emulator/driver.h"
#include "tests/support/bench.h"
#include "tuner/tuning_space.h"

namespace cudadent {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t default_cases = 0;  // it does not know the emulator's fibers
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t default_cases = 12;
#else
constexpr std::uint64_t default_cases = 240;
#endif
constexpr std::uint64_t default_seed = 20250711;
constexpr int launches_a_case = 3;
constexpr double most_flops = 4e7;                                 // a tenth of a second
constexpr int problems_a_case = 12, configurations_a_problem = 8;  // of which one is taken

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

template <class Container>
const auto& any_of(const Container& all, std::mt19937_64& random) {
  return all[random() % std::size(all)];
}

bool happens(int percent, std::mt19937_64& random) {
  return random() % 100 < static_cast<unsigned>(percent);
}

// Extents that are easy to get wrong: 0 and 1, primes, and what is beside a tile; half of them multiples
// of 8, which some templates need.
std::int64_t random_extent(std::mt19937_64& random) {
  constexpr std::array<std::int64_t, 16> even{8,   16,  24,  32,  40,  64,  72,  96,
                                              120, 128, 136, 192, 200, 256, 264, 328};
  constexpr std::array<std::int64_t, 18> odd{1,  2,  3,  5,   7,   13,  17,  31,  33,
                                             37, 61, 65, 100, 127, 129, 130, 191, 257};
  constexpr std::array<std::int64_t, 6> large{520, 777, 1000, 1024, 1031, 2048};
  if (happens(2, random)) return 0;
  if (happens(12, random)) return any_of(large, random);
  return happens(60, random) ? any_of(even, random) : any_of(odd, random);
}

// Nothing where the manifest does not allow what was drawn.
std::optional<Problem> random_problem(const std::shared_ptr<const OperatorManifest>& op,
                                      std::mt19937_64& random) {
  Values given;
  for (const auto& dimension : op->dimensions) given[dimension] = random_extent(random);
  for (const auto& dtype : op->dtypes)
    if (!dtype.default_symbol || happens(50, random))
      given[dtype.symbol] = any_of(dtype.values, random);
  for (const auto& option : op->options) given[option.name] = any_of(option.values, random);
  for (const auto& tensor : op->tensors)
    if (tensor.optional) given["has_" + tensor.name] = happens(50, random);
  if (happens(20, random)) given["aligned"] = false;
  try {
    Problem problem = make_problem(op, given);
    if (problem.flops() > most_flops) return std::nullopt;
    return problem;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    return std::nullopt;
  }
}

struct Case {
  std::shared_ptr<const KernelTemplate> kernel;
  Problem problem;
  Configuration configuration;
  int sm = 0, sm_count = 0;
  std::uint64_t seed = 0;

  // What a run of the tests should have met once.
  [[nodiscard]] std::vector<std::string> features() const {
    std::vector<std::string> all;
    const auto add = [&](const std::string& name, const Value& value) {
      all.push_back(fmt::format("{}/{} {}={}", kernel->op, kernel->name, name, to_text(value)));
    };
    for (const auto& [name, value] : configuration) add(name, value);
    for (const auto& dtype : problem.op->dtypes) add(dtype.symbol, problem.values.at(dtype.symbol));
    for (const auto& option : problem.op->options) add(option.name, problem.values.at(option.name));
    for (const auto& tensor : problem.op->tensors)
      if (tensor.optional) add("has_" + tensor.name, problem.has(tensor));
    add("aligned", problem.values.at("aligned"));
    add("sm", std::int64_t{sm});
    return all;
  }
  [[nodiscard]] std::string describe() const {
    return fmt::format("{}/{} {} for {} on sm_{} with {} SMs, seed {}", kernel->op, kernel->name,
                       to_text(configuration), problem.describe(), sm, sm_count, seed);
  }
};

// Draws cases, of several that are possible the one with most that no case had so far.
class CaseMaker {
 public:
  CaseMaker(TemplateLibrary& library, std::uint64_t seed) : random_(seed) {
    for (const auto& op : library.operators())
      for (const auto& kernel : library.find(op)->templates)
        if (kernel->backend == "cuda") templates_.push_back({library.find(op)->manifest, kernel});
    // A template with many parameters needs many cases.
    for (std::size_t i = 0; i < templates_.size(); ++i) {
      std::size_t weight = 2;
      for (const auto& parameter : templates_[i].kernel->parameters)
        weight += parameter.values.size() - 1;
      turns_.insert(turns_.end(), weight, i);
    }
  }

  Case next() {
    const Candidate& candidate = templates_[turns_[random_() % turns_.size()]];
    std::optional<Case> best;
    std::size_t most = 0;
    for (int i = 0; i < problems_a_case; ++i)
      for (Case& drawn : draw(candidate)) {
        std::size_t fresh = 0;
        for (const auto& feature : drawn.features()) fresh += met_.contains(feature) ? 0 : 1;
        if (best && fresh <= most) continue;
        most = fresh;
        best = std::move(drawn);
      }
    for (const auto& feature : best->features()) met_.insert(feature);
    return *best;
  }

  // Parameter values that no case had.
  [[nodiscard]] std::vector<std::string> missed() const {
    std::vector<std::string> all;
    for (const auto& [op, kernel] : templates_)
      for (const auto& parameter : kernel->parameters)
        for (const auto& value : parameter.values) {
          const auto feature =
              fmt::format("{}/{} {}={}", kernel->op, kernel->name, parameter.name, to_text(value));
          if (!met_.contains(feature)) all.push_back(feature);
        }
    return all;
  }
  [[nodiscard]] std::size_t templates() const { return templates_.size(); }

 private:
  struct Candidate {
    std::shared_ptr<const OperatorManifest> op;
    std::shared_ptr<const KernelTemplate> kernel;
  };

  // Some configurations for one problem.
  std::vector<Case> draw(const Candidate& candidate) {
    constexpr std::array architectures{75, 80, 86, 89, 90, 90, 90, 100, 120};
    constexpr std::array sm_counts{2, 3, 4, 8, 16, 132};
    for (int attempt = 0; attempt < 20000; ++attempt) {
      const auto problem = random_problem(candidate.op, random_);
      if (!problem) continue;
      Case drawn{candidate.kernel,           *problem, {}, any_of(architectures, random_),
                 any_of(sm_counts, random_), random_()};
      Device device = nominal_cuda_device(std::to_string(drawn.sm)).value();
      device.sm_count = drawn.sm_count;
      if (!why_unfit(*candidate.kernel, *problem, device).empty()) continue;
      const TuningSpace space(space_definition(*candidate.kernel, *problem, device));
      if (space.size() == 0) continue;
      std::vector<Case> cases;
      for (int i = 0; i < configurations_a_problem; ++i) {
        drawn.configuration = space.configuration(random_() % space.size());
        if (can_be_launched(drawn, device)) cases.push_back(drawn);
      }
      if (!cases.empty()) return cases;
    }
    FAIL("no problem fits ", candidate.kernel->op, "/", candidate.kernel->name);
    std::abort();
  }

  // Devices with fewer multiprocessors than a cluster has blocks are ours alone.
  static bool can_be_launched(const Case& given, const Device& device) {
    if (device.sm_count >= 16) return true;
    try {
      specialize(given.kernel, given.problem, given.configuration, device);
      return true;
    } catch (const Error&) {
      return false;
    }
  }

  std::mt19937_64 random_;
  std::vector<Candidate> templates_;
  std::vector<std::size_t> turns_;
  std::set<std::string> met_;
};

// What is wrong with a case; empty when nothing is.
std::string why_wrong(const Case& given) {
  try {
    const auto backend = emulator::make_emulator_backend(
        {.sm = given.sm, .sm_count = given.sm_count, .compile_options = {}}, Environment::read());
    const auto specialization =
        specialize(given.kernel, given.problem, given.configuration, backend->device());
    const auto executable =
        backend->prepare(backend->load(backend->compile(specialization)), specialization.plan);
    test::Bench bench(*backend, given.problem, given.seed);
    emulator::EmulatedStream stream{given.seed | 1};
    // More than once: a kernel must leave its workspaces fit for the next launch.
    for (int i = 0; i < launches_a_case; ++i) {
      const auto schedule = emulator::Schedule::from_seed(stream.seed).describe();
      if (auto why = bench.why_wrong(*executable, &stream); !why.empty())
        return fmt::format("{} [{}]", why, schedule);
    }
    return {};
  } catch (const Error& error) {
    return fmt::format("{}\n{}", error.what(), error.detail());
  }
}

TEST_CASE("cuda templates on the emulator") {
  const auto count = number_from_environment("CUDADENT_EMULATED_CASES", default_cases);
  const auto seed = number_from_environment("CUDADENT_EMULATED_SEED", default_seed);
  if (count == 0) {
    MESSAGE("SKIPPED: the thread sanitizer does not know the emulator's fibers");
    return;
  }
  TemplateLibrary library{{}};
  CaseMaker maker(library, seed);
  std::vector<Case> cases;
  for (std::uint64_t i = 0; i < count; ++i) cases.push_back(maker.next());

  std::vector<std::string> faults(cases.size());
  std::atomic<std::size_t> next = 0;
  {
    std::vector<std::jthread> workers;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i)
      workers.emplace_back([&] {
        for (std::size_t at = next++; at < cases.size(); at = next++)
          faults[at] = why_wrong(cases[at]);
      });
  }
  for (std::size_t i = 0; i < cases.size(); ++i)
    CHECK_MESSAGE(faults[i].empty(), cases[i].describe(), "\n", faults[i]);
  MESSAGE(cases.size(), " cases of ", maker.templates(), " templates, seed ", seed,
          "; parameter values without one: ", fmt::format("{}", fmt::join(maker.missed(), ", ")));
}

}  // namespace
}  // namespace cudadent
