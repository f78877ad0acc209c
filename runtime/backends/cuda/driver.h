// The CUDA driver API, as one typed table of function pointers loaded at run time.
//
// cuda.h is not needed to build and libcuda is not linked: one build runs on machines with and
// without a GPU. Types, values and symbol names below are those of cuda.h 13.0, unchanged
// since 12.0 (the oldest driver supported: the first with libraries, kernels and tensor maps).
// Names carry the version suffix that cuda.h's macros add, so that they mean the same whatever the
// driver.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace cudadent::cuda {

// ------------------------------------------------------------------------------------- types

enum class Result : int {  // CUresult; any other number may come back too
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  deinitialized = 4,
  stub_library = 34,
  no_device = 100,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  unsupported_ptx_version = 222,
  not_found = 500,
  illegal_address = 700,
  launch_out_of_resources = 701,
  launch_timeout = 702,
  launch_failed = 719,
  not_supported = 801,
  system_driver_mismatch = 803,
  stream_capture_unsupported = 900,
  stream_capture_implicit = 906,
  invalid_cluster_size = 912,
};

using DeviceHandle = int;             // CUdevice
using DevicePointer = std::uint64_t;  // CUdeviceptr
using Context = struct ContextObject*;
using Library = struct LibraryObject*;
using Kernel = struct KernelObject*;
using Function = struct FunctionObject*;
using Event = struct EventObject*;
using MemoryPool = struct MemoryPoolObject*;
// A CUstream is a cudadent::Stream: both are untyped to callers.

struct Uuid {
  unsigned char bytes[16];
};

enum class DeviceAttribute : int {
  max_threads_per_block = 1,
  max_grid_x = 5,
  max_grid_y = 6,
  max_grid_z = 7,
  warp_size = 10,
  clock_kilohertz = 13,
  multiprocessor_count = 16,
  memory_clock_kilohertz = 36,
  memory_bus_bits = 37,
  l2_bytes = 38,
  max_threads_per_multiprocessor = 39,
  compute_capability_major = 75,
  compute_capability_minor = 76,
  shared_memory_per_multiprocessor = 81,
  registers_per_multiprocessor = 82,
  max_shared_memory_per_block_optin = 97,
};

enum class FunctionAttribute : int {
  max_threads_per_block = 0,
  shared_bytes = 1,  // static
  local_bytes = 3,
  registers = 4,
  max_dynamic_shared_bytes = 8,
  non_portable_cluster_size_allowed = 14,
};

enum class CaptureStatus : int { none = 0, active = 1, invalidated = 2 };
inline constexpr unsigned stream_non_blocking = 1;

inline constexpr int mempool_release_threshold = 4;  // CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
struct MemoryPoolProperties {                        // CUmemPoolProps
  int allocation_type = 1;                           // pinned
  int handle_types = 0;                              // not shared with other processes
  int location_type = 1;                             // a device
  int location_id = 0;
  void* security_attributes = nullptr;
  std::size_t max_size = 0;
  unsigned char reserved[56] = {};
};
static_assert(sizeof(MemoryPoolProperties) == 88);

inline constexpr int launch_attribute_cluster_dimension = 4;
struct LaunchAttribute {  // CUlaunchAttribute, with the one value we use
  int id = launch_attribute_cluster_dimension;
  char padding[4] = {};
  unsigned cluster[3] = {1, 1, 1};
  char unused[52] = {};  // the union has 64 bytes
};
static_assert(sizeof(LaunchAttribute) == 72);

struct LaunchConfiguration {  // CUlaunchConfig
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_memory;  // dynamic, bytes
  Stream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfiguration) == 56);

struct alignas(128) TensorMap {  // CUtensorMap; needs 64, cuda.h aligns to 128
  std::uint64_t opaque[16];
};
enum class TensorMapType : int {
  u8 = 0,
  u16 = 1,
  u32 = 2,
  i32 = 3,
  u64 = 4,
  i64 = 5,
  f16 = 6,
  f32 = 7,
  f64 = 8,
  bf16 = 9,
};

// ------------------------------------------------------------------------------------- table

