#include "tuner/compile_pool.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <stop_token>
#include <system_error>
#include <utility>

#include "runtime/base/cancellation.h"

namespace cudadent {

struct CompilePool::State {
  Backend& backend;
  BinaryStore& known;
  const std::uint64_t forks = fork_count();
  std::mutex mutex;
  std::condition_variable_any submitted, finished;
  std::deque<Compiled> waiting, done;
  std::size_t under_way = 0;

  State(Backend& compiling, BinaryStore& binaries) : backend(compiling), known(binaries) {}
  void work(const std::stop_token& stop);
};

CompilePool::CompilePool(Backend& backend, BinaryStore& known, int workers)
    : state_(std::make_shared<State>(backend, known)) {
  start_threads(static_cast<std::size_t>(std::max(workers, 1)), [this](std::size_t) {
    workers_.emplace_back([state = state_](const std::stop_token& stop) { state->work(stop); });
  });
  if (workers_.empty())
    throw Error(ErrorCode::machine_failed,
                "There is no thread to compile on: the system starts no more of them. Raise its "
                "limit (ulimit -u, or the container's), or end some processes.");
}

CompilePool::~CompilePool() {
  if (state_->forks != fork_count()) return;
  const std::lock_guard lock(state_->mutex);
  state_->waiting.clear();
  for (auto& worker : workers_) worker.request_stop();
}

void CompilePool::submit(Candidate candidate, Specialization specialization) {
  const std::lock_guard lock(state_->mutex);
  state_->waiting.push_back({candidate, std::move(specialization), std::nullopt, std::nullopt});
  ++state_->under_way;
  state_->submitted.notify_one();
}

std::optional<Compiled> CompilePool::next(std::chrono::steady_clock::time_point deadline) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  const auto ready = [&] { return !state.done.empty() || state.under_way == 0; };
  if (!state.finished.wait_until(lock, deadline, ready) || state.done.empty()) return std::nullopt;
  Compiled first = std::move(state.done.front());
  state.done.pop_front();
  --state.under_way;
  return first;
}

std::size_t CompilePool::under_way() const {
  const std::lock_guard lock(state_->mutex);
  return state_->under_way;
}

Compiled CompilePool::compile(Backend& backend, BinaryStore& known, Compiled job) {
  try {
    job.binary = known.find_binary(job.specialization.hash);
    if (!job.binary) job.binary = backend.compile(job.specialization);
  } catch (const Error& error) {
    job.error = error;
  } catch (const std::bad_alloc&) {
    job.error = Error(ErrorCode::machine_failed, "no memory left to compile");
  } catch (const std::system_error& error) {  // no threads, no descriptors
    job.error = Error(ErrorCode::machine_failed, error.what());
  } catch (const std::exception& error) {
    job.error = Error(ErrorCode::internal, error.what());
  }
  return job;
}

void CompilePool::State::work(const std::stop_token& stop) {
  const Cancellation scope([&] { return stop.stop_requested(); });
  std::unique_lock lock(mutex);
  while (submitted.wait(lock, stop, [&] { return !waiting.empty(); })) {
    Compiled job = std::move(waiting.front());
    waiting.pop_front();
    lock.unlock();
    Compiled result = compile(backend, known, std::move(job));
    lock.lock();
    done.push_back(std::move(result));
    finished.notify_one();
  }
}

}  // namespace cudadent
