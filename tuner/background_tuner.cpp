#include "tuner/background_tuner.h"

#include <mutex>
#include <optional>

namespace cudadent {

namespace {

std::string name_of_key(const Problem& problem) {
  return problem.op->name + " " + problem.tuning_key();
}

// What may go better when the problem is met the next time.
bool passes(ErrorCode code) {
  return code == ErrorCode::machine_failed || code == ErrorCode::timed_out ||
         code == ErrorCode::cache_failed;
}

}  // namespace

BackgroundTuner::BackgroundTuner(Tune tune, Failed failed)
    : tune_(std::move(tune)), failed_(std::move(failed)) {}

BackgroundTuner::~BackgroundTuner() = default;  // the thread's own destructor stops and joins it

void BackgroundTuner::start() {
  submitted_ = std::make_shared<std::condition_variable_any>();
  known_.clear();
  waiting_.clear();
  const auto work = [this, submitted = submitted_](const std::stop_token& stop) {
    this->work(*submitted, stop);
  };
  if (start_threads(1, [&](std::size_t) { thread_ = OwnThread(work); }) == 0)
    throw Error(ErrorCode::launch_failed,
                "There is no thread to tune on: the system starts no more of them. Raise its limit "
                "(ulimit -u, or the container's), or end some processes.");
}

void BackgroundTuner::submit(const OperatorEntry& entry, const Problem& problem) {
  std::optional<Error> failure;
  {
    const std::lock_guard lock(mutex_);
    try {
      if (!thread_.runs_here()) start();
      if (!known_.insert(name_of_key(problem)).second) return;
      waiting_.push_back({entry, problem});
      submitted_->notify_one();
    } catch (const Error& error) {
      failure = error;
    }
  }
  if (failure) failed_(problem, *failure);
}

void BackgroundTuner::work(std::condition_variable_any& submitted, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (submitted.wait(lock, stop, [&] { return !waiting_.empty(); }) && !stop.stop_requested()) {
    const Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    bool again = false;
    try {
      tune_(job.entry, job.problem, [&] { return stop.stop_requested(); });
    } catch (const std::exception& error) {
      if (!stop.stop_requested()) failed_(job.problem, error);  // it was made to
      const auto* ours = dynamic_cast<const Error*>(&error);
      again = ours != nullptr && passes(ours->code());
    }
    lock.lock();
    if (again) known_.erase(name_of_key(job.problem));
  }
}

}  // namespace cudadent
