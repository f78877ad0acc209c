// From a plan and a module to an executable, with every limit checked and named.
#include <fmt/format.h>

#include "runtime/backends/cuda/executable.h"

namespace cudadent::cuda {

namespace {

[[noreturn]] void refuse(const KernelLaunch& launch, const std::string& why) {
  throw Error(ErrorCode::launch_failed,
              fmt::format("Kernel '{}' cannot be launched: {}", launch.entry, why));
}

std::uint64_t volume(const std::array<std::uint32_t, 3>& sides) {
  return std::uint64_t{sides[0]} * sides[1] * sides[2];
}

int attribute(const Gpu& gpu, Function function, FunctionAttribute which) {
  int value = 0;
  gpu.check(gpu.driver.function_attribute(&value, which, function), "read a kernel's resources");
  return value;
}

void check_grid(const Gpu& gpu, const KernelLaunch& launch) {
  constexpr std::array<char, 3> axis{'x', 'y', 'z'};
  for (std::size_t i = 0; i < 3; ++i) {
    if (launch.grid[i] == 0 || launch.block[i] == 0 || launch.cluster[i] == 0)
      refuse(launch, "its grid, block or cluster has a side of 0.");
    if (launch.grid[i] > gpu.max_grid[i])
      refuse(launch, fmt::format("its grid is {} blocks in {}, {} has at most {}.", launch.grid[i],
                                 axis[i], gpu.device.name, gpu.max_grid[i]));
  }
}

// Returns the most threads that a block may have.
unsigned check_block(const Gpu& gpu, const KernelLaunch& launch, Function function) {
  const auto most = attribute(gpu, function, FunctionAttribute::max_threads_per_block);
  if (volume(launch.block) > static_cast<std::uint64_t>(most))
    refuse(
        launch,
        fmt::format("its block has {} threads, and with {} registers each it may have {} at most "
                    "(the device allows {}).",
                    volume(launch.block), attribute(gpu, function, FunctionAttribute::registers),
                    most, gpu.device.max_threads_per_block));
  return static_cast<unsigned>(most);
}

void check_shared_memory(const Gpu& gpu, const KernelLaunch& launch, Function function,
                         const CudaModule& module) {
  const std::int64_t fixed = attribute(gpu, function, FunctionAttribute::shared_bytes);
  if (fixed + launch.shared_memory > gpu.device.max_shared_memory)
    refuse(launch,
           fmt::format("it needs {} bytes of shared memory and {} dynamically, {} has {} a "
                       "block.",
                       fixed, launch.shared_memory, gpu.device.name, gpu.device.max_shared_memory));
  if (launch.shared_memory > 0)
    module.allow_shared_memory(function, launch.entry, launch.shared_memory);
}

// A cluster of 8 blocks works everywhere from 9.0 on; up to 16 is for the device to decide, at
// launch (CUDA C++ Programming Guide, "Thread Block Clusters").
void check_cluster(const Gpu& gpu, const KernelLaunch& launch, Function function) {
  const std::uint64_t blocks = volume(launch.cluster);
  if (blocks == 1) return;
  if (gpu.device.sm < 90)
    refuse(launch,
           fmt::format("it is launched in clusters, which {} does not have.", gpu.device.name));
  if (blocks > 16) refuse(launch, fmt::format("its cluster has {} blocks, at most 16.", blocks));
  for (std::size_t i = 0; i < 3; ++i)
    if (launch.grid[i] % launch.cluster[i] != 0)
      refuse(launch, fmt::format("its grid of {} is no multiple of its cluster of {}.",
                                 fmt::join(launch.grid, "x"), fmt::join(launch.cluster, "x")));
  if (blocks > 8)
    gpu.check(gpu.driver.function_set_attribute(
                  function, FunctionAttribute::non_portable_cluster_size_allowed, 1),
              fmt::format("allow '{}' a cluster of {} blocks", launch.entry, blocks));
}

std::size_t parameter_bytes(Argument::Kind kind) {
  switch (kind) {
    case Argument::Kind::i32:
    case Argument::Kind::f32:
    case Argument::Kind::scalar:
      return 4;
    case Argument::Kind::tensor_map:
      return sizeof(TensorMap);
    case Argument::Kind::tensor:
    case Argument::Kind::workspace:
    case Argument::Kind::i64:
      return 8;
  }
  return 0;
}

const char* describe(Argument::Kind kind) {
  switch (kind) {
    case Argument::Kind::tensor:
      return "a tensor's pointer";
    case Argument::Kind::workspace:
      return "a workspace's pointer";
    case Argument::Kind::tensor_map:
      return "a tensor map";
    case Argument::Kind::scalar:
      return "a float scalar";
    case Argument::Kind::i32:
      return "an int";
    case Argument::Kind::i64:
      return "a long long";
    case Argument::Kind::f32:
      return "a float";
  }
  return "";
}

// Too few arguments would make the driver read past the end of our pointers.
void check_parameters(const Gpu& gpu, const KernelLaunch& launch, Function function) {
  if (gpu.driver.function_parameter == nullptr) return;  // older than 12.4
  const auto& arguments = launch.arguments;
  const auto mismatch = [&](const std::string& why) {
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("\"args\" of '{}' do not fit the kernel: {}", launch.entry, why));
  };
  std::size_t offset = 0, bytes = 0;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto kind = arguments[i].kind;
    if (gpu.driver.function_parameter(function, i, &offset, &bytes) != Result::success)
      mismatch(fmt::format("it has {} parameters, the manifest {}.", i, arguments.size()));
    if (bytes != parameter_bytes(kind))
      mismatch(fmt::format("parameter {} has {} bytes in the kernel, {} in the manifest ({}).", i,
                           bytes, parameter_bytes(kind), describe(kind)));
  }
  if (gpu.driver.function_parameter(function, arguments.size(), &offset, &bytes) == Result::success)
    mismatch(fmt::format("it has more parameters than the manifest's {}.", arguments.size()));
}

