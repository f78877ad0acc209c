#include "emulator/driver.h"

#include <elf.h>
#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "emulator/driver_memory.h"
#include "emulator/tensor_map.h"
#include "runtime/backends/host/shared_object.h"

namespace cudadent::emulator {

using namespace cuda;

namespace {

// What no real driver returns: a kernel did what the emulator does not let pass.
constexpr auto kernel_fault = static_cast<Result>(-1);

// What the last launch of this thread failed with: the driver's functions return numbers only.
std::string& last_failure() {
  thread_local std::string text;
  return text;
}

// The device that this thread's context is of.
int& current_device() {
  thread_local int number = 0;
  return number;
}

struct Loaded;
struct LoadedKernel {
  Loaded* library;
  std::string name;
  const EntryFacts* facts;
};
struct Loaded {
  explicit Loaded(std::span<const std::byte> image) : object(image) {}
  SharedObject object;
  std::mutex running;  // its code has one running thread
  const void** thread_slot = nullptr;
  std::map<std::string, LoadedKernel> kernels;
};

LoadedKernel& kernel_of(Function function) { return *reinterpret_cast<LoadedKernel*>(function); }

Device device_of(DeviceHandle number) {
  Device device = nominal_cuda_device(std::to_string(number / 1000)).value();
  device.sm_count = number % 1000;
  return device;
}

// The section headers come last in a shared object.
std::size_t image_bytes(const void* image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof header);
  return header.e_shoff + std::size_t{header.e_shnum} * header.e_shentsize;
}

Result device_attribute(int* value, DeviceAttribute which, DeviceHandle number) {
  const Device device = device_of(number);
  const auto facts = [&]() -> std::int64_t {
    switch (which) {
      case DeviceAttribute::compute_capability_major:
        return device.sm / 10;
      case DeviceAttribute::compute_capability_minor:
        return device.sm % 10;
      case DeviceAttribute::max_shared_memory_per_block_optin:
        return device.max_shared_memory;
      case DeviceAttribute::shared_memory_per_multiprocessor:
        return device.shared_memory_per_sm;
      case DeviceAttribute::registers_per_multiprocessor:
        return device.registers_per_sm;
      case DeviceAttribute::max_threads_per_block:
        return device.max_threads_per_block;
      case DeviceAttribute::max_threads_per_multiprocessor:
        return device.max_threads_per_sm;
      case DeviceAttribute::warp_size:
        return device.warp_size;
      case DeviceAttribute::multiprocessor_count:
        return device.sm_count;
      case DeviceAttribute::l2_bytes:
        return device.l2_bytes;
      case DeviceAttribute::max_grid_x:
        return std::numeric_limits<int>::max();
      case DeviceAttribute::max_grid_y:
      case DeviceAttribute::max_grid_z:
        return 65535;
      case DeviceAttribute::clock_kilohertz:
        return static_cast<std::int64_t>(device.clock_hertz / 1e3);
      case DeviceAttribute::memory_clock_kilohertz:
      case DeviceAttribute::memory_bus_bits:
        return 0;
    }
    return 0;
  };
  *value = static_cast<int>(facts());
  return Result::success;
}

void add_device(Driver& table) {
  table.init = [](unsigned) { return Result::success; };
  table.driver_version = [](int* version) {
    *version = 13000;
    return Result::success;
  };
  table.error_name = [](Result result, const char** name) {
    *name = result == kernel_fault ? "EMULATOR" : "CUDA_ERROR";
    return Result::success;
  };
  table.error_string = [](Result result, const char** text) {
    *text = result == kernel_fault ? last_failure().c_str() : "refused by the emulator";
    return Result::success;
  };
  table.device_count = [](int* count) {
    *count = std::numeric_limits<int>::max();
    return Result::success;
  };
  table.device_get = [](DeviceHandle* handle, int number) {
    *handle = number;
    return Result::success;
  };
  table.device_name = [](char* name, int length, DeviceHandle number) {
    const auto text = fmt::format("emulated {} with {} SMs", device_of(number).name, number % 1000);
    std::strncpy(name, text.c_str(), static_cast<std::size_t>(length));
    return Result::success;
  };
  table.device_uuid = [](Uuid* uuid, DeviceHandle) {
    *uuid = {};
    return Result::success;
  };
  table.device_memory = [](std::size_t* bytes, DeviceHandle number) {
    *bytes = static_cast<std::size_t>(device_of(number).memory_bytes);
    return Result::success;
  };
  table.device_attribute = device_attribute;
}

// A context is its device's number.
void add_context(Driver& table) {
  table.primary_context_retain = [](cuda::Context* context, DeviceHandle number) {
    *context = reinterpret_cast<cuda::Context>(static_cast<std::intptr_t>(number));
    return Result::success;
  };
  table.primary_context_release = [](DeviceHandle) { return Result::success; };
  table.context_current = [](cuda::Context* context) {
    *context = reinterpret_cast<cuda::Context>(static_cast<std::intptr_t>(current_device()));
    return Result::success;
  };
  table.context_push = [](cuda::Context context) {
    current_device() = static_cast<int>(reinterpret_cast<std::intptr_t>(context));
    return Result::success;
  };
  table.context_pop = [](cuda::Context* context) {
    *context = reinterpret_cast<cuda::Context>(static_cast<std::intptr_t>(current_device()));
    current_device() = 0;
    return Result::success;
  };
  table.context_synchronize = [] { return Result::success; };
}

Result library_load(Library* library, const void* image, void*, void**, unsigned, void*, void**,
                    unsigned) {
  try {
    auto loaded = std::make_unique<Loaded>(
        std::span(static_cast<const std::byte*>(image), image_bytes(image)));
    auto* slot = loaded->object.symbol("cudadent_emulator_thread_slot");
    if (slot == nullptr) return Result::invalid_image;
    loaded->thread_slot = const_cast<const void**>(
        static_cast<const void* const*>(reinterpret_cast<const void* (*)()>(slot)()));
    *library = reinterpret_cast<Library>(loaded.release());
    return Result::success;
  } catch (const Error& error) {
    last_failure() = error.what();
    return kernel_fault;
  }
}

Result library_kernel(Kernel* kernel, Library library, const char* name) {
  auto& loaded = *reinterpret_cast<Loaded*>(library);
  const auto* facts = static_cast<const EntryFacts*>(
      loaded.object.symbol(fmt::format("cudadent_emulator_entry_{}", name)));
  if (facts == nullptr) return Result::not_found;
  auto [entry, added] = loaded.kernels.try_emplace(name, LoadedKernel{&loaded, name, facts});
  *kernel = reinterpret_cast<Kernel>(&entry->second);
  return Result::success;
}

Result function_attribute(int* value, FunctionAttribute which, Function function) {
  const EntryFacts& facts = *kernel_of(function).facts;
  switch (which) {
    case FunctionAttribute::max_threads_per_block:
      *value = facts.max_threads > 0 ? static_cast<int>(facts.max_threads) : 1024;
      return Result::success;
    case FunctionAttribute::max_dynamic_shared_bytes:
      *value = std::numeric_limits<int>::max();
      return Result::success;
    default:
      *value = 0;
      return Result::success;
  }
}

Result run(const LaunchConfiguration& configuration, const std::array<unsigned, 3>& cluster,
           Function function, void** parameters) {
  LoadedKernel& kernel = kernel_of(function);
  auto* stream = static_cast<EmulatedStream*>(configuration.stream);
  LaunchRequest request;
  request.name = kernel.name;
  request.facts = kernel.facts;
  request.thread_slot = kernel.library->thread_slot;
  for (std::size_t i = 0; i < 3; ++i) {
    request.grid[i] = configuration.grid[i];
    request.block[i] = configuration.block[i];
  }
  request.cluster = cluster;
  request.shared_memory = configuration.shared_memory;
  request.arguments = parameters;
  request.device = device_of(current_device());
  if (stream != nullptr && stream->seed != 0) {
    request.schedule = Schedule::from_seed(stream->seed);
    stream->seed = Random(stream->seed).next();
  }
  const std::lock_guard lock(kernel.library->running);
  try {
    Grid(std::move(request), device_memory()).run();
    return Result::success;
  } catch (const std::exception& error) {
    last_failure() = error.what();
    return kernel_fault;
  }
}

void add_kernels(Driver& table) {
  table.library_load = library_load;
  table.library_unload = [](Library library) {
    delete reinterpret_cast<Loaded*>(library);
    return Result::success;
  };
  table.library_kernel = library_kernel;
  table.kernel_function = [](Function* function, Kernel kernel) {
    *function = reinterpret_cast<Function>(kernel);
    return Result::success;
  };
  table.function_load = [](Function) { return Result::success; };
  table.function_attribute = function_attribute;
  table.function_set_attribute = [](Function, FunctionAttribute, int) { return Result::success; };
  table.function_parameter = [](Function function, std::size_t index, std::size_t* offset,
                                std::size_t* bytes) {
    const U32* all = kernel_of(function).facts->parameter_bytes;
    for (std::size_t i = 0; i <= index; ++i)
      if (all[i] == 0) return Result::invalid_value;
    *offset = 0;
    *bytes = all[index];
    return Result::success;
  };
  table.launch = [](Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                    unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_memory,
                    Stream stream, void** parameters, void**) {
    return run(
        {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_memory, stream, nullptr, 0},
        {1, 1, 1}, function, parameters);
  };
  table.launch_extended = [](const LaunchConfiguration* configuration, Function function,
                             void** parameters, void**) {
    const auto& cluster = configuration->attributes[0].cluster;
    return run(*configuration, {cluster[0], cluster[1], cluster[2]}, function, parameters);
  };
  table.encode_tensor_map = encode_tensor_map;
}

void add_streams(Driver& table) {
  table.stream_create = [](Stream* stream, unsigned) {
    *stream = new EmulatedStream;
    return Result::success;
  };
  table.stream_destroy = [](Stream stream) {
    delete static_cast<EmulatedStream*>(stream);
    return Result::success;
  };
  table.stream_synchronize = [](Stream) { return Result::success; };
  table.stream_capturing = [](Stream, CaptureStatus* status) {
    *status = CaptureStatus::none;
    return Result::success;
  };
  table.stream_id = [](Stream stream, std::uint64_t* id) {
    *id = reinterpret_cast<std::uintptr_t>(stream);
    return Result::success;
  };
  table.event_create = [](Event* event, unsigned) {
    *event = nullptr;
    return Result::success;
  };
  table.event_destroy = [](Event) { return Result::success; };
  table.event_record = [](Event, Stream) { return Result::success; };
  table.event_elapsed = [](float* milliseconds, Event, Event) {
    *milliseconds = 1;
    return Result::success;
  };
}

}  // namespace

Driver emulated_driver() {
  Driver table;
  add_device(table);
  add_context(table);
  add_kernels(table);
  add_memory(table);
  add_streams(table);
  return table;
}

}  // namespace cudadent::emulator
