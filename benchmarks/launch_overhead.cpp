// Host time of a cached launch beside a bare cuLaunchKernel, in one process.
//
// Calls are timed in batches on the host clock, small enough for the driver's queue never to be full;
// the device is idle when a batch begins. Prints the median of many batches, interleaved, as JSON.

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <vector>

#include "api/parts.h"
#include "runtime/cuda/driver.h"
#include "tuner/statistics.h"

namespace {

using namespace cudadent;

constexpr int calls_a_batch = 200, batches = 200;

// Four pointers and an integer, as the smallest operators take.
constexpr const char* empty_kernel = R"(.version 8.0
.target sm_75
.address_size 64
.visible .entry empty(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d, .param .u32 e)
{ ret; }
)";

struct Contender {
  std::string name;
  std::function<void()> call;
  std::vector<double> seconds{};  // a call, a batch each
};

struct DeviceTensors {
  Backend& backend;
  std::vector<Buffer> buffers{};
  Tensor make(DataType dtype, std::initializer_list<std::int64_t> shape) {
    std::size_t bytes = size_of(dtype);
    for (const auto extent : shape) bytes *= static_cast<std::size_t>(extent);
    buffers.push_back(backend.allocate(bytes));
    backend.fill(buffers.back().data(), std::byte{0}, bytes);
    return {buffers.back().data(), dtype, shape, backend.device().ordinal};
  }
};

double batch(const Contender& contender, Backend& backend) {
  using Clock = std::chrono::steady_clock;
  backend.synchronize();
  const auto start = Clock::now();
  for (int i = 0; i < calls_a_batch; ++i) contender.call();
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  backend.synchronize();
  return elapsed / calls_a_batch;
}

}  // namespace

int main() try {
  RuntimeOptions options;
  options.device = "cuda";
  options.cache = ":memory:";
  options.on_miss = OnMiss::nearest;
  Runtime runtime(options);
  Backend& backend = *runtime.parts().backend;
  const cuda::Driver driver = cuda::load_driver();

  cuda::Context context = nullptr;
  cuda::check(driver, driver.primary_context_retain(&context, backend.device().ordinal), "retain");
  const cuda::ContextScope scope(driver, context);
  cuda::Library library = nullptr;
  cuda::Kernel kernel = nullptr;
  cuda::Function function = nullptr;
  cuda::check(driver,
              driver.library_load(&library, empty_kernel, nullptr, nullptr, 0, nullptr, nullptr, 0),
              "load");
  cuda::check(driver, driver.library_kernel(&kernel, library, "empty"), "find kernel");
  cuda::check(driver, driver.kernel_function(&function, kernel), "get function");

  std::uint64_t pointer = 0;
  std::uint32_t number = 0;
  std::array<void*, 5> parameters{&pointer, &pointer, &pointer, &pointer, &number};
  const auto launch_bare = [&] {
    cuda::check(driver,
                driver.launch(function, 1, 1, 1, 128, 1, 1, 0, nullptr, parameters.data(), nullptr),
                "launch");
  };

  DeviceTensors tensors{backend};
  const Operator rms_norm = runtime.op("rms_norm"), gemm = runtime.op("gemm");
  const Tensor x = tensors.make(DataType::bf16, {8, 64}), y = tensors.make(DataType::bf16, {8, 64}),
               weight = tensors.make(DataType::bf16, {64});
  const Tensor a = tensors.make(DataType::bf16, {64, 64}),
               b = tensors.make(DataType::bf16, {64, 64}),
               c = tensors.make(DataType::bf16, {64, 64});
  std::vector<Tensor> norm_tensors;
  for (const auto& name : rms_norm.tensors())
    norm_tensors.push_back(name == "x"        ? x
                           : name == "y"      ? y
                           : name == "weight" ? weight
                                              : Tensor());
  const std::vector<Tensor> gemm_tensors{a, b, Tensor(), c};
  const auto prepared = gemm.prepare(gemm_tensors);

  std::vector<Contender> contenders{
      {"bare cuLaunchKernel", launch_bare},
      {"cudadent rms_norm 8x64", [&] { rms_norm.launch(norm_tensors); }},
      {fmt::format("cudadent gemm 64x64x64 ({})", prepared.winner.kernel_template),
       [&] { gemm.launch(gemm_tensors); }}};
  for (const auto& contender : contenders) batch(contender, backend);  // warm up
  for (int i = 0; i < batches; ++i)
    for (auto& contender : contenders) contender.seconds.push_back(batch(contender, backend));

  fmt::print("{{\"device\": \"{}\", \"calls\": {}, \"microseconds\": {{", runtime.device_name(),
             calls_a_batch * batches);
  for (std::size_t i = 0; i < contenders.size(); ++i)
    fmt::print("{}\"{}\": {:.3f}", i == 0 ? "" : ", ", contenders[i].name,
               1e6 * median(contenders[i].seconds));
  fmt::print("}}}}\n");
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
