// What compiles, loads, launches and times: one interface for CUDA and the host.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/language/device.h"
#include "runtime/operators/launch_plan.h"
#include "runtime/operators/specialization.h"

namespace cudadent {

// Resource use of one kernel, from the compiler; −1 where it does not say.
struct KernelResources {
  std::string entry;
  std::int64_t registers = -1;     // a thread
  std::int64_t spill_bytes = -1;   // stores + loads
  std::int64_t local_bytes = -1;   // a thread: stack frame
  std::int64_t shared_bytes = -1;  // static
  std::int64_t constant_bytes = -1;
};

struct Binary {
  std::string specialization_hash;
  std::string architecture;
  std::string compiler;  // Backend::compiler() that made it
  std::vector<std::byte> image;
  std::vector<KernelResources> resources;
  double compile_seconds = 0;
  std::string log;  // warnings
};

// A binary in the device's memory. Unloads when destroyed; executables hold on to it.
class Module {
 public:
  virtual ~Module() = default;
};

struct LaunchArguments {
  std::span<void* const> tensors;   // device pointers in manifest order, null when absent
  std::span<const double> scalars;  // in manifest order, complete
  Stream stream = nullptr;
};

// A loaded plan. launch() is the hot path: no lock, no allocation by us, no strings; safe from many
// threads. Asynchronous on CUDA. Throws Error(launch_failed).
class Executable {
 public:
  virtual ~Executable() = default;
  virtual void launch(const LaunchArguments& arguments) const = 0;
  // The same of a plan that differs from the prepared one in numbers only: it has the same kernels with the same
  // kinds of arguments, workspaces, and tensor maps of the same rank. Allocates nothing once it has launched such
  // plans. False, and nothing is done, where a plan needs what this one was not prepared for, which prepare()
  // then says or does; always, where an executable does not do this.
  virtual bool launch_with(const LaunchPlan& /*plan*/, const LaunchArguments& /*arguments*/) const {
    return false;
  }
};

// Device memory, freed when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, std::size_t bytes, std::function<void(void*)> free)
      : data_(data, std::move(free)), bytes_(bytes) {}
  [[nodiscard]] void* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::unique_ptr<void, std::function<void(void*)>> data_{nullptr, [](void*) {}};
  std::size_t bytes_ = 0;
};

enum class Loss : std::uint8_t {
  none,
  fault,    // a kernel faulted, or the process that ran it died
  timeout,  // a kernel ran longer than allowed
};

class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual const Device& device() const noexcept = 0;

  // True when compiling takes cores away from what is measured.
  [[nodiscard]] virtual bool compiling_disturbs_timing() const noexcept { return false; }

  // The compiler's name and version ("nvrtc 13.0.88"). Loads it if need be; throws
  // Error(compiler_unavailable) that says what to install.
  virtual std::string compiler() = 0;
  // Compiles; safe from many threads at once. Throws Error(compile_failed) with the log in
  // detail(), or compiler_unavailable.
  virtual Binary compile(const Specialization& specialization) = 0;

  // Throws Error(launch_failed) when the device rejects the image or lacks resources for the plan.
  virtual std::shared_ptr<const Module> load(const Binary& binary) = 0;
  virtual std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                                    const LaunchPlan& plan) = 0;

  virtual Buffer allocate(std::size_t bytes) = 0;  // at least 256-byte aligned
  virtual void copy_to_device(void* device, const void* host, std::size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, std::size_t bytes) = 0;
  virtual void fill(void* device, std::byte value, std::size_t bytes) = 0;
  // Waits for all work; throws Error(launch_failed) with what went wrong on the device.
  virtual void synchronize() = 0;
  // What has left the device unusable, if anything: every later call fails until recover().
  [[nodiscard]] virtual Loss lost() const noexcept { return Loss::none; }
  // Makes a lost device usable again, with nothing on it: buffers, modules and executables from before
  // may only be destroyed. False when only a new process could (backends in the caller's process).
  virtual bool recover() { return lost() == Loss::none; }
  // The longest that one call which runs kernels may take before the device counts as lost
  // (Loss::timeout), in seconds. Backends in the caller's process cannot keep to it.
  virtual void limit_runs(double /*seconds*/) {}
  // True while `stream` is being captured into a graph.
  virtual bool capturing(Stream stream) = 0;

  // Name and version of how time() measures; figures of different methods do not compare.
  [[nodiscard]] virtual std::string measurement() const = 0;
  // Runs the executable `count` times, each with a cold cache and queued behind earlier work so
  // that host latency is not measured. Returns seconds a run, in order. Arguments' stream is
  // ignored.
  virtual std::vector<double> time(const Executable& executable, const LaunchArguments& arguments,
                                   int count) = 0;
};

}  // namespace cudadent
