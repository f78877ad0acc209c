// Host time of a cached launch beside a bare cuLaunchKernel of the same kernel with the same arguments, in
// one process.
//
// Calls are timed in batches on the host clock, small enough for the driver's queue never to be full;
// the device is idle when a batch begins. Prints the median of many batches, interleaved, as JSON.

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <vector>

#include "api/parts.h"
#include "runtime/cuda/driver.h"
#include "runtime/specialization.h"
#include "tuner/statistics.h"

namespace {

using namespace cudadent;

constexpr int calls_a_batch = 200, batches = 200;

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

// The driver's own launch of a specialization without workspaces or tensor maps: everything is prepared.
class BareLaunch {
 public:
  BareLaunch(const cuda::Driver& driver, const Binary& binary, const KernelLaunch& launch,
             std::span<void* const> tensors, std::span<const double> scalars)
      : driver_(driver), launch_(launch), values_(launch.arguments.size()) {
    cuda::Library library = nullptr;
    cuda::Kernel kernel = nullptr;
    cuda::check(driver,
                driver.library_load(&library, binary.image.data(), nullptr, nullptr, 0, nullptr,
                                    nullptr, 0),
                "load");
    cuda::check(driver, driver.library_kernel(&kernel, library, launch.entry.c_str()), "find");
    cuda::check(driver, driver.kernel_function(&function_, kernel), "get the function");
    cuda::check(
        driver,
        driver.function_set_attribute(function_, cuda::FunctionAttribute::max_dynamic_shared_bytes,
                                      static_cast<int>(launch.shared_memory)),
        "allow shared memory");
    for (std::size_t i = 0; i < values_.size(); ++i) {
      const Argument& argument = launch.arguments[i];
      const auto index = static_cast<std::size_t>(argument.index);
      const auto store = [&](auto value) { std::memcpy(&values_[i], &value, sizeof value); };
      switch (argument.kind) {
        case Argument::Kind::tensor:
          store(tensors[index]);
          break;
        case Argument::Kind::scalar:
          store(static_cast<float>(scalars[index]));
          break;
        case Argument::Kind::f32:
          store(static_cast<float>(argument.real));
          break;
        default:
          store(argument.integer);
      }
      parameters_.push_back(&values_[i]);
    }
  }
  void operator()() {
    cuda::check(driver_,
                driver_.launch(function_, launch_.grid[0], launch_.grid[1], launch_.grid[2],
                               launch_.block[0], launch_.block[1], launch_.block[2],
                               launch_.shared_memory, nullptr, parameters_.data(), nullptr),
                "launch");
  }

 private:
  const cuda::Driver& driver_;
  KernelLaunch launch_;
  cuda::Function function_ = nullptr;
  std::vector<std::uint64_t> values_;
  std::vector<void*> parameters_;
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

// The same operator launched by the driver alone and by cudadent.
void add_pair(std::vector<Contender>& contenders, Runtime& runtime, const cuda::Driver& driver,
              const std::string& name, const std::vector<Tensor>& tensors) {
  Runtime::Parts& parts = runtime.parts();
  const auto entry = parts.library.find(name);
  const Operator op = runtime.op(name);
  const Problem problem =
      problem_of(entry->manifest, tensors, complete_options(*entry->manifest, {}));
  const Winner winner = op.prepare(tensors).winner;
  std::vector<void*> pointers;
  for (const auto& tensor : tensors) pointers.push_back(tensor.data);
  for (const auto& kernel : entry->templates) {
    if (kernel->name != winner.kernel_template) continue;
    const auto specialization =
        specialize(kernel, problem, winner.configuration, parts.backend->device());
    for (const auto& workspace : specialization.plan.workspaces)
      if (workspace.bytes > 0) throw Error(ErrorCode::internal, name + " needs a workspace");
    if (!specialization.plan.tensor_maps.empty())
      throw Error(ErrorCode::internal, name + " needs tensor maps");
    const auto bare = std::make_shared<BareLaunch>(
        driver, obtain_binary(*parts.backend, parts.store, specialization),
        specialization.plan.launches.front(), pointers, problem.scalars);
    contenders.push_back(
        {fmt::format("{}/{}: cuLaunchKernel", name, kernel->name), [bare] { (*bare)(); }});
  }
  contenders.push_back({fmt::format("{}/{}: cudadent", name, winner.kernel_template),
                        [op, tensors] { op.launch(tensors); }});
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

  DeviceTensors memory{backend};
  std::vector<Tensor> norm_tensors;
  const Operator rms_norm = runtime.op("rms_norm");
  for (const auto& name : rms_norm.tensors())
    norm_tensors.push_back(name == "x" || name == "y" ? memory.make(DataType::bf16, {8, 64})
                           : name == "weight"         ? memory.make(DataType::bf16, {64})
                                                      : Tensor());
  const Tensor a = memory.make(DataType::f32, {64, 64}), b = memory.make(DataType::f32, {64, 64}),
               c = memory.make(DataType::f32, {64, 64});
  std::vector<Contender> contenders;
  add_pair(contenders, runtime, driver, "rms_norm", norm_tensors);
  add_pair(contenders, runtime, driver, "gemm", {a, b, Tensor(), c});

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
