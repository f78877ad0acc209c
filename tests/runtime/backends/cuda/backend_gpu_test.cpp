// The CUDA backend on a real GPU. Skips, visibly, where there is none.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>

#include "runtime/backends/cuda/backend.h"

using namespace cudadent;
using Kind = Argument::Kind;

#define REQUIRE_GPU()                   \
  if (cuda_device_count() == 0) {       \
    MESSAGE("SKIPPED: no CUDA device"); \
    return;                             \
  }

namespace {

Backend& gpu() {
  static const auto backend = make_cuda_backend(0, Environment::read());
  return *backend;
}

std::shared_ptr<const Module> compile(const std::string& source) {
  Specialization specialization;
  specialization.source = source;
  specialization.architecture = gpu().device().architecture;
  specialization.hash = "test";
  return gpu().load(gpu().compile(specialization));
}

KernelLaunch launch_of(std::string entry, std::vector<Argument> arguments) {
  KernelLaunch launch;
  launch.entry = std::move(entry);
  launch.block = {128, 1, 1};
  launch.arguments = std::move(arguments);
  return launch;
}

template <typename T>
Buffer upload(const std::vector<T>& values) {
  Buffer buffer = gpu().allocate(values.size() * sizeof(T));
  gpu().copy_to_device(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}

template <typename T>
std::vector<T> download(const Buffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  gpu().copy_to_host(values.data(), buffer.data(), buffer.bytes());
  return values;
}

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

constexpr const char* scale_source = R"(
extern "C" __global__ void scale(float* out, const float* in, float by, int add, long long n) {
  long long i = blockIdx.x * 128LL + threadIdx.x;
  if (i < n) out[i] = in[i] * by + add;
})";

LaunchPlan scale_plan(int count) {
  LaunchPlan plan;
  plan.launches = {launch_of("scale", {{.kind = Kind::tensor, .index = 0},
                                       {.kind = Kind::tensor, .index = 1},
                                       {.kind = Kind::scalar, .index = 0},
                                       {.kind = Kind::i32, .integer = 5},
                                       {.kind = Kind::i64, .integer = count}})};
  plan.launches[0].grid[0] = static_cast<unsigned>((count + 127) / 128);
  return plan;
}

// Two kernels and a zeroed workspace: a sum with atomics, then its use.
constexpr const char* sum_source = R"(
extern "C" __global__ void sum(const float* in, float* partial) { atomicAdd(partial, in[threadIdx.x]); }
extern "C" __global__ void store(const float* partial, float* out) { if (threadIdx.x == 0) *out = *partial; })";

LaunchPlan sum_plan() {
  LaunchPlan plan;
  plan.workspaces = {{.name = "partial", .bytes = 4, .zeroed = Zeroed::every_launch}};
  plan.launches = {
      launch_of("sum", {{.kind = Kind::tensor, .index = 0}, {.kind = Kind::workspace, .index = 0}}),
      launch_of("store",
                {{.kind = Kind::workspace, .index = 0}, {.kind = Kind::tensor, .index = 1}})};
  return plan;
}

constexpr float sum_of_128 = 127 * 128 / 2;

template <typename Signature>
auto driver_function(const char* symbol) {
  void* library = dlopen("libcuda.so.1", RTLD_NOW);
  return reinterpret_cast<std::add_pointer_t<Signature>>(dlsym(library, symbol));
}

}  // namespace

TEST_CASE("gpu: the device describes itself") {
  REQUIRE_GPU();
  const Device& device = gpu().device();
  MESSAGE(device.kind() << ", driver " << device.driver << ", " << device.memory_bandwidth / 1e9
                        << " GB/s, L2 " << device.l2_bytes << " bytes, " << device.uuid);
  for (const auto& [name, value] : device.facts()) {
    CAPTURE(name);
    if (name == "device.cores" || name == "device.simd_bytes") continue;
    CHECK(value != Value(std::int64_t{0}));
  }
  const auto nominal = nominal_cuda_device(device.architecture);
  REQUIRE(nominal);
  CHECK(device.max_shared_memory == nominal->max_shared_memory);
  CHECK(device.shared_memory_per_sm == nominal->shared_memory_per_sm);
  CHECK(device.max_threads_per_sm == nominal->max_threads_per_sm);
  CHECK(device.registers_per_sm == nominal->registers_per_sm);
}

