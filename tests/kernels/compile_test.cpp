// Every built-in CUDA template compiles for every architecture it is for. Needs NVRTC, no GPU.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <random>
#include <sstream>
#include <thread>

#include "runtime/backends/cuda/nvrtc.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"
#include "tests/support/nvrtc.h"
#include "tests/support/problems.h"
#include "tuner/tuning_space.h"

namespace cudadent {
namespace {

using test::attention_problem;

// About a minute of one core. NVRTC is the same under sanitizers: a part will do there.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::array architectures{"sm_75", "sm_90a"};
constexpr std::size_t random_configurations = 10;
#else
constexpr std::array architectures{"sm_75",  "sm_80",   "sm_86",  "sm_89",
                                   "sm_90a", "sm_100a", "sm_120a"};
constexpr std::size_t random_configurations = 40;
#endif
constexpr std::uint64_t seed = 20250101;

struct GivenProblem {
  const char* op;
  Values values;
};

Values gemm(std::int64_t m, std::int64_t n, std::int64_t k, const char* dtype, Values more = {}) {
  more.insert({{"m", m}, {"n", n}, {"k", k}, {"dtype", std::string(dtype)}});
  return more;
}

Values rms_norm(std::int64_t rows, std::int64_t columns, const char* dtype, Values more = {}) {
  more.insert({{"rows", rows}, {"columns", columns}, {"dtype", std::string(dtype)}});
  return more;
}

std::vector<GivenProblem> given_problems() {
  const Values gelu{{"activation", std::string("gelu")}, {"bias", true}};
  const Values silu{{"activation", std::string("silu")}, {"out_dtype", std::string("f32")}};
  const Values relu{{"activation", std::string("relu")}, {"layout_b", std::string("kn")}};
  const Values residuals{{"residual", true}, {"residual_out", true}};
  const Values unaligned{{"aligned", false}};
  Values everything{{"bias", true},
                    {"scale_a", true},
                    {"scale_b", true},
                    {"residual", true},
                    {"bias_dtype", std::string("f32")}};
  everything.insert({{"layout_a", std::string("km")}, {"activation", std::string("gelu")}});
  const Values blocks{{"scaling", std::string("block")}, {"scale_a", true}, {"scale_b", true}};
  const Values strided{{"batch", std::int64_t{16}},
                       {"row_stride_a", std::int64_t{1024}},
                       {"batch_stride_a", std::int64_t{64}},
                       {"batch_stride_b", std::int64_t{0}}};
  const Values causal{{"causal", true}}, all{{"causal", true}, {"lse", true}, {"softcap", 30.0}};
  const Values lengths{{"cu_queries", true},
                       {"cu_keys", true},
                       {"queries", std::int64_t{16384}},
                       {"keys", std::int64_t{16384}},
                       {"causal", true}};
  const Values pages{{"block_table", true},
                     {"kv_lengths", true},
                     {"page_size", std::int64_t{16}},
                     {"pages", std::int64_t{40000}},
                     {"pages_a_sequence", std::int64_t{512}}};
  Values both = pages;
  both.insert({{"cu_queries", true}, {"queries", std::int64_t{2048}}, {"causal", true}});
  return {
      {"attention", attention_problem(4, 4096, 4096, 16, 16, 128, "bf16")},
      {"attention", attention_problem(4, 4096, 4096, 32, 8, 64, "f16", causal)},
      {"attention", attention_problem(1, 1, 8192, 32, 8, 128, "bf16", all)},
      {"attention",
       attention_problem(2, 127, 333, 6, 2, 200, "f16", {{"window", std::int64_t{64}}})},
      {"attention", attention_problem(2, 2048, 2048, 8, 8, 256, "bf16", all)},
      // More query heads to one of k and v than a tile has rows.
      {"attention", attention_problem(1, 1, 4096, 71, 1, 64, "bf16", {})},
      {"attention", attention_problem(16, 0, 0, 16, 16, 64, "bf16", lengths)},
      {"attention", attention_problem(16, 1, 0, 32, 8, 128, "bf16", pages)},
      {"attention", attention_problem(8, 0, 0, 32, 8, 64, "f16", both)},
      {"gemm", gemm(4096, 4096, 4096, "bf16", gelu)},
      {"gemm", gemm(8192, 14336, 4096, "f16", relu)},
      {"gemm", gemm(2048, 2048, 2048, "f32", silu)},
      {"gemm", gemm(1, 8192, 4096, "bf16", silu)},
      {"gemm", gemm(129, 264, 520, "f16", gelu)},
      {"gemm", gemm(37, 41, 43, "f32", relu)},
      {"gemm", gemm(31, 1000, 11008, "bf16", unaligned)},
      {"gemm", gemm(16, 64, 0, "f16", relu)},
      {"gemm", gemm(4096, 4096, 4096, "f16", everything)},
      {"gemm", gemm(2048, 2048, 2048, "f32", {{"precision", std::string("tf32")}})},
      {"gemm", gemm(4096, 4096, 4096, "e4m3", {{"scale_a", true}, {"scale_b", true}})},
      {"gemm", gemm(129, 264, 520, "e5m2", {{"b_dtype", std::string("e4m3")}})},
      {"gemm", gemm(4096, 7168, 2048, "e4m3", blocks)},
      {"gemm", gemm(64, 4096, 7168, "e4m3", blocks)},
      {"gemm", gemm(1, 4096, 4096, "e5m2")},
      {"gemm", gemm(512, 512, 64, "bf16", strided)},
      {"rms_norm", rms_norm(4096, 4096, "bf16", residuals)},
      {"rms_norm", rms_norm(16384, 8192, "f16")},
      {"rms_norm", rms_norm(3, 127, "f32", residuals)},
      {"rms_norm", rms_norm(2, 20000, "bf16")},
      {"rms_norm", rms_norm(5, 8191, "f16", unaligned)},
      {"rms_norm", rms_norm(1, 1, "bf16", residuals)},
      {"_compare", {{"count", std::int64_t{1000}}, {"dtype", std::string("bf16")}}},
      {"_compare", {{"count", std::int64_t{1000}}, {"dtype", std::string("f64")}}},
      {"_compare", {{"count", std::int64_t{1000}}, {"dtype", std::string("i8")}}},
      {"_compare", {{"count", std::int64_t{1000}}, {"dtype", std::string("e4m3")}}},
      {"_compare", {{"count", std::int64_t{1000}}, {"dtype", std::string("e5m2")}}},
      {"_repeat",
       {{"period", std::int64_t{97}},
        {"count", std::int64_t{1000}},
        {"dtype", std::string("e4m3")}}},
  };
}

// A specialization to compile, and afterwards what became of it.
struct Job {
  Device device;
  Specialization specialization;
  Binary binary;
  std::string failure;
};

std::vector<Job> default_jobs(TemplateLibrary& library) {
  std::vector<Job> jobs;
  for (const auto& [op, values] : given_problems()) {
    const auto entry = library.find(op);
    const Problem problem = make_problem(entry->manifest, values);
    for (const char* architecture : architectures) {
      const Device device = nominal_cuda_device(architecture).value();
      for (const auto& kernel : entry->templates) {
        if (!why_unfit(*kernel, problem, device).empty()) continue;
        CAPTURE(problem.describe());
        CAPTURE(kernel->name);
        const auto configuration = default_configuration(*kernel, problem, device);
        REQUIRE(configuration.has_value());
        jobs.push_back({device, specialize(kernel, problem, *configuration, device), {}, {}});
      }
    }
  }
  return jobs;
}

std::vector<Job> random_jobs(TemplateLibrary& library) {
  std::vector<Job> jobs;
  std::mt19937_64 generator(seed);
  const auto problems = given_problems();
  while (jobs.size() < random_configurations) {
    const GivenProblem& given = problems[generator() % problems.size()];
    const auto entry = library.find(given.op);
    const Problem problem = make_problem(entry->manifest, given.values);
    const Device device =
        nominal_cuda_device(architectures[generator() % architectures.size()]).value();
    const auto& kernel = entry->templates[generator() % entry->templates.size()];
    if (kernel->parameters.empty() || !why_unfit(*kernel, problem, device).empty()) continue;
    const TuningSpace space(space_definition(*kernel, problem, device));
    CAPTURE(problem.describe());
    REQUIRE(space.size() > 0);
    const auto configuration = space.configuration(generator() % space.size());
    jobs.push_back({device, specialize(kernel, problem, configuration, device), {}, {}});
  }
  return jobs;
}

void compile(std::vector<Job>& jobs, cuda::CudaCompiler& compiler) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::jthread> workers;
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
    workers.emplace_back([&] {
      for (std::size_t at = next++; at < jobs.size(); at = next++) try {
          jobs[at].binary = compiler.compile(jobs[at].specialization);
        } catch (const Error& error) {
          jobs[at].failure = fmt::format("{}\n{}", error.what(), error.detail());
        }
    });
}

const KernelResources* resources_of(const Job& job, const std::string& entry) {
  const auto& all = job.binary.resources;
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const auto& kernel) { return kernel.entry == entry; });
  return found == all.end() ? nullptr : &*found;
}

