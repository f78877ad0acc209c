// Starting threads where the system may have none left (ulimit -u, a container's limit of processes), and letting
// go of those that a fork has not copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <thread>
#include <utility>

#include "runtime/base/fork.h"

namespace cudadent {

// A std::jthread of the process that started it. In the child of a fork, where there is no such thread, its end
// is no more than forgotten: nothing waits for it.
class OwnThread {
 public:
  OwnThread() = default;
  // Runs `work` with a stop token. Throws std::system_error when there is no thread to be had.
  template <class Work>
  explicit OwnThread(Work work) : thread_(std::make_unique<std::jthread>(std::move(work))) {}
  OwnThread(OwnThread&& other) noexcept = default;
  OwnThread& operator=(OwnThread&& other) noexcept {
    end();
    thread_ = std::move(other.thread_);
    forks_ = other.forks_;
    return *this;
  }
  // Asks it to stop and waits until it has.
  ~OwnThread() { end(); }

  [[nodiscard]] bool runs_here() const noexcept {
    return thread_ != nullptr && forks_ == fork_count();
  }
  void request_stop() noexcept {
    if (runs_here()) thread_->request_stop();
  }

 private:
  void end() noexcept {
    // NOLINTNEXTLINE(bugprone-unused-return-value): left to the end of the process
    if (!runs_here()) thread_.release();
    thread_.reset();
  }

  std::unique_ptr<std::jthread> thread_;
  std::uint64_t forks_ = fork_count();
};

// Calls `start` `count` times, which is to start a thread each time, until the system has none left; returns how
// many it started. Throws what `start` throws but std::errc::resource_unavailable_try_again.
std::size_t start_threads(std::size_t count, const std::function<void(std::size_t index)>& start);

// Calls `work` on up to `count` threads at once, this one among them, and waits for all: for work that its callers
// share out among themselves, however many they are. It must not throw.
void on_threads(std::size_t count, const std::function<void()>& work);

}  // namespace cudadent
