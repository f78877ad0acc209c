#include "tuner/compile_pool.h"

namespace cudadent {

CompilePool::CompilePool(Backend& backend, BinaryStore& known, int workers)
    : backend_(backend), known_(known) {
  for (int i = 0; i < workers; ++i)
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

CompilePool::~CompilePool() {
  const std::lock_guard lock(mutex_);
  waiting_.clear();
  for (auto& worker : workers_) worker.request_stop();
}

void CompilePool::submit(Candidate candidate, Specialization specialization) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back({candidate, std::move(specialization), std::nullopt, std::nullopt});
  ++under_way_;
  submitted_.notify_one();
}

std::optional<Compiled> CompilePool::next(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return !done_.empty() || under_way_ == 0; };
  if (!finished_.wait_until(lock, deadline, ready) || done_.empty()) return std::nullopt;
  Compiled first = std::move(done_.front());
  done_.pop_front();
  --under_way_;
  return first;
}

std::size_t CompilePool::under_way() const {
  const std::lock_guard lock(mutex_);
  return under_way_;
}

Compiled CompilePool::compile(Compiled job) const {
  try {
    job.binary = known_.find_binary(job.specialization.hash);
    if (!job.binary) job.binary = backend_.compile(job.specialization);
  } catch (const Error& error) {
    job.error = error;
  } catch (const std::exception& error) {
    job.error = Error(ErrorCode::internal, error.what());
  }
  return job;
}

void CompilePool::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (submitted_.wait(lock, stop, [&] { return !waiting_.empty(); })) {
    Compiled job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    Compiled result = compile(std::move(job));
    lock.lock();
    done_.push_back(std::move(result));
    finished_.notify_one();
  }
}

}  // namespace cudadent
