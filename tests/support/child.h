// Child processes of a test: copies of it, made with fork.
#pragma once

#include <fmt/format.h>
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

}  // namespace cudadent::tests
