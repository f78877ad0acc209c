// Every built-in CUDA template on a GPU: random configurations on random small problems, each compiled once
// and launched with several sizes, against float64.
//
//   CUDADENT_RANDOM_LAUNCHES=10000   how many launches; a few hundred by default
//   CUDADENT_RANDOM_SECONDS=60       stop after so long, if that is sooner; then a tenth of them is repeated
//   CUDADENT_RANDOM_SEED=7           which; others each time by default
//   CUDADENT_RANDOM_ONLY=attention   of one operator, or of one template: attention/wgmma

#include <dlfcn.h>
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <type_traits>

#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/cuda/gpu.h"
#include "runtime/base/environment.h"
#include "runtime/language/value.h"
#include "runtime/operators/strides.h"
#include "tests/emulator/cases.h"
#include "tests/support/bench.h"
#include "tests/support/environment.h"

namespace cudadent {
namespace {

using test::Bench;
using test::number_from_environment;

// Compiling takes much longer than launching. Many sizes are not for the configuration, or are compiled in.
constexpr int launches_a_case = 12, sizes_a_case = 10 * launches_a_case;

// What a launch may have, for inputs and float64 on one core to take milliseconds.
constexpr double most_flops = 5e7;
constexpr std::int64_t most_elements = 4'000'000;

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
      values[dimension] = emulator::random_extent(dimension, random);
  try {
    return make_problem(given.problem.op, values);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool is_small(const Problem& problem) {
  std::int64_t elements = 0;
  for (const auto& tensor : problem.op->tensors) {
    if (!problem.has(tensor)) continue;
    const auto shape = problem.shape_of(tensor), strides = problem.strides_of(tensor);
    elements += span_of(shape, strides);
  }
  return problem.flops() <= most_flops && elements <= most_elements;
}

// Launches of each template, and how many seconds of all threads went where.
struct Tally {
  std::map<std::string, int> launches;
  std::map<std::string, double> seconds;

  void add(const Tally& other) {
    for (const auto& [name, count] : other.launches) launches[name] += count;
    for (const auto& [name, time] : other.seconds) seconds[name] += time;
  }
  [[nodiscard]] std::string describe() const {
    std::string text;
    for (const auto& [name, count] : launches) text += fmt::format("\n{:22}{:8}", name, count);
    text += "\nseconds of all threads:";
    for (const auto& [name, time] : seconds) text += fmt::format(" {} {:.1f}", name, time);
    return text;
  }
};

// Tries cases until enough launches were made, or until it is too late. One thread of several.
class Trial {
 public:
  // `only` is an operator, a template ("op/template"), or empty.
  Trial(Backend& backend, std::uint64_t seed, const std::string& only,
        std::atomic<std::int64_t>& left, Clock::time_point end)
      : backend_(backend),
        left_(left),
        end_(end),
        random_(seed),
        maker_(library_, seed, rules(backend, only)) {}

  void run() {
    while (goes_on())
      if (auto fault = next(); !fault.empty()) faults_.push_back(std::move(fault));
  }
  // What was wrong, a text a case.
  [[nodiscard]] const std::vector<std::string>& faults() const noexcept { return faults_; }
  [[nodiscard]] const Tally& tally() const noexcept { return tally_; }

 private:
  static emulator::CaseRules rules(const Backend& backend, const std::string& only) {
    emulator::CaseRules rules;
    const auto slash = std::min(only.find('/'), only.size());
    rules.op = only.substr(0, slash);
    rules.kernel = only.substr(std::min(slash + 1, only.size()));
    rules.sm = backend.device().sm;
    rules.sm_count = backend.device().sm_count;
    rules.draws = 1;
    return rules;
  }

  [[nodiscard]] bool goes_on() const {
    return left_ > 0 && Clock::now() < end_ && backend_.lost() == Loss::none;
  }

  std::string next() {
    emulator::Case given = timed("drawing", [&] { return maker_.next(); });
    try {
      const auto first = specialized(given);
      if (!first) return {};
      const Binary binary = timed("compiling", [&] { return backend_.compile(*first); });
      const auto module = timed("loading", [&] { return backend_.load(binary); });
      int launches = 0;
      for (int i = 0; i < sizes_a_case && launches < launches_a_case && goes_on(); ++i) {
        const auto specialization = timed("drawing", [&] { return of_this_size(given, i == 0); });
        if (!specialization || specialization->hash != first->hash) continue;
        auto bench = timed("reference", [&] { return bench_of(given.problem); });
        if (!bench) continue;
        const auto fault = timed("launching", [&] {
          return bench->why_wrong(*backend_.prepare(module, specialization->plan), *given.kernel);
        });
        ++launches;
        --left_;
        ++tally_.launches[given.kernel->op + "/" + given.kernel->name];
        if (!fault.empty()) return fmt::format("{}\n{}", given.describe(), fault);
      }
    } catch (const Error& error) {
      return fmt::format("{}\n{}\n{}", given.describe(), error.what(), error.detail());
    }
    return {};
  }

  // What `work` returns; its time is added to a part's.
  template <class Work>
  std::invoke_result_t<Work> timed(const char* part, Work work) {
    const auto start = Clock::now();
    auto result = work();
    tally_.seconds[part] += std::chrono::duration<double>(Clock::now() - start).count();
    return result;
  }

  // The case as it is, or with other sizes; nothing where that cannot be or is too large.
  std::optional<Specialization> of_this_size(emulator::Case& given, bool as_it_is) {
    if (!as_it_is) {
      const auto other = resized(given, random_);
      if (!other) return std::nullopt;
      given.problem = *other;
    }
    return is_small(given.problem) ? specialized(given) : std::nullopt;
  }

  // Nothing for sizes that inputs cannot be drawn of, such as keys of no sequence.
  std::unique_ptr<Bench> bench_of(const Problem& problem) {
    try {
      return std::make_unique<Bench>(backend_, problem, random_());
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument) throw;
      return nullptr;
    }
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
  std::vector<std::string> faults_;
  Tally tally_;
};

TEST_CASE("random launches on a GPU are right and leak nothing") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  const auto count = number_from_environment("CUDADENT_RANDOM_LAUNCHES", 300);
  const auto seed = number_from_environment("CUDADENT_RANDOM_SEED", std::random_device{}());
  const auto seconds = number_from_environment("CUDADENT_RANDOM_SECONDS", 3600);
  const auto only = test::text_from_environment("CUDADENT_RANDOM_ONLY");
  const auto backend = make_cuda_backend(0, Environment::read());
  Tally tally;
  // How many launches there were.
  const auto run = [&](std::uint64_t launches) {
    const auto end = Clock::now() + std::chrono::seconds(seconds);
    std::atomic<std::int64_t> left = static_cast<std::int64_t>(launches);
    std::vector<std::unique_ptr<Trial>> trials;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i)
      trials.push_back(std::make_unique<Trial>(*backend, seed + i, only, left, end));
    {
      std::vector<std::jthread> workers;
      for (const auto& trial : trials) workers.emplace_back([&trial] { trial->run(); });
    }
    for (const auto& trial : trials) {
      for (const auto& fault : trial->faults()) FAIL_CHECK(fault);
      tally.add(trial->tally());
    }
    return static_cast<std::int64_t>(launches) - left;
  };
  const auto launches = run(count);
  // The backend's pool keeps what was needed at once at most. The same again needs no more.
  const auto gpu = cuda::Gpu::open(cuda::load_driver(), 0);
  const std::size_t before = free_device_memory(*gpu);
  const auto repeated = run(count / 10 + 1);
  const std::size_t after = free_device_memory(*gpu);
  MESSAGE(launches, " launches, seed ", seed, ", the first ", repeated,
          " of them twice; free device memory ", before, " bytes, then ", after, tally.describe());
  CHECK(backend->lost() == Loss::none);
  // Some room: the driver hands memory out by 2 MiB and more, and threads meet otherwise the second time.
  CHECK(after + (std::size_t{64} << 20) >= before);
}

}  // namespace
}  // namespace cudadent
