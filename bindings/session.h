// The Runtime behind Python's objects, the default ones, and how Python interrupts them.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <map>
#include <memory>

#include "runtime/base/turns.h"
#include "runtime/operators/template_library.h"

namespace cudadent::python {

// A Runtime that can be closed while operators of it are about. Whoever works with it without the
// interpreter lock holds a reference, so that closing waits for them.
class Session {
 public:
  // Call with the interpreter lock; it is released while the device is opened.
  explicit Session(RuntimeOptions options);
  ~Session() { close(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] bool is_open() const noexcept { return runtime_ != nullptr; }
  // Throws Error(invalid_argument) when closed.
  [[nodiscard]] const std::shared_ptr<Runtime>& runtime() const;
  void close() noexcept;

 private:
  std::shared_ptr<Runtime> runtime_;
};

// The runtimes that module-level calls use: one a device, made when first needed.
class Defaults {
 public:
  // The one of the module. It outlives the interpreter; its sessions are closed at exit.
  static Defaults& instance();

  // `device`: a CUDA ordinal or host_memory.
  std::shared_ptr<Session> session(std::int32_t device);
  // `device`: as RuntimeOptions::device.
  std::shared_ptr<Session> session(const std::string& device);
  // The operators that default runtimes know.
  std::shared_ptr<TemplateLibrary> library();

  [[nodiscard]] const RuntimeOptions& options() const noexcept { return options_; }
  // Later calls use new runtimes, with these options.
  void set_options(RuntimeOptions options);
  // Changes when the runtimes do.
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
  void close();

 private:
  // Guarded by the interpreter lock.
  RuntimeOptions options_;
  std::map<std::string, std::shared_ptr<Session>> sessions_;  // by device name
  std::shared_ptr<TemplateLibrary> library_;
  std::uint64_t generation_ = 1;
  Turns opening_;  // one device at a time; taken without the interpreter lock
};

// For TuneOptions::cancelled: true when Python has an interrupt (Ctrl-C) or a callback's exception
// to raise. Takes the interpreter lock, though seldom more often than every 20 ms.
bool is_interrupted();
// Keeps the exception that a callback raised, and has the run cancelled. Needs the lock.
void keep_callback_exception(pybind11::error_already_set& error);
// Raises in Python what made is_interrupted() true, if anything did. Needs the lock.
void raise_interruption();

// Messages go to the logger "cudadent" of Python's module logging.
void log_to_python(LogLevel level, std::string_view message) noexcept;

// Runs `work` without the interpreter lock; then raises what interrupted it, if anything did, rather
// than its own error.
template <class Work>
auto without_interpreter_lock(Work work) {
  try {
    auto result = [&] {
      const pybind11::gil_scoped_release release;
      return work();
    }();
    raise_interruption();
    return result;
  } catch (const Error&) {
    raise_interruption();
    throw;
  }
}

}  // namespace cudadent::python
