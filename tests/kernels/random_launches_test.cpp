// Every built-in CUDA template on a GPU: random configurations on random small problems, each compiled once
// and launched with several sizes, against float64.
//
//   CUDADENT_RANDOM_LAUNCHES=10000   how many launches; a few hundred by default
//   CUDADENT_RANDOM_SECONDS=60       stop after so long, if that is sooner
//   CUDADENT_RANDOM_SEED=7           which; others each time by default

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include "runtime/cuda/backend.h"
#include "runtime/cuda/gpu.h"
#include "runtime/environment.h"
#include "runtime/value.h"
#include "tests/emulator/cases.h"
#include "tests/support/bench.h"
#include "tests/support/environment.h"

namespace cudadent {
namespace {

using test::Bench;
using test::number_from_environment;

// Compiling takes much longer than launching. Many sizes are not for the configuration, or are compiled in.
constexpr int launches_a_case = 12, sizes_a_case = 10 * launches_a_case;

using Clock = std::chrono::steady_clock;

// Bytes of device memory that nobody uses, 0 where the driver does not tell.
std::size_t free_device_memory(const cuda::Gpu& gpu) {
  const cuda::ContextScope scope = gpu.scope();
  using Query = int (*)(std::size_t* free, std::size_t* total);
  void* const driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (driver == nullptr) return 0;
  const auto query = reinterpret_cast<Query>(::dlsym(driver, "cuMemGetInfo_v2"));
  std::size_t free = 0, total = 0;
  if (query == nullptr || query(&free, &total) != 0) free = 0;
  ::dlclose(driver);
  return free;
}

// The same kernel's problem with other sizes, where they are not compiled in; nothing when the sizes do not
// go with what else the problem says.
std::optional<Problem> resized(const emulator::Case& given, std::mt19937_64& random) {
  const auto& fixed = given.kernel->compile_time;
  // Without the scalars that follow from dimensions.
  Values values = values_from_json(nlohmann::json::parse(given.problem.key()));
  for (const auto& dimension : given.problem.op->dimensions)
    if (!given.problem.op->is_optional_dimension(dimension) && values.contains(dimension) &&
        dimension != "pages" &&  // which take memory, and no work
        std::find(fixed.begin(), fixed.end(), dimension) == fixed.end())
      values[dimension] = emulator::random_extent(random);
  try {
    return make_problem(given.problem.op, values);
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Tries cases until enough launches were made, or until it is too late. One thread of several.
class Trial {
 public:
  Trial(Backend& backend, std::uint64_t seed, std::atomic<std::int64_t>& left,
        Clock::time_point end)
      : backend_(backend),
        left_(left),
        end_(end),
        random_(seed),
        maker_(library_, seed, rules(backend)) {}

  // What was wrong, a text a case.
  std::vector<std::string> run() {
    std::vector<std::string> faults;
    while (goes_on())
      if (auto fault = next(); !fault.empty()) faults.push_back(std::move(fault));
    return faults;
  }

 private:
  static emulator::CaseRules rules(const Backend& backend) {
    emulator::CaseRules rules;
    rules.sm = backend.device().sm;
    rules.sm_count = backend.device().sm_count;
    rules.draws = 1;
    return rules;
  }

  [[nodiscard]] bool goes_on() const {
    return left_ > 0 && Clock::now() < end_ && backend_.lost() == Loss::none;
  }

  std::string next() {
    emulator::Case given = maker_.next();
    try {
      const auto first = specialized(given);
      if (!first) return {};
      const auto module = backend_.load(backend_.compile(*first));
      int launches = 0;
      for (int i = 0; i < sizes_a_case && launches < launches_a_case && goes_on(); ++i) {
        if (i > 0) {
          const auto other = resized(given, random_);
          if (!other) continue;
          given.problem = *other;
        }
        if (given.problem.flops() > 5e7) continue;  // float64 on one core
        const auto specialization = specialized(given);
        if (!specialization || specialization->hash != first->hash) continue;
        const auto executable = backend_.prepare(module, specialization->plan);
        Bench bench(backend_, given.problem, random_());
        const auto fault = bench.why_wrong(*executable);
        ++launches;
        --left_;
        if (!fault.empty()) return fmt::format("{}\n{}", given.describe(), fault);
      }
    } catch (const Error& error) {
      return fmt::format("{}\n{}\n{}", given.describe(), error.what(), error.detail());
    }
    return {};
  }

  // Nothing for sizes that the template or the configuration is not for.
  [[nodiscard]] std::optional<Specialization> specialized(const emulator::Case& given) const {
    try {
      return specialize(given.kernel, given.problem, given.configuration, backend_.device());
    } catch (const Error& error) {
      if (error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::unsupported)
        return std::nullopt;
      throw;
    }
  }

  Backend& backend_;
  std::atomic<std::int64_t>& left_;
  Clock::time_point end_;
  std::mt19937_64 random_;
  TemplateLibrary library_{{}};
  emulator::CaseMaker maker_;
};

TEST_CASE("random launches on a GPU are right and leak nothing") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  const auto count = number_from_environment("CUDADENT_RANDOM_LAUNCHES", 300);
  const auto seed = number_from_environment("CUDADENT_RANDOM_SEED", std::random_device{}());
  const auto seconds = number_from_environment("CUDADENT_RANDOM_SECONDS", 3600);
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  const auto backend = make_cuda_backend(0, Environment::read());
  // How many launches there were.
  const auto run = [&](std::uint64_t launches, std::uint64_t first_seed) {
    std::atomic<std::int64_t> left = static_cast<std::int64_t>(launches);
    std::vector<std::string> faults;
    std::mutex mutex;
    {
      std::vector<std::jthread> workers;
      for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i)
        workers.emplace_back([&, i] {
          auto found = Trial(*backend, first_seed + i, left, end).run();
          const std::scoped_lock lock(mutex);
          faults.insert(faults.end(), found.begin(), found.end());
        });
    }
    for (const auto& fault : faults) FAIL_CHECK(fault);
    return static_cast<std::int64_t>(launches) - left;
  };
  // The first launches fill pools that are kept.
  run(count / 10 + 1, seed + 1000);
  const auto gpu = cuda::Gpu::open(cuda::load_driver(), 0);
  const std::size_t before = free_device_memory(*gpu);
  const auto launches = run(count, seed);
  const std::size_t after = free_device_memory(*gpu);
  MESSAGE(launches, " launches, seed ", seed, "; free device memory ", before, " bytes, then ",
          after);
  CHECK(backend->lost() == Loss::none);
  // Less than a byte a launch could ever be: the driver hands memory out by 2 MiB.
  CHECK(after + (std::size_t{64} << 20) >= before);
}

}  // namespace
}  // namespace cudadent
