// Child processes of a test: copies of it, made with fork.
#pragma once

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

namespace cudadent::tests {

// Starts `action` in a child; its status is 0 when it returns true.
template <class Action>
pid_t start_child(const Action& action) {
  std::fflush(nullptr);  // else the child has the parent's output to write, too
  const pid_t child = ::fork();
  if (child != 0) return child;
  int status = 2;
  try {
    status = action() ? 0 : 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "in the child: {}\n", error.what());
  }
  ::_exit(status);
}

inline int wait_for(pid_t child) {
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

// Leaves this process, which should be a child of the test, `more` threads to start: none or a few fewer where it
// does not run as root, whose threads are not limited. False when that cannot be had.
inline bool limit_threads(rlim_t more) {
  // A user of its own: limits count all that a user runs.
  if (::geteuid() == 0 && ::setuid(100'000 + static_cast<uid_t>(::getpid())) != 0) return false;
  const rlimit limit{1 + more, 1 + more};
  return ::setrlimit(RLIMIT_NPROC, &limit) == 0;
}

}  // namespace cudadent::tests