Step prepare_step(const Gpu& gpu, const CudaModule& module, const KernelLaunch& launch) {
  Step step;
  const Function function = module.function(launch.entry);
  check_parameters(gpu, launch, function);
  check_grid(gpu, launch);
  step.max_threads = check_block(gpu, launch, function);
  check_shared_memory(gpu, launch, function, module);
  check_cluster(gpu, launch, function);
  step.max_shared_memory = launch.shared_memory;
  step.function = function;
  step.grid = launch.grid;
  step.block = launch.block;
  step.shared_memory = launch.shared_memory;
  step.clustered = volume(launch.cluster) > 1;
  for (std::size_t i = 0; i < 3; ++i) step.cluster.cluster[i] = launch.cluster[i];
  step.entry = launch.entry;
  return step;
}

}  // namespace

bool Step::take(const Gpu& gpu, const KernelLaunch& launch) noexcept {
  for (std::size_t i = 0; i < 3; ++i)
    if (launch.cluster[i] != cluster.cluster[i] || launch.grid[i] > gpu.max_grid[i] ||
        launch.grid[i] % launch.cluster[i] != 0)
      return false;
  if (volume(launch.block) > max_threads || launch.shared_memory > max_shared_memory) return false;
  grid = launch.grid;
  block = launch.block;
  shared_memory = launch.shared_memory;
  return true;
}

std::unique_ptr<const Executable> prepare_executable(std::shared_ptr<const Gpu> gpu,
                                                     std::shared_ptr<const CudaModule> module,
                                                     const LaunchPlan& plan) {
  const ContextScope scope = gpu->scope();
  std::vector<Step> steps;
  std::size_t first_parameter = 0;
  for (const KernelLaunch& launch : plan.launches) {
    steps.push_back(prepare_step(*gpu, *module, launch));
    steps.back().first_parameter = first_parameter;
    first_parameter += launch.arguments.size();
  }
  ArgumentLayout layout = lay_out(plan);
  if (layout.workspace_bytes + layout.kept_bytes > 0 && gpu->pool == nullptr)
    throw Error(ErrorCode::unsupported,
                fmt::format("{} has no memory pools, which kernels with workspaces need.",
                            gpu->device.name));
  return std::make_unique<CudaExecutable>(std::move(gpu), std::move(module), std::move(layout),
                                          std::move(steps));
}

}  // namespace cudadent::cuda