std::int64_t volume(const std::array<std::uint32_t, 3>& sides) {
  return std::int64_t{sides[0]} * sides[1] * sides[2];
}

void check_launch(const Job& job, const KernelLaunch& launch) {
  CAPTURE(launch.entry);
  const KernelResources* resources = resources_of(job, launch.entry);
  REQUIRE(resources != nullptr);
  const std::int64_t threads = volume(launch.block);
  CHECK(threads <= job.device.max_threads_per_block);
  CHECK(resources->shared_bytes + launch.shared_memory <= job.device.max_shared_memory);
  // A warp gets registers by 256, 8 a thread.
  const std::int64_t warps = (threads + 31) / 32;
  CHECK(warps * 32 * ((resources->registers + 7) / 8 * 8) <= job.device.registers_per_sm);
  // Eight blocks are what every device with clusters can do.
  CHECK(volume(launch.cluster) <= (job.device.sm >= 90 ? 8 : 1));
  for (std::size_t i = 0; i < 3; ++i) CHECK(launch.grid[i] % launch.cluster[i] == 0);
  // What y and z of a grid can be (CUDA C++ Programming Guide, compute capabilities).
  CHECK(std::max(launch.grid[1], launch.grid[2]) <= 65535);
}

std::string warnings(const std::string& log) {
  std::string found;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.find("warning") != std::string::npos) found += line + "\n";
  return found;
}

