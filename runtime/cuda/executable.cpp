#include "runtime/cuda/executable.h"

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
  if (gpu_->is_here()) gpu_->driver.library_unload(library_);
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

CudaExecutable::CudaExecutable(std::shared_ptr<const Gpu> gpu,
                               std::shared_ptr<const CudaModule> module, ArgumentLayout layout,
                               std::vector<Step> steps)
    : gpu_(std::move(gpu)),
      module_(std::move(module)),
      layout_(std::move(layout)),
      steps_(std::move(steps)) {
  if (layout_.bytes == 0) return;
  storage_ = static_cast<std::byte*>(::operator new(layout_.bytes * block_count, block_alignment));
  for (std::size_t i = 0; i < block_count; ++i) {
    blocks_[i].memory = storage_ + i * layout_.bytes;
    initialise(blocks_[i].memory);
  }
}

CudaExecutable::~CudaExecutable() {
  if (gpu_->is_here()) kept_.give_back(*gpu_);
  ::operator delete(storage_, block_alignment);
}

void CudaExecutable::initialise(std::byte* block) const {
  std::memset(block, 0, layout_.bytes);  // no map is encoded: no tensor lies at address null
  for (const auto& constant : layout_.constants) store(block, constant.offset, constant.bits);
  for (std::size_t i = 0; i < layout_.parameters.size(); ++i)
    store(block, layout_.pointers_offset + i * sizeof(void*),
          static_cast<void*>(block + layout_.parameters[i]));
}

void CudaExecutable::launch(const LaunchArguments& arguments) const {
  if (steps_.empty()) return;
  if (arguments.tensors.size() < layout_.tensor_count ||
      arguments.scalars.size() < layout_.scalar_count) [[unlikely]]
    too_few_arguments(layout_, arguments);
  const ContextScope scope = gpu_->scope();
  for (Block& block : blocks_) {
    if (block.busy.test_and_set(std::memory_order_acquire)) continue;
    const Release release{block.busy};
    return launch_on(block.memory, arguments);
  }
  launch_on_stack(arguments);
}

void CudaExecutable::launch_on_stack(const LaunchArguments& arguments) const {
  alignas(TensorMap) std::byte block[stack_block_bytes];
  if (layout_.bytes <= stack_block_bytes) {
    initialise(block);
    return launch_on(block, arguments);
  }
  const auto free = [](std::byte* memory) { ::operator delete(memory, block_alignment); };
  const std::unique_ptr<std::byte, decltype(free)> memory(
      static_cast<std::byte*>(::operator new(layout_.bytes, block_alignment)), free);
  initialise(memory.get());
  launch_on(memory.get(), arguments);
}

void CudaExecutable::launch_on(std::byte* block, const LaunchArguments& arguments) const {
  for (const auto& patch : layout_.tensors)
    store(block, patch.offset, arguments.tensors[patch.index]);
  for (const auto& patch : layout_.scalars)
    store(block, patch.offset, static_cast<float>(arguments.scalars[patch.index]));

  std::optional<StreamMemory> fresh, not_kept;
  Workspaces workspaces;
  if (layout_.workspace_bytes > 0)
    workspaces.fresh =
        fresh.emplace(*gpu_, layout_.workspace_bytes, layout_.zeroed_bytes, arguments.stream)
            .pointer();
  if (layout_.kept_bytes > 0) {
    workspaces.kept = kept_.on(*gpu_, arguments.stream, layout_.kept_bytes);
    if (workspaces.kept == 0)
      workspaces.kept =
          not_kept.emplace(*gpu_, layout_.kept_bytes, layout_.kept_bytes, arguments.stream)
              .pointer();
  }
  write_workspaces(block, workspaces);
  if (!layout_.tensor_maps.empty()) encode_tensor_maps(block, arguments, workspaces);

  auto* parameters = reinterpret_cast<void**>(block + layout_.pointers_offset);
  for (const Step& step : steps_)
    launch_step(step, parameters + step.first_parameter, arguments.stream);
}

DevicePointer CudaExecutable::workspace(const Workspaces& workspaces, std::size_t index) const {
  return (layout_.workspace_kept[index] ? workspaces.kept : workspaces.fresh) +
         layout_.workspace_offsets[index];
}

void CudaExecutable::write_workspaces(std::byte* block, const Workspaces& workspaces) const {
  for (const auto& patch : layout_.workspaces)
    if (layout_.workspace_used[patch.index])
      store(block, patch.offset, workspace(workspaces, patch.index));
}

void CudaExecutable::encode_tensor_maps(std::byte* block, const LaunchArguments& arguments,
                                        const Workspaces& workspaces) const {
  static constexpr std::array<std::uint32_t, 5> every_element{1, 1, 1, 1, 1};
  auto* maps = reinterpret_cast<TensorMap*>(block);
  auto* addresses = reinterpret_cast<void**>(block + layout_.addresses_offset);
  for (std::size_t i = 0; i < layout_.tensor_maps.size(); ++i) {
    const TensorMapEncoding& map = layout_.tensor_maps[i];
    if (map.rank == 0) continue;
    void* address = map.of_workspace ? reinterpret_cast<void*>(workspace(workspaces, map.index))
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
