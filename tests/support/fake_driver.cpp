#include "tests/support/fake_driver.h"

#include <cstdlib>
#include <memory>
#include <tuple>

namespace cudadent::test {

using namespace cuda;

namespace {

std::unique_ptr<FakeState> current;

// Handles are addresses: of a kernel's entry in the map, or of nothing in particular.
int one_context, one_pool, one_library, one_stream, one_event;
template <typename Handle>
Handle handle_of(void* object) {
  return reinterpret_cast<Handle>(object);
}
using KernelEntry = std::pair<const std::string, FakeKernel>;
KernelEntry& entry_of(Function function) { return *reinterpret_cast<KernelEntry*>(function); }

// Records the call; what the test wants it to return.
Result called(const char* symbol) {
  if (current->quiet) return Result::success;
  current->calls.emplace_back(symbol);
  const auto failure = current->failures.find(symbol);
  return failure == current->failures.end() ? Result::success : failure->second;
}

// What every function does first: one at a time, counted, and perhaps made to fail.
#define CALLED(symbol)                          \
  const std::scoped_lock guard(current->mutex); \
  if (const Result wanted = called(symbol); wanted != Result::success) return wanted

Result record_launch(Function function, std::array<unsigned, 3> grid, std::array<unsigned, 3> block,
                     std::array<unsigned, 3> cluster, unsigned shared_memory, Stream stream,
                     void** parameters) {
  if (current->quiet) return Result::success;
  const auto& [name, kernel] = entry_of(function);
  FakeLaunch launch{.kernel = name,
                    .grid = grid,
                    .block = block,
                    .cluster = cluster,
                    .shared_memory = shared_memory,
                    .stream = stream,
                    .parameters = {}};
  for (std::size_t i = 0; i < kernel.parameter_bytes.size(); ++i) {
    const auto* bytes = static_cast<const std::byte*>(parameters[i]);
    launch.parameters.emplace_back(bytes, bytes + kernel.parameter_bytes[i]);
  }
  current->launches.push_back(std::move(launch));
  if (current->context_stack().empty()) return Result::invalid_context;
  return Result::success;
}

Result device_attribute(int* value, DeviceAttribute which, DeviceHandle) {
  CALLED("cuDeviceGetAttribute");
  switch (which) {
    case DeviceAttribute::compute_capability_major:
      *value = current->capability / 10;
      return Result::success;
    case DeviceAttribute::compute_capability_minor:
      *value = current->capability % 10;
      return Result::success;
    case DeviceAttribute::max_shared_memory_per_block_optin:
      *value = 232448;
      return Result::success;
    case DeviceAttribute::max_threads_per_block:
      *value = 1024;
      return Result::success;
    case DeviceAttribute::max_grid_x:
      *value = 2147483647;
      return Result::success;
    case DeviceAttribute::max_grid_y:
    case DeviceAttribute::max_grid_z:
      *value = 65535;
      return Result::success;
    case DeviceAttribute::multiprocessor_count:
      *value = 132;
      return Result::success;
    case DeviceAttribute::memory_clock_kilohertz:
      *value = 3201000;
      return Result::success;
    case DeviceAttribute::memory_bus_bits:
      *value = 6144;
      return Result::success;
    case DeviceAttribute::l2_bytes:
      *value = 1 << 20;
      return Result::success;
    default:
      *value = 1;
      return Result::success;
  }
}

Result function_attribute(int* value, FunctionAttribute which, Function function) {
  CALLED("cuFuncGetAttribute");
  const FakeKernel& kernel = entry_of(function).second;
  switch (which) {
    case FunctionAttribute::max_threads_per_block:
      *value = kernel.max_threads;
      return Result::success;
    case FunctionAttribute::shared_bytes:
      *value = kernel.static_shared;
      return Result::success;
    case FunctionAttribute::registers:
      *value = kernel.registers;
      return Result::success;
    case FunctionAttribute::max_dynamic_shared_bytes:
      *value = kernel.max_dynamic_shared;
      return Result::success;
    default:
      return Result::invalid_value;
  }
}

Result function_set_attribute(Function function, FunctionAttribute which, int value) {
  CALLED("cuFuncSetAttribute");
  FakeKernel& kernel = entry_of(function).second;
  if (which == FunctionAttribute::max_dynamic_shared_bytes)
    kernel.max_dynamic_shared = value;
  else if (which == FunctionAttribute::non_portable_cluster_size_allowed)
    kernel.non_portable_cluster = value != 0;
  else
    return Result::invalid_value;
  return Result::success;
}

Result encode(TensorMap* map, TensorMapType type, std::uint32_t rank, void* address,
              const std::uint64_t* dimensions, const std::uint64_t* strides,
              const std::uint32_t* box, const std::uint32_t* element_strides, int interleave,
              int swizzle, int l2_promotion, int fill) {
  CALLED("cuTensorMapEncodeTiled");
  ++current->encodes;
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || interleave != 0 || fill != 0 ||
      element_strides[0] != 1)
    return Result::invalid_value;
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) return Result::invalid_value;
  FakeTensorMap fake{};
  fake.address = reinterpret_cast<std::uint64_t>(address);
  fake.type = static_cast<std::uint32_t>(type);
  fake.rank = rank;
  fake.swizzle = static_cast<std::uint32_t>(swizzle);
  fake.l2_promotion = static_cast<std::uint32_t>(l2_promotion);
  std::memcpy(fake.dimensions, dimensions, rank * sizeof *dimensions);
  std::memcpy(fake.box, box, rank * sizeof *box);
  fake.stride = rank > 1 ? strides[0] : 0;
  std::memcpy(map, &fake, sizeof fake);
  return Result::success;
}

