// A child process in a group of its own, talked to through a socket, with the last it wrote to stderr.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/backends/worker/channel.h"

namespace cudadent::worker {

// The socket's number in the child.
inline constexpr int child_socket = 3;
// How a line begins that a worker writes to stderr for its parent's log.
inline constexpr std::string_view worker_note = "cudadent-worker says: ";

// Started with posix_spawn: no fork of this process's memory, no file inherited but `socket` (as number 3),
// stdin and stdout on /dev/null, every signal at its default and unblocked. Needs nothing of this process's
// signal handlers, and leaves them alone.
class Process {
 public:
  // The child's TMPDIR is `scratch`, which its watcher and kill() empty; none when empty.
  // Throws Error(device_unavailable).
  Process(const std::filesystem::path& program, File socket, std::filesystem::path scratch = {});
  // Kills what still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Waits up to `seconds` for the end, kills the group then, and says how it ended: "was ended by signal 11
  // (SIGSEGV)", "exited with status 3". May be called again.
  const std::string& end(double seconds) noexcept;
  // Whether it had ended, when end() came, by a signal that programs do not bring upon themselves: someone, or the
  // system for want of memory, has ended it.
  [[nodiscard]] bool was_killed() const noexcept { return killed_; }
  // The last few KiB of stderr. Call it now and then: the child's words are dropped while nobody reads them.
  const std::string& errors() noexcept;
  // What the worker, rather than a kernel or a compiler, wrote to stderr since the last call: lines that begin with
  // worker_note, without that.
  std::vector<std::string> notes() noexcept;

 private:
  [[nodiscard]] bool ours() const noexcept;
  enum class State { running, zombie, gone };
  [[nodiscard]] State wait(double seconds) const noexcept;

  pid_t child_ = -1;
  pid_t parent_ = -1;
  bool ended_ = false, killed_ = false;
  std::string how_;
  File stderr_;
  std::string errors_;
  std::string unread_;  // of errors_, by notes()
  std::filesystem::path scratch_;
};

// A folder of this process's own below the system's temporary one; empty when none can be made.
std::filesystem::path make_scratch_folder();

}  // namespace cudadent::worker