// Compiled without a warning, and launchable.
void check(const Job& job) {
  REQUIRE(job.failure == "");
  CHECK(warnings(job.binary.log) == "");
  for (const auto& launch : job.specialization.plan.launches) check_launch(job, launch);
}

bool spills(const Job& job) {
  return std::any_of(
      job.binary.resources.begin(), job.binary.resources.end(),
      [](const auto& kernel) { return kernel.spill_bytes != 0 || kernel.local_bytes != 0; });
}

class CompileTest {
 public:
  CompileTest() : compiler_(cuda::nvrtc_search(Environment::read())) {}

  bool can_run() { return have_nvrtc(compiler_); }

  std::vector<Job> compiled(std::vector<Job> (*jobs_of)(TemplateLibrary&)) {
    auto jobs = jobs_of(library_);
    compile(jobs, compiler_);
    double seconds = 0;
    for (const auto& job : jobs) seconds += job.binary.compile_seconds;
    MESSAGE(jobs.size(), " compiled in ", seconds, " s of all threads together");
    return jobs;
  }

 private:
  TemplateLibrary library_{{}};
  cuda::CudaCompiler compiler_;
};

TEST_CASE("the default of every cuda template compiles, spills nothing and can be launched") {
  CompileTest test;
  if (!test.can_run()) return;
  for (const Job& job : test.compiled(default_jobs)) {
    CAPTURE(job.specialization.description);
    check(job);
    for (const auto& kernel : job.binary.resources) {
      CAPTURE(kernel.entry);
      CHECK(kernel.spill_bytes == 0);
      CHECK(kernel.local_bytes == 0);
    }
  }
}

TEST_CASE("random configurations of cuda templates compile and can be launched") {
  CompileTest test;
  if (!test.can_run()) return;
  int spilling = 0;
  for (const Job& job : test.compiled(random_jobs)) {
    CAPTURE(job.specialization.description);
    check(job);
    if (spills(job)) ++spilling;
  }
  MESSAGE(spilling, " of ", random_configurations, " spill or use local memory");
}

}  // namespace
}  // namespace cudadent
