#include "tuner/background_tuner.h"

namespace cudadent {

BackgroundTuner::BackgroundTuner(Tune tune, Failed failed)
    : tune_(std::move(tune)), failed_(std::move(failed)) {}

BackgroundTuner::~BackgroundTuner() = default;  // the thread's own destructor stops and joins it

void BackgroundTuner::submit(const OperatorEntry& entry, const Problem& problem) {
  const std::lock_guard lock(mutex_);
  if (!known_.insert(problem.op->name + " " + problem.tuning_key()).second) return;
  waiting_.push_back({entry, problem});
  if (!thread_.joinable())
    thread_ = std::jthread([this](const std::stop_token& stop) { work(stop); });
  submitted_.notify_one();
}

void BackgroundTuner::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (submitted_.wait(lock, stop, [&] { return !waiting_.empty(); }) && !stop.stop_requested()) {
    const Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    try {
      tune_(job.entry, job.problem, [&] { return stop.stop_requested(); });
    } catch (const std::exception& error) {
      if (!stop.stop_requested()) failed_(job.problem, error);  // it was made to
    }
    lock.lock();
  }
}

}  // namespace cudadent