TEST_CASE("gpu: pointers, scalars and constants arrive") {
  REQUIRE_GPU();
  const auto executable = gpu().prepare(compile(scale_source), scale_plan(1000));
  const Buffer in = upload(counting(1000)), out = upload(std::vector<float>(1000));
  const std::vector<void*> tensors{out.data(), in.data()};
  const std::vector<double> scalars{2.0};
  executable->launch({.tensors = tensors, .scalars = scalars});
  const auto values = download<float>(out);
  for (const std::size_t i : {0U, 1U, 999U})
    CHECK(values[i] == 2.0F * static_cast<float>(i) + 5.0F);
}

TEST_CASE("gpu: several kernels share a zeroed workspace, again and again") {
  REQUIRE_GPU();
  const auto executable = gpu().prepare(compile(sum_source), sum_plan());
  const Buffer in = upload(counting(128)), out = upload(std::vector<float>(1));
  const std::vector<void*> tensors{in.data(), out.data()};
  for (int i = 0; i < 3; ++i) {
    executable->launch({.tensors = tensors, .scalars = {}});
    CHECK(download<float>(out)[0] == sum_of_128);
  }
}

TEST_CASE("gpu: shared memory beyond 48 KB") {
  REQUIRE_GPU();
  const auto module = compile(R"(
extern "C" __global__ void reverse(int* out, int last) {
  extern __shared__ int tile[];
  tile[last - threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = tile[last - 127 + threadIdx.x];
})");
  LaunchPlan plan;
  const auto bytes = static_cast<unsigned>(gpu().device().max_shared_memory);
  plan.launches = {launch_of("reverse", {{.kind = Kind::tensor, .index = 0},
                                         {.kind = Kind::i32, .integer = bytes / 4 - 1}})};
  plan.launches[0].shared_memory = bytes;
  const Buffer out = upload(std::vector<int>(128));
  const std::vector<void*> tensors{out.data()};
  gpu().prepare(module, plan)->launch({.tensors = tensors, .scalars = {}});
  CHECK(download<int>(out)[0] == 127);
  plan.launches[0].shared_memory = bytes + 16;
  CHECK_THROWS_WITH_AS(gpu().prepare(module, plan), doctest::Contains("a block"), Error);
}

TEST_CASE("gpu: clusters") {
  REQUIRE_GPU();
  if (gpu().device().sm < 90) {
    MESSAGE("SKIPPED: no clusters before 9.0");
    return;
  }
  const auto module = compile(R"(
extern "C" __global__ void rank(unsigned* out) {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  if (threadIdx.x == 0) out[blockIdx.x] = rank;
})");
  LaunchPlan plan;
  plan.launches = {launch_of("rank", {{.kind = Kind::tensor, .index = 0}})};
  plan.launches[0].grid = {4, 1, 1};
  plan.launches[0].cluster = {2, 1, 1};
  const Buffer out = upload(std::vector<unsigned>(4, 9));
  const std::vector<void*> tensors{out.data()};
  gpu().prepare(module, plan)->launch({.tensors = tensors, .scalars = {}});
  CHECK(download<unsigned>(out) == std::vector<unsigned>{0, 1, 0, 1});
}

TEST_CASE("gpu: tensor maps follow their tensors") {
  REQUIRE_GPU();
  if (gpu().device().sm < 90) {
    MESSAGE("SKIPPED: no tensor maps before 9.0");
    return;
  }
  const auto module = compile(R"(
struct alignas(64) Map { char opaque[128]; };
extern "C" __global__ void box(const __grid_constant__ Map map, float* out) {
  __shared__ alignas(128) float tile[4][8];
  __shared__ alignas(8) unsigned long long barrier;
  unsigned tile_address = __cvta_generic_to_shared(tile);
  unsigned barrier_address = __cvta_generic_to_shared(&barrier);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(barrier_address));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 128;" :: "r"(barrier_address));
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 :: "r"(tile_address), "l"(&map), "r"(8), "r"(4), "r"(barrier_address) : "memory");
  }
  __syncthreads();
  unsigned done = 0;
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;"
                 "  selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(barrier_address) : "memory");
  if (threadIdx.x < 32) out[threadIdx.x] = tile[threadIdx.x / 8][threadIdx.x % 8];
})");
  LaunchPlan plan;
  TensorMapPlan map;
  map.name = "map";
  map.index = 0;
  map.dtype = DataType::f32;
  map.dimensions = {32, 16};
  map.strides = {128};
  map.box = {8, 4};
  plan.tensor_maps = {map};
  plan.launches = {launch_of(
      "box", {{.kind = Kind::tensor_map, .index = 0}, {.kind = Kind::tensor, .index = 1}})};
  const auto executable = gpu().prepare(module, plan);
  std::vector<float> shifted = counting(512);
  for (float& value : shifted) value += 1000;
  const Buffer first = upload(counting(512)), second = upload(shifted);
  const Buffer out = upload(std::vector<float>(32));
  for (const float base : {0.0F, 1000.0F, 0.0F}) {
    const std::vector<void*> tensors{base == 0.0F ? first.data() : second.data(), out.data()};
    executable->launch({.tensors = tensors, .scalars = {}});
    const auto values = download<float>(out);
    CHECK(values[0] == base + 4 * 32 + 8);
    CHECK(values[31] == base + 7 * 32 + 15);
  }
}

