// Processes that compile, each for one caller at a time.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <vector>

#include "runtime/backends/worker/peer.h"
#include "runtime/backends/worker/worker_backend.h"

namespace cudadent::worker {

// Safe from many threads at once. Starts a process when a caller finds none idle, keeps it for the next one.
class CompileWorkers {
 public:
  CompileWorkers(const Environment& environment, const WorkerOptions& options);

  // As Backend's; see make_worker_backend().
  std::string name();
  Binary compile(const Specialization& specialization);

 private:
  class Seat;
  template <class Result>
  Result ask(Verb verb, const std::string& what, const Writer& request);
  template <class Result>
  Result ask_seated(Verb verb, const std::string& what, const Writer& request);
  std::optional<Peer> take_idle();
  const Hello& hello();

  WorkerOptions options_;
  std::mutex hello_mutex_;
  bool hello_complete_ = false;
  Hello hello_;
  std::mutex name_mutex_;
  std::string name_;

  // Not a condition variable: those cannot be destroyed in the child of a fork while the parent's threads wait.
  std::counting_semaphore<> seats_free_;
  std::mutex mutex_;
  std::vector<Peer> idle_;
};

}  // namespace cudadent::worker
