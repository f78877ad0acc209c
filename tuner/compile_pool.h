// Compiles candidates ahead of measurement on several threads.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/backend.h"
#include "runtime/configuration_source.h"
#include "runtime/specialization.h"
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
  // pool.
  CompilePool(Backend& backend, BinaryStore& known, int workers);
  // Drops what has not begun and waits for what has.
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
  void work(const std::stop_token& stop);
  Compiled compile(Compiled job) const;

  Backend& backend_;
  BinaryStore& known_;
  mutable std::mutex mutex_;
  std::condition_variable_any submitted_, finished_;
  std::deque<Compiled> waiting_, done_;
  std::size_t under_way_ = 0;
  std::vector<std::jthread> workers_;  // last: joined before the rest goes
};

}  // namespace cudadent