TEST_CASE("gpu: threads without a context launch one executable at once") {
  REQUIRE_GPU();
  const auto executable = gpu().prepare(compile(scale_source), scale_plan(1000));
  const Buffer in = upload(counting(1000));
  std::vector<Buffer> outs;
  for (int t = 0; t < 6; ++t) outs.push_back(upload(std::vector<float>(1000)));
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < outs.size(); ++t)
    threads.emplace_back([&, t] {
      const std::vector<void*> tensors{outs[t].data(), in.data()};
      const std::vector<double> scalars{static_cast<double>(t)};
      for (int i = 0; i < 500; ++i) executable->launch({.tensors = tensors, .scalars = scalars});
    });
  for (auto& thread : threads) thread.join();
  for (std::size_t t = 0; t < outs.size(); ++t)
    CHECK(download<float>(outs[t])[10] == static_cast<float>(10 * t + 5));
}

TEST_CASE("gpu: timing gives plausible seconds, with and without workspaces") {
  REQUIRE_GPU();
  const Buffer in = upload(counting(1000)), out = upload(std::vector<float>(1000));
  const std::vector<void*> tensors{out.data(), in.data()};
  const std::vector<double> scalars{2.0};
  const auto scale = gpu().prepare(compile(scale_source), scale_plan(1000));
  auto seconds = gpu().time(*scale, {.tensors = tensors, .scalars = scalars}, 50);
  REQUIRE(seconds.size() == 50);
  std::sort(seconds.begin(), seconds.end());
  MESSAGE("a trivial kernel: " << 1e6 * seconds[25] << " us");
  CHECK(seconds.front() > 0);
  CHECK(seconds[25] < 50e-6);  // not the host's latency, nor the flush

  const auto sum = gpu().prepare(compile(sum_source), sum_plan());
  const std::vector<void*> sum_tensors{in.data(), out.data()};
  CHECK(gpu().time(*sum, {.tensors = sum_tensors, .scalars = {}}, 40).size() == 40);
  CHECK(download<float>(out)[0] == sum_of_128);
}

