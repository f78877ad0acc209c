// The host device's "multiprocessors": threads that run the blocks of one launch at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cudadent {

class ThreadPool {
 public:
  // `threads` ≥ 1, the calling thread of run() included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }

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
  struct Job {
    std::uint64_t count = 0;
    Task task = nullptr;
    void* context = nullptr;
  };
  // Grown when needed and kept, so that a launch seen before allocates nothing.
  class Scratch {
   public:
    void reserve(std::size_t bytes);
    [[nodiscard]] void* data() const noexcept { return memory_.get(); }

   private:
    struct Free {
      void operator()(void* memory) const noexcept;
    };
    std::unique_ptr<void, Free> memory_;
    std::size_t bytes_ = 0;
  };

  void work(int index);
  void take_blocks(int index);

  std::mutex run_mutex_;  // held by the run() that has the workers
  Job job_;
  std::atomic<std::uint32_t> generation_{0};  // counts jobs; workers wait for it to move
  std::atomic<std::uint64_t> next_{0};        // the next block nobody has taken
  std::atomic<int> busy_{0};                  // workers still in the current job
  std::atomic<bool> stop_{false};
  std::vector<Scratch> scratch_;  // one a thread, the caller's first
  std::vector<std::thread> workers_;
};

}  // namespace cudadent