// FUNCTION(member, symbol, required, signature): the one list of what we use.
#define CUDADENT_CUDA_DRIVER(FUNCTION)                                                             \
  FUNCTION(init, "cuInit", true, Result(unsigned flags))                                           \
  FUNCTION(driver_version, "cuDriverGetVersion", true, Result(int*))                               \
  FUNCTION(error_name, "cuGetErrorName", true, Result(Result, const char**))                       \
  FUNCTION(error_string, "cuGetErrorString", true, Result(Result, const char**))                   \
  FUNCTION(device_count, "cuDeviceGetCount", true, Result(int*))                                   \
  FUNCTION(device_get, "cuDeviceGet", true, Result(DeviceHandle*, int ordinal))                    \
  FUNCTION(device_name, "cuDeviceGetName", true, Result(char*, int length, DeviceHandle))          \
  FUNCTION(device_uuid, "cuDeviceGetUuid_v2", true, Result(Uuid*, DeviceHandle))                   \
  FUNCTION(device_memory, "cuDeviceTotalMem_v2", true, Result(std::size_t*, DeviceHandle))         \
  FUNCTION(device_attribute, "cuDeviceGetAttribute", true,                                         \
           Result(int*, DeviceAttribute, DeviceHandle))                                            \
  FUNCTION(primary_context_retain, "cuDevicePrimaryCtxRetain", true,                               \
           Result(Context*, DeviceHandle))                                                         \
  FUNCTION(primary_context_release, "cuDevicePrimaryCtxRelease_v2", true, Result(DeviceHandle))    \
  FUNCTION(context_current, "cuCtxGetCurrent", true, Result(Context*))                             \
  FUNCTION(context_push, "cuCtxPushCurrent_v2", true, Result(Context))                             \
  FUNCTION(context_pop, "cuCtxPopCurrent_v2", true, Result(Context*))                              \
  FUNCTION(context_synchronize, "cuCtxSynchronize", true, Result())                                \
  FUNCTION(library_load, "cuLibraryLoadData", true,                                                \
           Result(Library*, const void* image, void* options, void** option_values,                \
                  unsigned option_count, void* library_options, void** library_option_values,      \
                  unsigned library_option_count))                                                  \
  FUNCTION(library_unload, "cuLibraryUnload", true, Result(Library))                               \
  FUNCTION(library_kernel, "cuLibraryGetKernel", true, Result(Kernel*, Library, const char* name)) \
  FUNCTION(kernel_function, "cuKernelGetFunction", true, Result(Function*, Kernel))                \
  /* since 12.4 */                                                                                 \
  FUNCTION(function_load, "cuFuncLoad", false, Result(Function))                                   \
  FUNCTION(function_attribute, "cuFuncGetAttribute", true,                                         \
           Result(int*, FunctionAttribute, Function))                                              \
  FUNCTION(function_set_attribute, "cuFuncSetAttribute", true,                                     \
           Result(Function, FunctionAttribute, int))                                               \
  /* since 12.4 */                                                                                 \
  FUNCTION(function_parameter, "cuFuncGetParamInfo", false,                                        \
           Result(Function, std::size_t index, std::size_t* offset, std::size_t* bytes))           \
  FUNCTION(launch, "cuLaunchKernel", true,                                                         \
           Result(Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,   \
                  unsigned block_y, unsigned block_z, unsigned shared_memory, Stream,              \
                  void** parameters, void** extra))                                                \
  FUNCTION(launch_extended, "cuLaunchKernelEx", true,                                              \
           Result(const LaunchConfiguration*, Function, void** parameters, void** extra))          \
  FUNCTION(encode_tensor_map, "cuTensorMapEncodeTiled", true,                                      \
           Result(TensorMap*, TensorMapType, std::uint32_t rank, void* address,                    \
                  const std::uint64_t* dimensions, const std::uint64_t* strides,                   \
                  const std::uint32_t* box, const std::uint32_t* element_strides, int interleave,  \
                  int swizzle, int l2_promotion, int out_of_bounds_fill))                          \
  FUNCTION(memory_allocate, "cuMemAlloc_v2", true, Result(DevicePointer*, std::size_t))            \
  FUNCTION(memory_free, "cuMemFree_v2", true, Result(DevicePointer))                               \
  FUNCTION(copy_to_device, "cuMemcpyHtoDAsync_v2", true,                                           \
           Result(DevicePointer, const void*, std::size_t, Stream))                                \
  FUNCTION(copy_to_host, "cuMemcpyDtoHAsync_v2", true,                                             \
           Result(void*, DevicePointer, std::size_t, Stream))                                      \
  FUNCTION(fill, "cuMemsetD8Async", true,                                                          \
           Result(DevicePointer, unsigned char value, std::size_t, Stream))                        \
  FUNCTION(pool_create, "cuMemPoolCreate", true, Result(MemoryPool*, const MemoryPoolProperties*)) \
  FUNCTION(pool_destroy, "cuMemPoolDestroy", true, Result(MemoryPool))                             \
  FUNCTION(pool_set_attribute, "cuMemPoolSetAttribute", true,                                      \
           Result(MemoryPool, int attribute, void* value))                                         \
  FUNCTION(pool_allocate, "cuMemAllocFromPoolAsync", true,                                         \
           Result(DevicePointer*, std::size_t, MemoryPool, Stream))                                \
  FUNCTION(pool_free, "cuMemFreeAsync", true, Result(DevicePointer, Stream))                       \
  FUNCTION(stream_create, "cuStreamCreate", true, Result(Stream*, unsigned flags))                 \
  FUNCTION(stream_destroy, "cuStreamDestroy_v2", true, Result(Stream))                             \
  FUNCTION(stream_synchronize, "cuStreamSynchronize", true, Result(Stream))                        \
  FUNCTION(stream_capturing, "cuStreamIsCapturing", true, Result(Stream, CaptureStatus*))          \
  FUNCTION(stream_id, "cuStreamGetId", false, Result(Stream, std::uint64_t*))                      \
  FUNCTION(event_create, "cuEventCreate", true, Result(Event*, unsigned flags))                    \
  FUNCTION(event_destroy, "cuEventDestroy_v2", true, Result(Event))                                \
  FUNCTION(event_record, "cuEventRecord", true, Result(Event, Stream))                             \
  FUNCTION(event_elapsed, "cuEventElapsedTime", true,                                              \
           Result(float* milliseconds, Event start, Event end))