TEST_CASE("gpu: launching costs little more than the driver's own launch") {
  REQUIRE_GPU();
  const auto executable = gpu().prepare(compile(scale_source), scale_plan(1));
  const Buffer in = upload(counting(1)), out = upload(std::vector<float>(1));
  const std::vector<void*> tensors{out.data(), in.data()};
  const std::vector<double> scalars{2.0};
  double best = 1;
  for (int round = 0; round < 20; ++round) {
    gpu().synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 200; ++i) executable->launch({.tensors = tensors, .scalars = scalars});
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count() / 200);
  }
  MESSAGE("launch() from a thread without a context: " << 1e6 * best << " us");
  CHECK(best < 50e-6);  // a sanity bound; the figure is for people
}

TEST_CASE("gpu: a launch with a workspace is captured into a graph, unlaunched before") {
  REQUIRE_GPU();
  const auto begin = driver_function<int(void*, int)>("cuStreamBeginCapture_v2");
  const auto end = driver_function<int(void*, void**)>("cuStreamEndCapture");
  const auto instantiate =
      driver_function<int(void**, void*, unsigned long long)>("cuGraphInstantiateWithFlags");
  const auto launch_graph = driver_function<int(void*, void*)>("cuGraphLaunch");
  const auto destroy_graph = driver_function<int(void*)>("cuGraphDestroy");
  const auto destroy_executable = driver_function<int(void*)>("cuGraphExecDestroy");
  const cuda::Driver driver = cuda::load_driver();
  cuda::Context context = nullptr;
  REQUIRE(driver.primary_context_retain(&context, 0) == cuda::Result::success);
  const cuda::ContextScope scope(driver, context);
  Stream stream = nullptr;
  REQUIRE(driver.stream_create(&stream, cuda::stream_non_blocking) == cuda::Result::success);

  const auto executable = gpu().prepare(compile(sum_source), sum_plan());
  const Buffer in = upload(counting(128)), out = upload(std::vector<float>(1));
  const std::vector<void*> tensors{in.data(), out.data()};
  void* graph = nullptr;
  void* graph_executable = nullptr;
  CHECK_FALSE(gpu().capturing(stream));
  REQUIRE(begin(stream, 0) == 0);
  CHECK(gpu().capturing(stream));
  CHECK_NOTHROW(executable->launch({.tensors = tensors, .scalars = {}, .stream = stream}));
  REQUIRE(end(stream, &graph) == 0);
  CHECK(download<float>(out)[0] == 0);
  REQUIRE(instantiate(&graph_executable, graph, 0) == 0);
  for (int i = 0; i < 2; ++i) {
    gpu().fill(out.data(), std::byte{0}, 4);
    REQUIRE(launch_graph(graph_executable, stream) == 0);
    CHECK(download<float>(out)[0] == sum_of_128);
  }
  destroy_executable(graph_executable);
  destroy_graph(graph);
  driver.stream_destroy(stream);
  driver.primary_context_release(0);
}

TEST_CASE("gpu: what does not fit is refused with the reason, and the device stays usable") {
  REQUIRE_GPU();
  const auto module = compile(scale_source);
  LaunchPlan plan = scale_plan(1);
  plan.launches[0].block = {2048, 1, 1};
  CHECK_THROWS_WITH_AS(gpu().prepare(module, plan), doctest::Contains("2048 threads"), Error);
  plan = scale_plan(1);
  plan.launches[0].arguments.pop_back();
  CHECK_THROWS_WITH_AS(gpu().prepare(module, plan), doctest::Contains("\"args\""), Error);
  plan = scale_plan(1);
  plan.launches[0].entry = "nowhere";
  CHECK_THROWS_WITH_AS(gpu().prepare(module, plan), doctest::Contains("no kernel 'nowhere'"),
                       Error);

  Binary nonsense;
  nonsense.image.resize(100, std::byte{1});
  CHECK_THROWS_AS(gpu().prepare(gpu().load(nonsense), scale_plan(1)), Error);
  CHECK_THROWS_WITH_AS(gpu().allocate(std::size_t{1} << 50),
                       doctest::Contains("Free device memory"), Error);
  CHECK_NOTHROW(gpu().synchronize());
  CHECK(gpu().lost() == Loss::none);
}