Result allocate(std::set<DevicePointer>& owner, DevicePointer* pointer, std::size_t bytes) {
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  *pointer = reinterpret_cast<DevicePointer>(memory);
  owner.insert(*pointer);
  return memory == nullptr ? Result::out_of_memory : Result::success;
}

Result release(std::set<DevicePointer>& owner, DevicePointer pointer) {
  if (owner.erase(pointer) == 0) return Result::invalid_value;
  std::free(reinterpret_cast<void*>(pointer));
  return Result::success;
}

void add_device(Driver& table) {
  table.init = [](unsigned) {
    CALLED("cuInit");
    return Result::success;
  };
  table.driver_version = [](int* version) {
    *version = 13000;
    return Result::success;
  };
  table.error_name = [](Result result, const char** name) {
    *name = result == Result::illegal_address ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_FAKE";
    return Result::success;
  };
  table.error_string = [](Result, const char** text) {
    *text = "made to fail";
    return Result::success;
  };
  table.device_count = [](int* count) {
    CALLED("cuDeviceGetCount");
    *count = 1;
    return Result::success;
  };
  table.device_get = [](DeviceHandle* handle, int ordinal) {
    *handle = ordinal;
    return Result::success;
  };
  table.device_name = [](char* name, int length, DeviceHandle) {
    std::strncpy(name, "Fake GPU", static_cast<std::size_t>(length));
    return Result::success;
  };
  table.device_uuid = [](Uuid* uuid, DeviceHandle) {
    for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<unsigned char>(i);
    return Result::success;
  };
  table.device_memory = [](std::size_t* bytes, DeviceHandle) {
    *bytes = std::size_t{1} << 30;
    return Result::success;
  };
  table.device_attribute = device_attribute;
}

void add_context(Driver& table) {
  table.primary_context_retain = [](Context* context, DeviceHandle) {
    CALLED("cuDevicePrimaryCtxRetain");
    ++current->contexts;
    *context = handle_of<Context>(&one_context);
    return Result::success;
  };
  table.primary_context_release = [](DeviceHandle) {
    CALLED("cuDevicePrimaryCtxRelease_v2");
    --current->contexts;
    return Result::success;
  };
  table.context_current = [](Context* context) {
    CALLED("cuCtxGetCurrent");
    *context = current->context_stack().empty() ? nullptr : current->context_stack().back();
    return Result::success;
  };
  table.context_push = [](Context context) {
    CALLED("cuCtxPushCurrent_v2");
    current->context_stack().push_back(context);
    return Result::success;
  };
  table.context_pop = [](Context* context) {
    CALLED("cuCtxPopCurrent_v2");
    *context = current->context_stack().back();
    current->context_stack().pop_back();
    return Result::success;
  };
  table.context_synchronize = [] {
    CALLED("cuCtxSynchronize");
    return Result::success;
  };
}

void add_kernels(Driver& table) {
  table.library_load = [](Library* library, const void*, void*, void**, unsigned, void*, void**,
                          unsigned) {
    CALLED("cuLibraryLoadData");
    ++current->libraries;
    *library = handle_of<Library>(&one_library);
    return Result::success;
  };
  table.library_unload = [](Library) {
    CALLED("cuLibraryUnload");
    --current->libraries;
    return Result::success;
  };
  table.library_kernel = [](Kernel* kernel, Library, const char* name) {
    CALLED("cuLibraryGetKernel");
    const auto found = current->kernels.find(name);
    if (found == current->kernels.end()) return Result::not_found;
    *kernel = handle_of<Kernel>(&*found);
    return Result::success;
  };
  table.kernel_function = [](Function* function, Kernel kernel) {
    CALLED("cuKernelGetFunction");
    *function = handle_of<Function>(kernel);
    return Result::success;
  };
  table.function_load = [](Function function) {
    CALLED("cuFuncLoad");
    entry_of(function).second.loaded = true;
    return Result::success;
  };
  table.function_attribute = function_attribute;
  table.function_set_attribute = function_set_attribute;
  table.function_parameter = [](Function function, std::size_t index, std::size_t* offset,
                                std::size_t* bytes) {
    CALLED("cuFuncGetParamInfo");
    const FakeKernel& kernel = entry_of(function).second;
    if (index >= kernel.parameter_bytes.size()) return Result::invalid_value;
    *offset = 0;
    *bytes = kernel.parameter_bytes[index];
    return Result::success;
  };
  table.launch = [](Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                    unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_memory,
                    Stream stream, void** parameters, void**) {
    CALLED("cuLaunchKernel");
    return record_launch(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, {1, 1, 1},
                         shared_memory, stream, parameters);
  };
  table.launch_extended = [](const LaunchConfiguration* configuration, Function function,
                             void** parameters, void**) {
    CALLED("cuLaunchKernelEx");
    const auto& [grid, block] = std::tie(configuration->grid, configuration->block);
    const auto& cluster = configuration->attributes[0].cluster;
    return record_launch(function, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]},
                         {cluster[0], cluster[1], cluster[2]}, configuration->shared_memory,
                         configuration->stream, parameters);
  };
  table.encode_tensor_map = encode;
}

