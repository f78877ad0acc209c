// Tunes problems one after another on a thread aside, while their fallbacks run.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <stop_token>
#include <string>

#include "runtime/base/fork.h"
#include "runtime/base/threads.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"

namespace cudadent {

class BackgroundTuner {
 public:
  // Called on the thread aside, one call at a time; `cancelled` turns true when the tuner is destroyed.
  // What it throws is handed to `failed`.
  using Tune = std::function<void(const OperatorEntry& entry, const Problem& problem,
                                  const std::function<bool()>& cancelled)>;
  using Failed = std::function<void(const Problem& problem, const std::exception& error)>;

  BackgroundTuner(Tune tune, Failed failed);
  // Cancels what is under way, waits for it, and drops the rest.
  ~BackgroundTuner();
  BackgroundTuner(const BackgroundTuner&) = delete;
  BackgroundTuner& operator=(const BackgroundTuner&) = delete;

  // A problem whose tuning key was submitted before is not tuned again, whatever became of it, unless it was the
  // machine that failed. The thread begins with the first problem; when there is none to be had, the problem has failed
  // and may be submitted again. In the child of a fork everything begins anew: the parent's thread is not here, and
  // what it tunes is its own business.
  void submit(const OperatorEntry& entry, const Problem& problem);

 private:
  struct Job {
    OperatorEntry entry;
    Problem problem;
  };
  void start();
  void work(std::condition_variable_any& submitted, const std::stop_token& stop);

  Tune tune_;
  Failed failed_;
  ForkSafeMutex mutex_;
  // The thread holds on to it, so that it outlives its waiting in a child, where that never ends.
  std::shared_ptr<std::condition_variable_any> submitted_;
  std::set<std::string> known_;  // operator and tuning key
  std::deque<Job> waiting_;
  OwnThread thread_;  // last: joined before the rest goes
};

}  // namespace cudadent
