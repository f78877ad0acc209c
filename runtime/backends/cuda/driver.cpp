#include "runtime/backends/cuda/driver.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace cudadent::cuda {

namespace {

constexpr const char* driver_file = "libcuda.so.1";

template <typename Pointer>
void bind(void* library, Pointer& pointer, const char* symbol, bool required, const char* file) {
  pointer = reinterpret_cast<Pointer>(dlsym(library, symbol));
  if (pointer == nullptr && required)
    throw Error(ErrorCode::device_unavailable,
                fmt::format("The CUDA driver {} has no {}: it is older than CUDA 12.0. Install a "
                            "newer NVIDIA driver (525 or later).",
                            file, symbol));
}

}  // namespace

Driver load_driver_table(const char* file) {
  void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw Error(
        ErrorCode::device_unavailable,
        fmt::format("No CUDA driver: {} cannot be loaded ({}). Install the NVIDIA driver, or "
                    "use the device \"host\".",
                    file, reason == nullptr ? "no reason given" : reason));
  }
  Driver driver;
#define CUDADENT_BIND(member, symbol, required, ...) \
  bind(library, driver.member, symbol, required, file);
  CUDADENT_CUDA_DRIVER(CUDADENT_BIND)
#undef CUDADENT_BIND
  return driver;
}

Driver load_driver() {
  Driver driver = load_driver_table(driver_file);
  check(driver, driver.init(0), "initialise the CUDA driver", ErrorCode::device_unavailable);
  return driver;
}

std::string describe(const Driver& driver, Result result) {
  const char* name = nullptr;
  const char* text = nullptr;
  // Both fail on numbers this driver does not know.
  if (driver.error_name(result, &name) != Result::success || name == nullptr) name = "CUDA error";
  if (driver.error_string(result, &text) != Result::success || text == nullptr)
    text = "unknown to this driver";
  return fmt::format("{} ({}): {}", name, static_cast<int>(result), text);
}

std::string_view advice(Result result) noexcept {
  switch (result) {
    case Result::out_of_memory:
      return "Free device memory, or use a smaller problem.";
    case Result::not_initialized:
      return "Is this the child of a fork of a process that has used CUDA? There it cannot be "
             "used: start "
             "processes anew (multiprocessing's \"spawn\").";
    case Result::no_device:
      return "No GPU is visible to this process: see nvidia-smi and CUDA_VISIBLE_DEVICES.";
    case Result::stub_library:
      return "The toolkit's stub of libcuda was loaded instead of the driver: take its folder out "
             "of "
             "LD_LIBRARY_PATH.";
    case Result::system_driver_mismatch:
      return "The driver was updated under a running kernel module: reboot.";
    case Result::invalid_image:
    case Result::no_binary_for_gpu:
    case Result::unsupported_ptx_version:
      return "The binary is for another architecture or from an NVRTC newer than the driver: "
             "install "
             "an NVRTC of the driver's CUDA version or older, or update the driver.";
    case Result::launch_out_of_resources:
      return "The kernel needs more registers than the device has for a block of this size: use a "
             "smaller block.";
    case Result::invalid_cluster_size:
      return "The device cannot place a cluster of this size with this much shared memory.";
    case Result::stream_capture_unsupported:
    case Result::stream_capture_implicit:
      return "A stream is being captured into a graph: call prepare() before the capture.";
    default:
      return is_sticky(result) ? "The kernel or one before it faulted, and the device's context is "
                                 "lost: only a new "
                                 "process recovers. compute-sanitizer finds the access."
                               : "";
  }
}

bool is_sticky(Result result) noexcept {
  // CUDA driver API, CUresult: "This leaves the process in an inconsistent state and any further
  // CUDA work will return the same error."
  switch (static_cast<int>(result)) {
    case 214:  // uncorrectable ECC error
    case 220:  // uncorrectable NVLink error
    case 226:  // contained error
    case 700:  // illegal address
    case 702:  // launch timeout
    case 709:  // context is destroyed
    case 710:  // assert
    case 714:  // hardware stack error
    case 715:  // illegal instruction
    case 716:  // misaligned address
    case 717:  // invalid address space
    case 718:  // invalid program counter
    case 719:  // launch failed
    case 721:  // tensor memory leak
      return true;
    default:
      return false;
  }
}

Error make_error(const Driver& driver, Result result, std::string_view attempted, ErrorCode code) {
  const std::string_view help = advice(result);
  const char* name = nullptr;
  if (driver.error_name(result, &name) != Result::success || name == nullptr) name = "";
  const bool for_want_of_memory =
      result == Result::out_of_memory && code == ErrorCode::launch_failed;
  return Error(for_want_of_memory ? ErrorCode::machine_failed : code,
               fmt::format("Could not {}: {}.{}{}", attempted, describe(driver, result),
                           help.empty() ? "" : " ", help),
               name);
}

}  // namespace cudadent::cuda
