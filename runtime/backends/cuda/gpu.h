// A GPU opened for use: its driver, facts, primary context and what belongs to the context.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "runtime/backends/cuda/driver.h"
#include "runtime/backends/cuda/kept_memory.h"
#include "runtime/base/fork.h"
#include "runtime/language/device.h"

namespace cudadent::cuda {

// Modules, executables and buffers share one and hold on to it, so that the context outlives them.
class Gpu {
 public:
  // Retains the primary context, which the CUDA runtime (and so PyTorch) uses too; its settings are
  // left as they are. Throws Error(device_unavailable).
  static std::shared_ptr<const Gpu> open(const Driver& driver, int ordinal);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  Driver driver;
  Device device;
  DeviceHandle handle = 0;
  Context context = nullptr;
  Stream stream = nullptr;    // our own, not ordered with the legacy default stream
  MemoryPool pool = nullptr;  // for workspaces; null where the device has no memory pools
  unsigned max_grid[3] = {};  // blocks
  mutable KeptMemory kept_memory;

  // Throws Error(launch_failed), and remembers when the error is one the context does not survive.
  void check(Result result, std::string_view attempted) const {
    if (result != Result::success) [[unlikely]]
      fail(result, attempted);
  }
  [[noreturn]] void fail(Result result, std::string_view attempted) const;
  [[nodiscard]] bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }
  // Whether the stream is being captured into a graph, or may not be used because another is. Throws
  // Error(launch_failed).
  [[nodiscard]] bool capturing(Stream stream) const;
  // Throws Error(device_unavailable) in the child of a fork, whatever the driver might do there.
  [[nodiscard]] ContextScope scope() const {
    check_process();
    return ContextScope(driver, context);
  }
  void check_process() const {
    if (!is_here()) [[unlikely]]
      fail_in_child("use " + device.name, cuda_in_child_advice);
  }
  // False in the child of a fork, where nothing may be given back to the driver either.
  [[nodiscard]] bool is_here() const noexcept { return forks_ == fork_count(); }

 private:
  Gpu() = default;
  const std::uint64_t forks_ = fork_count();
  mutable std::atomic<bool> lost_ = false;
};

}  // namespace cudadent::cuda
