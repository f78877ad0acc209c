// Compiles candidates ahead of measurement on several threads.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/base/threads.h"
#include "runtime/launch/configuration_source.h"
#include "runtime/operators/specialization.h"
#include "tuner/search_space.h"

namespace cudadent {

struct Compiled {
  Candidate candidate = 0;
  Specialization specialization;
  std::optional<Binary> binary;  // nothing when it failed
  std::optional<Error> error;
};

class CompilePool {
 public:
  // Binaries already in `known` are taken from there; new ones are not put there. Both must outlive the
  // pool. Of `workers` threads there are as many as the system has left; Error(machine_failed) when it has none.
  CompilePool(Backend& backend, BinaryStore& known, int workers);
  // Drops what has not begun and cancels what has, which is waited for: NVRTC in this process does not hear it. In
  // the child of a fork, which has none of the threads, a pool may only be destroyed, and nothing is waited for.
  ~CompilePool();
  CompilePool(const CompilePool&) = delete;
  CompilePool& operator=(const CompilePool&) = delete;

  void submit(Candidate candidate, Specialization specialization);
  // The next finished one, in order of finishing; waits for it. Nothing when none is under way, or at
  // the deadline.
  std::optional<Compiled> next(std::chrono::steady_clock::time_point deadline);
  // Submitted and not yet handed out by next().
  [[nodiscard]] std::size_t under_way() const;

 private:
  struct State;
  static Compiled compile(Backend& backend, BinaryStore& known, Compiled job);

  // The threads hold on to it, so that a child, in which they never let go, does not destroy it.
  std::shared_ptr<State> state_;
  std::vector<OwnThread> workers_;
};

}  // namespace cudadent
