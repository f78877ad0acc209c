#include "runtime/backends/cuda/executable.h"

#include <fmt/format.h>

#include <cstring>
#include <new>
#include <optional>

namespace cudadent::cuda {

namespace {

constexpr std::align_val_t block_alignment{alignof(TensorMap)};

// A plan with a few tensor maps needs well under 1 KiB; a longer block comes from the heap.
constexpr std::size_t stack_block_bytes = 4096;

// Device memory between an allocation and a release, both in the order of a stream; the first
// `zeroed_bytes` of it are zeroed.
class StreamMemory {
 public:
  StreamMemory(const Gpu& gpu, std::size_t bytes, std::size_t zeroed_bytes, Stream stream)
      : gpu_(gpu), stream_(stream) {
    gpu.check(gpu.driver.pool_allocate(&pointer_, bytes, gpu.pool, stream),
              "allocate a kernel's workspace");
    if (zeroed_bytes == 0) return;
    const Result zeroed = gpu.driver.fill(pointer_, 0, zeroed_bytes, stream);
    if (zeroed == Result::success) return;
    gpu.driver.pool_free(pointer_, stream);
    gpu.fail(zeroed, "zero a kernel's workspace");
  }
  ~StreamMemory() { gpu_.driver.pool_free(pointer_, stream_); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;
  [[nodiscard]] DevicePointer pointer() const { return pointer_; }

 private:
  const Gpu& gpu_;
  Stream stream_;
  DevicePointer pointer_ = 0;
};

struct Release {
  std::atomic_flag& busy;
  ~Release() { busy.clear(std::memory_order_release); }
};

// Blocks are raw memory that the driver reads through pointers; memcpy is how values get in.
template <typename T>
void store(std::byte* block, std::size_t offset, T value) {
  std::memcpy(block + offset, &value, sizeof value);
}

[[noreturn]] void too_few_arguments(const ArgumentLayout& layout, const LaunchArguments& given) {
  throw Error(ErrorCode::internal,
              fmt::format("A plan of {} tensors and {} scalars was launched with {} and {}.",
                          layout.tensor_count, layout.scalar_count, given.tensors.size(),
                          given.scalars.size()));
}

}  // namespace

// ------------------------------------------------------------------------------------- module

CudaModule::CudaModule(std::shared_ptr<const Gpu> gpu, const Binary& binary)
    : gpu_(std::move(gpu)) {
  const ContextScope scope = gpu_->scope();
  gpu_->check(
      gpu_->driver.library_load(&library_, binary.image.data(), nullptr, nullptr, 0, nullptr,
                                nullptr, 0),
      fmt::format("load a binary for {}, compiled by {},", binary.architecture, binary.compiler));
}

CudaModule::~CudaModule() {
  if (!gpu_->is_here()) return;
  kept_.give_back(*gpu_);
  gpu_->driver.library_unload(library_);
}

Function CudaModule::function(const std::string& entry) const {
  const Driver& driver = gpu_->driver;
  Kernel kernel = nullptr;
  Function function = nullptr;
  const Result found = driver.library_kernel(&kernel, library_, entry.c_str());
  if (found == Result::not_found)
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("The template has no kernel '{}': is it extern \"C\" __global__, and "
                            "spelled as in \"launches\"?",
                            entry));
  gpu_->check(found, fmt::format("find the kernel '{}'", entry));
  gpu_->check(driver.kernel_function(&function, kernel),
              fmt::format("load the kernel '{}'", entry));
  // Where modules are loaded lazily, do it now and not in the middle of a graph capture.
  if (driver.function_load != nullptr)
    gpu_->check(driver.function_load(function), fmt::format("load the kernel '{}'", entry));
  return function;
}

void CudaModule::allow_shared_memory(Function function, const std::string& entry,
                                     unsigned bytes) const {
  const std::scoped_lock lock(attributes_);
  const auto limit = FunctionAttribute::max_dynamic_shared_bytes;
  const auto wanted = static_cast<int>(bytes);
  int current = 0;
  if (gpu_->driver.function_attribute(&current, limit, function) == Result::success &&
      current >= wanted)
    return;
  gpu_->check(gpu_->driver.function_set_attribute(function, limit, wanted),
              fmt::format("allow '{}' {} bytes of dynamic shared memory", entry, bytes));
}

// ------------------------------------------------------------------------------------- launching

namespace {

void write_constants(std::byte* block, const ArgumentLayout& layout) {
  for (const auto& constant : layout.constants) store(block, constant.offset, constant.bits);
}

void initialise(std::byte* block, const ArgumentLayout& layout) {
  std::memset(block, 0, layout.bytes);  // no map is encoded: no tensor lies at address null
  write_constants(block, layout);
  for (std::size_t i = 0; i < layout.parameters.size(); ++i)
    store(block, layout.pointers_offset + i * sizeof(void*),
          static_cast<void*>(block + layout.parameters[i]));
}

std::byte* allocate_blocks(const ArgumentLayout& layout, std::size_t count) {
  return static_cast<std::byte*>(::operator new(layout.bytes * count, block_alignment));
}

}  // namespace

struct CudaExecutable::Other {
  explicit Other(const Numbers& prepared)
      : numbers(prepared),
        changed_maps(prepared.layout.tensor_maps.size()),
        block(allocate_blocks(prepared.layout, 1)) {
    initialise(block, prepared.layout);
  }
  ~Other() { ::operator delete(block, block_alignment); }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;

