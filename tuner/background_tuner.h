// Tunes problems one after another on a thread aside, while their fallbacks run.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "runtime/problem.h"
#include "runtime/template_library.h"

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

  // A problem whose tuning key was submitted before, whatever became of it, is not tuned again. The
  // thread begins with the first problem.
  void submit(const OperatorEntry& entry, const Problem& problem);

 private:
  struct Job {
    OperatorEntry entry;
    Problem problem;
  };
  void work(const std::stop_token& stop);

  Tune tune_;
  Failed failed_;
  std::mutex mutex_;
  std::condition_variable_any submitted_;
  std::set<std::string> known_;  // operator and tuning key
  std::deque<Job> waiting_;
  std::jthread thread_;  // last: joined before the rest goes
};

}  // namespace cudadent