struct Driver {
#define CUDADENT_MEMBER(member, symbol, required, ...) \
  std::add_pointer_t<__VA_ARGS__> member = nullptr;
  CUDADENT_CUDA_DRIVER(CUDADENT_MEMBER)
#undef CUDADENT_MEMBER
};

// Loads the driver and calls cuInit. The library stays loaded until the process ends: its own
// threads outlive us. Throws Error(device_unavailable) that says what is missing.
Driver load_driver();
// The same from a file by name; without cuInit, and without judging what it finds.
Driver load_driver_table(const char* file);

// ------------------------------------------------------------------------------------- errors

// "CUDA_ERROR_OUT_OF_MEMORY (2): out of memory".
std::string describe(const Driver& driver, Result result);
// What a person can do about it; empty when there is nothing to say.
std::string_view advice(Result result) noexcept;
// True for errors that leave the context unusable for good: only a new process recovers.
bool is_sticky(Result result) noexcept;
// Error with `attempted` ("launch gemm"), the result's description and advice; detail() is the
// result's name, so that tools can tell faults apart. Want of memory is always machine_failed: others may have it.
Error make_error(const Driver& driver, Result result, std::string_view attempted,
                 ErrorCode code = ErrorCode::launch_failed);
inline void check(const Driver& driver, Result result, std::string_view attempted,
                  ErrorCode code = ErrorCode::launch_failed) {
  if (result != Result::success) [[unlikely]]
    throw make_error(driver, result, attempted, code);
}

// Makes a context current for its lifetime and puts the caller's back. When it is current already,
// which is the usual case on the launch path, that is one cheap query.
class ContextScope {
 public:
  // Throws Error(launch_failed) when the context cannot be made current.
  ContextScope(const Driver& driver, Context context) : driver_(driver) {
    Context current = nullptr;
    if (driver.context_current(&current) == Result::success && current == context) return;
    check(driver, driver.context_push(context), "make the device's context current");
    pushed_ = true;
  }
  ~ContextScope() {
    Context ignored = nullptr;
    if (pushed_) driver_.context_pop(&ignored);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  const Driver& driver_;
  bool pushed_ = false;
};

}  // namespace cudadent::cuda
