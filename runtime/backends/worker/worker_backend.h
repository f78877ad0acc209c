// A backend whose device work is done by another process, the program cudadent-worker, so that a kernel
// that faults, hangs, aborts or eats memory costs that process and not the caller's.
//
// One measuring worker owns the device; templates compile in workers of their own, as many as threads call
// compile() at once. Device pointers, modules and executables are the measuring worker's: they mean nothing
// to this process, but adding an offset to a device pointer works as ever.
#pragma once

#include <cudadent/cudadent.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/backends/backend.h"
#include "runtime/base/environment.h"

namespace cudadent {

struct WorkerOptions {
  std::filesystem::path program;  // cudadent-worker; see find_worker_program()
  std::string device = "host";    // "host", "cuda", "cuda:1"
  double compile_timeout = 60;    // seconds; 0 means no limit
  // Seconds that launching an executable and waiting for it may take, and each run of time(); 0 means no
  // limit. Backend::limit_runs() changes it.
  double run_timeout = 10;
  int compile_processes = 0;  // at most so many at once, further callers wait; 0: a core each
  std::function<void(LogLevel, std::string_view)> log;  // may be called from any thread
};

// The program to start workers from: what Environment::worker (CUDADENT_WORKER) names; else what lies beside
// the file that holds this code (program, library or Python module), where it is installed or built. Files
// of other users than root and this one are passed over. Empty when there is none or CUDADENT_WORKER is
// "none"; then `why_none` says which. Throws Error(device_unavailable) when CUDADENT_WORKER names what is no
// program.
std::filesystem::path find_worker_program(const Environment& environment,
                                          std::string* why_none = nullptr);

// Starts the measuring worker and waits until it has opened the device; compile workers start when needed.
// Throws Error(device_unavailable) when the program cannot be started, is of another version, or cannot open
// the device.
//
// What the interface leaves open:
// - device(), measurement() and compiling_disturbs_timing() are what the backend in the worker says, and
//   compiler() what a compile worker says.
// - compile() throws Error(timed_out) after compile_timeout; Error(machine_failed) when the compiler's
//   process died; the next call gets a fresh process. Works also while the device is lost.
// - When the measuring worker dies, speaks nonsense or reports that its context is beyond use, the call
//   throws Error(launch_failed), or machine_failed when it was killed from outside, and lost() is Loss::fault.
//   What a Cancellation of the calling thread ends, ends the process that does it: Error(cancelled). When a call that runs or waits for kernels takes
//   too long, the worker is killed, the call throws Error(timed_out) and lost() is Loss::timeout. The
//   message says which; detail() has the last the worker wrote to stderr.
// - From then on every call that needs the device throws Error(launch_failed) at once, until recover() has
//   started a new worker. What was made before that may only be destroyed; it may outlive the backend.
// - launch() and the rest take turns. `stream` is ignored; capturing() is false.
// - Destroying the backend ends its workers; so does the end of this process, however it ends.
// In the child of a fork() a backend may only be destroyed, which leaves the parent's workers alone.
std::unique_ptr<Backend> make_worker_backend(const Environment& environment,
                                             const WorkerOptions& options);

}  // namespace cudadent
