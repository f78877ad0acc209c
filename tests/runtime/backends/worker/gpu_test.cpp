// Kernels that take a GPU's context down, in a worker. Skips, visibly, where there is no GPU or no worker.
#include <doctest/doctest.h>

#include "runtime/backends/cuda/backend.h"
#include "tests/support/errors.h"
#include "tests/support/fates.h"

#define REQUIRE_GPU()                                                          \
  if (cuda_device_count() == 0) {                                              \
    MESSAGE("SKIPPED: no CUDA device");                                        \
    return;                                                                    \
  }                                                                            \
  if (worker_program().empty()) {                                              \
    MESSAGE("SKIPPED: no cudadent-worker here; CUDADENT_WORKER may name one"); \
    return;                                                                    \
  }

namespace cudadent {
namespace {

using namespace tests;
using Kind = Argument::Kind;

constexpr const char* source = R"(
extern "C" __global__ void well(float* out) { out[threadIdx.x] = 2 * threadIdx.x; }
extern "C" __global__ void illegal(float* out) { *(float*)16 = out[0]; }
extern "C" __global__ void misaligned(float* out) { *(float*)((char*)out + 1) = 1; }
extern "C" __global__ void asserts(float* out) { if (out) asm volatile("trap;"); }
extern "C" __global__ void hangs(volatile float* out) { while (out[0] >= 0 || out[0] < 0) out[1] = 1; }
)";

struct Gpu {
  std::unique_ptr<Backend> backend =
      make_worker_backend(Environment::read(), {.program = worker_program(), .device = "cuda"});
  Binary binary = compiled();

  Binary compiled() const {
    Specialization specialization;
    specialization.source = source;
    specialization.architecture = backend->device().architecture;
    specialization.hash = "test";
    specialization.description = "a test's kernels";
    return backend->compile(specialization);
  }
  std::vector<float> run(const std::string& entry) const {
    LaunchPlan plan;
    KernelLaunch launch;
    launch.entry = entry;
    launch.block = {128, 1, 1};
    launch.arguments = {{.kind = Kind::tensor, .index = 0}};
    plan.launches = {launch};
    const auto executable = backend->prepare(backend->load(binary), plan);
    const Buffer out = backend->allocate(128 * sizeof(float));
    backend->fill(out.data(), std::byte{0}, out.bytes());
    const std::array<void*, 1> tensors{out.data()};
    executable->launch({tensors, {}, nullptr});
    backend->synchronize();
    CHECK(backend->time(*executable, {tensors, {}, nullptr}, 5).size() == 5);
    std::vector<float> values(128);
    backend->copy_to_host(values.data(), out.data(), out.bytes());
    return values;
  }
  bool runs_well() const {
    const auto values = run("well");
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] != static_cast<float>(2 * i)) return false;
    return true;
  }
};

TEST_CASE("gpu: a worker's GPU is this process's GPU") {
  REQUIRE_GPU();
  const Gpu gpu;
  const auto here = make_cuda_backend(0, Environment::read());
  CHECK(gpu.backend->device().uuid == here->device().uuid);
  CHECK(gpu.backend->device().kind() == here->device().kind());
  CHECK(gpu.backend->device().facts() == here->device().facts());
  CHECK(gpu.backend->measurement() == here->measurement());
  CHECK(gpu.backend->compiler() == here->compiler());
  CHECK(gpu.runs_well());
}

TEST_CASE("gpu: kernels that fault cost their worker, and this process's context nothing") {
  REQUIRE_GPU();
  const auto here = make_cuda_backend(0, Environment::read());
  const Gpu gpu;
  for (const char* entry : {"illegal", "misaligned", "asserts"}) {
    CAPTURE(entry);
    const auto error = error_of([&] { gpu.run(entry); });
    REQUIRE(error);
    MESSAGE(std::string(entry) << ": " << std::string(error->what()));
    CHECK(error->code() == ErrorCode::launch_failed);
    CHECK(gpu.backend->lost() == Loss::fault);
    REQUIRE(gpu.backend->recover());
    CHECK(gpu.runs_well());
  }
  CHECK_NOTHROW(here->synchronize());
  CHECK(here->lost() == Loss::none);
}

TEST_CASE("gpu: a kernel that never ends is ended") {
  REQUIRE_GPU();
  const auto here = make_cuda_backend(0, Environment::read());
  const Gpu gpu;
  gpu.backend->limit_runs(1);
  CHECK(fails(ErrorCode::timed_out, {"1 s"}, [&] { gpu.run("hangs"); }));
  CHECK(gpu.backend->lost() == Loss::timeout);
  REQUIRE(gpu.backend->recover());
  CHECK(gpu.runs_well());
  CHECK_NOTHROW(here->synchronize());
}

TEST_CASE("gpu: more memory than there is, is refused") {
  REQUIRE_GPU();
  const Gpu gpu;
  CHECK(fails(ErrorCode::machine_failed, {"allocate"},
              [&] { gpu.backend->allocate(std::size_t{1} << 50); }));
  CHECK(gpu.backend->lost() == Loss::none);
  CHECK(gpu.runs_well());
}

}  // namespace
}  // namespace cudadent