void add_memory(Driver& table) {
  table.memory_allocate = [](DevicePointer* pointer, std::size_t bytes) {
    CALLED("cuMemAlloc_v2");
    return bytes == 0 ? Result::invalid_value : allocate(current->memory, pointer, bytes);
  };
  table.memory_free = [](DevicePointer pointer) {
    CALLED("cuMemFree_v2");
    return release(current->memory, pointer);
  };
  table.copy_to_device = [](DevicePointer device, const void* host, std::size_t bytes, Stream) {
    CALLED("cuMemcpyHtoDAsync_v2");
    std::memcpy(reinterpret_cast<void*>(device), host, bytes);
    return Result::success;
  };
  table.copy_to_host = [](void* host, DevicePointer device, std::size_t bytes, Stream) {
    CALLED("cuMemcpyDtoHAsync_v2");
    std::memcpy(host, reinterpret_cast<void*>(device), bytes);
    return Result::success;
  };
  table.fill = [](DevicePointer device, unsigned char value, std::size_t bytes, Stream) {
    CALLED("cuMemsetD8Async");
    std::memset(reinterpret_cast<void*>(device), value, bytes);
    return Result::success;
  };
  table.pool_create = [](MemoryPool* pool, const MemoryPoolProperties*) {
    CALLED("cuMemPoolCreate");
    ++current->pools;
    *pool = handle_of<MemoryPool>(&one_pool);
    return Result::success;
  };
  table.pool_destroy = [](MemoryPool) {
    CALLED("cuMemPoolDestroy");
    --current->pools;
    return Result::success;
  };
  table.pool_set_attribute = [](MemoryPool, int, void*) {
    CALLED("cuMemPoolSetAttribute");
    return Result::success;
  };
  table.pool_allocate = [](DevicePointer* pointer, std::size_t bytes, MemoryPool, Stream) {
    CALLED("cuMemAllocFromPoolAsync");
    current->last_stream_bytes = bytes;
    return allocate(current->stream_memory, pointer, bytes);
  };
  table.pool_free = [](DevicePointer pointer, Stream) {
    CALLED("cuMemFreeAsync");
    return release(current->stream_memory, pointer);
  };
}

void add_streams(Driver& table) {
  table.stream_create = [](Stream* stream, unsigned) {
    CALLED("cuStreamCreate");
    ++current->streams;
    *stream = &one_stream;
    return Result::success;
  };
  table.stream_destroy = [](Stream) {
    CALLED("cuStreamDestroy_v2");
    --current->streams;
    return Result::success;
  };
  table.stream_synchronize = [](Stream) {
    CALLED("cuStreamSynchronize");
    return Result::success;
  };
  table.stream_capturing = [](Stream, CaptureStatus* status) {
    CALLED("cuStreamIsCapturing");
    *status = current->capture;
    return Result::success;
  };
  table.stream_id = [](Stream stream, std::uint64_t* id) {
    CALLED("cuStreamGetId");
    *id = reinterpret_cast<std::uintptr_t>(stream);
    return Result::success;
  };
  table.event_create = [](Event* event, unsigned) {
    CALLED("cuEventCreate");
    ++current->events;
    *event = handle_of<Event>(&one_event);
    return Result::success;
  };
  table.event_destroy = [](Event) {
    CALLED("cuEventDestroy_v2");
    --current->events;
    return Result::success;
  };
  table.event_record = [](Event, Stream) {
    CALLED("cuEventRecord");
    return Result::success;
  };
  table.event_elapsed = [](float* milliseconds, Event, Event) {
    CALLED("cuEventElapsedTime");
    *milliseconds = 0.25F;
    return Result::success;
  };
}

#undef CALLED

}  // namespace

FakeState::~FakeState() {
  for (const auto* owner : {&memory, &stream_memory})
    for (const DevicePointer pointer : *owner) std::free(reinterpret_cast<void*>(pointer));
}

FakeDriver::FakeDriver() {
  current = std::make_unique<FakeState>();
  add_device(table);
  add_context(table);
  add_kernels(table);
  add_memory(table);
  add_streams(table);
}

FakeState& FakeDriver::operator*() const { return *current; }

}  // namespace cudadent::test