  // False where the plan has to be prepared by itself.
  bool take(const Gpu& gpu, const LaunchPlan& plan) {
    for (std::size_t i = 0; i < numbers.steps.size(); ++i)
      if (!numbers.steps[i].take(gpu, plan.launches[i])) return false;
    ArgumentLayout& layout = numbers.layout;
    const bool possible = lay_out_again(plan, layout, changed_maps);
    for (std::size_t i = 0; i < changed_maps.size(); ++i)
      if (changed_maps[i])
        store(block, layout.addresses_offset + i * sizeof(void*), static_cast<void*>(nullptr));
    if (!possible || (layout.workspace_bytes + layout.kept_bytes > 0 && gpu.pool == nullptr))
      return false;
    write_constants(block, layout);
    return true;
  }

  Numbers numbers;
  std::vector<bool> changed_maps;
  std::byte* block;
};

CudaExecutable::CudaExecutable(std::shared_ptr<const Gpu> gpu,
                               std::shared_ptr<const CudaModule> module, ArgumentLayout layout,
                               std::vector<Step> steps)
    : gpu_(std::move(gpu)),
      module_(std::move(module)),
      numbers_{std::move(layout), std::move(steps)} {
  if (numbers_.layout.bytes == 0) return;
  storage_ = allocate_blocks(numbers_.layout, block_count);
  for (std::size_t i = 0; i < block_count; ++i) {
    blocks_[i].memory = storage_ + i * numbers_.layout.bytes;
    initialise(blocks_[i].memory, numbers_.layout);
  }
}

CudaExecutable::~CudaExecutable() { ::operator delete(storage_, block_alignment); }

void CudaExecutable::check(const LaunchArguments& arguments) const {
  const ArgumentLayout& layout = numbers_.layout;
  if (arguments.tensors.size() < layout.tensor_count ||
      arguments.scalars.size() < layout.scalar_count) [[unlikely]]
    too_few_arguments(layout, arguments);
}

void CudaExecutable::launch(const LaunchArguments& arguments) const {
  if (numbers_.steps.empty()) return;
  check(arguments);
  const ContextScope scope = gpu_->scope();
  for (Block& block : blocks_) {
    if (block.busy.test_and_set(std::memory_order_acquire)) continue;
    const Release release{block.busy};
    return launch_on(block.memory, numbers_, arguments);
  }
  launch_on_stack(arguments);
}

void CudaExecutable::launch_on_stack(const LaunchArguments& arguments) const {
  const ArgumentLayout& layout = numbers_.layout;
  alignas(TensorMap) std::byte block[stack_block_bytes];
  if (layout.bytes <= stack_block_bytes) {
    initialise(block, layout);
    return launch_on(block, numbers_, arguments);
  }
  const Other other(numbers_);
  launch_on(other.block, numbers_, arguments);
}

bool CudaExecutable::launch_with(const LaunchPlan& plan, const LaunchArguments& arguments) const {
  if (plan.launches.size() != numbers_.steps.size() || numbers_.steps.empty()) return false;
  check(arguments);
  const ContextScope scope = gpu_->scope();
  const auto other = others_.lease([&] { return std::make_unique<Other>(numbers_); });
  if (!other->take(*gpu_, plan)) return false;
  launch_on(other->block, other->numbers, arguments);
  return true;
}

namespace {

DevicePointer workspace(const ArgumentLayout& layout, DevicePointer fresh, DevicePointer kept,
                        std::size_t index) {
  return (layout.workspace_kept[index] ? kept : fresh) + layout.workspace_offsets[index];
}

}  // namespace

void CudaExecutable::launch_on(std::byte* block, const Numbers& numbers,
                               const LaunchArguments& arguments) const {
  const ArgumentLayout& layout = numbers.layout;
  for (const auto& patch : layout.tensors)
    store(block, patch.offset, arguments.tensors[patch.index]);
  for (const auto& patch : layout.scalars)
    store(block, patch.offset, static_cast<float>(arguments.scalars[patch.index]));

  std::optional<StreamMemory> fresh, not_kept;
  Workspaces workspaces;
  if (layout.workspace_bytes > 0)
    workspaces.fresh =
        fresh.emplace(*gpu_, layout.workspace_bytes, layout.zeroed_bytes, arguments.stream)
            .pointer();
  if (layout.kept_bytes > 0) {
    workspaces.kept = module_->kept_pieces().on(*gpu_, arguments.stream, layout.kept_bytes);
    if (workspaces.kept == 0)
      workspaces.kept =
          not_kept.emplace(*gpu_, layout.kept_bytes, layout.kept_bytes, arguments.stream).pointer();
  }
  for (const auto& patch : layout.workspaces)
    store(block, patch.offset,
          layout.workspace_used[patch.index]
              ? workspace(layout, workspaces.fresh, workspaces.kept, patch.index)
              : DevicePointer{0});
  if (!layout.tensor_maps.empty()) encode_tensor_maps(block, layout, arguments, workspaces);

  auto* parameters = reinterpret_cast<void**>(block + layout.pointers_offset);
  for (const Step& step : numbers.steps)
    launch_step(step, parameters + step.first_parameter, arguments.stream);
}

void CudaExecutable::encode_tensor_maps(std::byte* block, const ArgumentLayout& layout,
                                        const LaunchArguments& arguments,
                                        const Workspaces& workspaces) const {
  static constexpr std::array<std::uint32_t, 5> every_element{1, 1, 1, 1, 1};
  auto* maps = reinterpret_cast<TensorMap*>(block);
  auto* addresses = reinterpret_cast<void**>(block + layout.addresses_offset);
  for (std::size_t i = 0; i < layout.tensor_maps.size(); ++i) {
    const TensorMapEncoding& map = layout.tensor_maps[i];
    if (map.rank == 0) continue;
    void* address = map.of_workspace ? reinterpret_cast<void*>(workspace(
                                           layout, workspaces.fresh, workspaces.kept, map.index))
                                     : arguments.tensors[map.index];
    if (address == addresses[i]) continue;
    // Encoding is 48 ns on a Xeon host (driver 580), so replacing the address alone, which would
    // skip the driver's checks, is not worth a second path. Forgotten first, in case it fails.
    addresses[i] = nullptr;
    if (address == nullptr) continue;  // an optional tensor that is left out
    const Result result = gpu_->driver.encode_tensor_map(
        &maps[i], map.type, map.rank, address, map.dimensions.data(), map.strides.data(),
        map.box.data(), every_element.data(), 0, map.swizzle, map.l2_promotion, 0);
    if (result != Result::success) [[unlikely]]
      gpu_->fail(result,
                 fmt::format("encode the tensor map '{}' of a tensor at {} (which must be a "
                             "multiple of 16)",
                             map.name, address));
    addresses[i] = address;
  }
}

void CudaExecutable::launch_step(const Step& step, void** parameters, Stream stream) const {
  Result result;
  if (step.clustered) {
    LaunchAttribute cluster = step.cluster;
    const LaunchConfiguration configuration{.grid = {step.grid[0], step.grid[1], step.grid[2]},
                                            .block = {step.block[0], step.block[1], step.block[2]},
                                            .shared_memory = step.shared_memory,
                                            .stream = stream,
                                            .attributes = &cluster,
                                            .attribute_count = 1};
    result = gpu_->driver.launch_extended(&configuration, step.function, parameters, nullptr);
  } else {
    result = gpu_->driver.launch(step.function, step.grid[0], step.grid[1], step.grid[2],
                                 step.block[0], step.block[1], step.block[2], step.shared_memory,
                                 stream, parameters, nullptr);
  }
  if (result != Result::success) [[unlikely]]
    gpu_->fail(result,
               fmt::format("launch '{}' (grid {}, block {}, cluster {}, {} bytes of shared memory)",
                           step.entry, fmt::join(step.grid, "x"), fmt::join(step.block, "x"),
                           fmt::join(step.cluster.cluster, "x"), step.shared_memory));
}

}  // namespace cudadent::cuda
