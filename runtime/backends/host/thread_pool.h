// The host device's "multiprocessors": threads that run the blocks of one launch at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "runtime/base/fork.h"

namespace cudadent {

class ThreadPool {
 public:
  // `threads` ≥ 1, the calling thread of run() included; they start when first needed, and anew in the child of
  // a fork. Where the system has fewer left the pool has fewer: `on_fewer`, which may be empty, is told how many.
  explicit ThreadPool(int threads, std::function<void(int)> on_fewer = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // As many as there are.
  [[nodiscard]] int size();

  struct Worker {
    int index = 0;            // 0 … size()−1
    void* scratch = nullptr;  // `scratch_bytes` of run(), 64-byte aligned
  };
  // Must not throw: it runs on threads that have nobody to throw to.
  using Task = void (*)(void* context, std::uint64_t index, const Worker& worker);

  // Calls task(context, i, worker) for every i below count, once each, on all threads; returns when
  // all are done. When another run() is under way, the calling thread does all of it alone.
  void run(std::uint64_t count, std::size_t scratch_bytes, Task task, void* context);

 private:
  class Crew;
  Crew& crew();

  const int threads_;
  const std::function<void(int)> on_fewer_;
  ForkSafeMutex starting_;
  std::atomic<Crew*> crew_ = nullptr;  // owned; a parent's is left be
};

}  // namespace cudadent
