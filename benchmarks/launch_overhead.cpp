// Host time of a cached launch beside a bare cuLaunchKernel of the same kernel with the same arguments, in
// one process.
//
// Calls are timed in batches on the host clock, small enough for the driver's queue never to be full;
// the device is idle when a batch begins. Prints the median of many batches, interleaved, as JSON.
//
// Then calls whose problem is new each time while its bucket is known, in turns with one that is repeated: each
// number of rows, keys or tokens is met once. With a device's name ("host") as argument nothing else is timed.

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "api/parts.h"
#include "runtime/backends/cuda/driver.h"
#include "runtime/language/backend_kind.h"
#include "runtime/operators/specialization.h"
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
    return {buffers.back().data(), dtype, shape, tensor_place(backend.device())};
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

// Seconds a call.
double timed(Backend& backend, int calls, const std::function<void(int)>& call) {
  using Clock = std::chrono::steady_clock;
  backend.synchronize();
  const auto start = Clock::now();
  for (int i = 0; i < calls; ++i) call(i);
  const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  backend.synchronize();
  return elapsed / calls;
}

double batch(const Contender& contender, Backend& backend) {
  return timed(backend, calls_a_batch, [&](int) { contender.call(); });
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
  std::vector<void*> pointers(entry->manifest->tensors.size());  // in manifest order
  const CallOrder order = entry->manifest->call_order();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    pointers[order.place(i, tensors.size())] = tensors[i].data;
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

// ------------------------------------------------------------------------------- members of a bucket

constexpr int members = 1000, members_a_batch = 50;

// An operator's tensors with one extent, of which `most` is the largest: those down to most − members − 1 share
// its bucket.
struct BucketCase {
  std::string name, op;
  Values options;
  std::int64_t most = 0;
  std::vector<Tensor> tensors{};                       // of the largest
  std::vector<std::pair<std::size_t, int>> extents{};  // which tensors' which dimensions it is
};

std::vector<BucketCase> bucket_cases(DeviceTensors& memory) {
  const auto make = [&](std::initializer_list<std::int64_t> shape) {
    return memory.make(DataType::bf16, shape);
  };
  // Where three sequences begin and end. Rows behind the last one's end are nobody's.
  const Tensor ends = memory.make(DataType::i32, {4});
  const std::array<std::int32_t, 4> positions{0, 100, 356, 1000};
  memory.backend.copy_to_device(ends.data, positions.data(), sizeof positions);
  const Tensor tokens = make({2048, 2, 64}), kept = make({1, 8192, 8, 64});
  const Tensor one = make({1, 1, 8, 64}), none;
  std::vector<BucketCase> cases;
  cases.push_back({"gemm, another m of one bucket",
                   "gemm",
                   {},
                   16384,
                   {make({16384, 64}), make({64, 64}), make({16384, 64})},
                   {{0, 0}, {2, 0}}});
  cases.push_back({"attention, one query, one more key",
                   "attention",
                   {},
                   8192,
                   {one, kept, kept, make({1, 1, 8, 64})},
                   {{1, 1}, {2, 1}}});
  cases.push_back({"attention, another total of tokens",
                   "attention",
                   {{"causal", true}},
                   2048,
                   {tokens, tokens, tokens, make({2048, 2, 64}), none, ends, ends},
                   {{0, 0}, {1, 0}, {2, 0}, {3, 0}}});
  cases.push_back({"rms_norm, another number of rows",
                   "rms_norm",
                   {},
                   8192,
                   {make({8192, 64}), make({64}), make({8192, 64})},
                   {{0, 0}, {2, 0}}});
  return cases;
}

void time_members(Runtime& runtime, const BucketCase& given) {
  Backend& backend = *runtime.parts().backend;
  const Operator op = runtime.op(given.op, given.options);
  std::vector<std::vector<Tensor>> calls;
  for (int i = 0; i < members + 2; ++i) {
    auto& tensors = calls.emplace_back(given.tensors);
    for (const auto& [tensor, dimension] : given.extents)
      tensors[tensor].shape[static_cast<std::size_t>(dimension)] = given.most - i;
  }
  op.launch(calls[0]);  // the bucket's first
  op.launch(calls[1]);
  std::vector<double> repeated, fresh;
  for (int first = 2; first < members; first += members_a_batch) {
    repeated.push_back(timed(backend, members_a_batch, [&](int) { op.launch(calls[0]); }));
    fresh.push_back(timed(backend, members_a_batch,
                          [&](int i) { op.launch(calls[static_cast<std::size_t>(first + i)]); }));
  }
  fmt::print("{{\"{}\": {{\"repeated\": {:.2f}, \"new\": {:.2f}, \"over\": {:.2f}}}}}\n",
             given.name, 1e6 * median(repeated), 1e6 * median(fresh),
             1e6 * (median(fresh) - median(repeated)));
}

void time_buckets(Runtime& runtime) {
  DeviceTensors memory{*runtime.parts().backend};
  for (const BucketCase& given : bucket_cases(memory)) time_members(runtime, given);
}

}  // namespace

int main(int count, char** arguments) try {
  RuntimeOptions options;
  options.device = count > 1 ? arguments[1] : "cuda";
  options.cache = ":memory:";
  options.on_miss = OnMiss::nearest;
  Runtime runtime(options);
  if (count > 1) {
    time_buckets(runtime);
    return 0;
  }
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
  time_buckets(runtime);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
