#include "runtime/backends/host/thread_pool.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/threads.h"

namespace cudadent {

namespace {

constexpr std::size_t cache_line = 64;
// A job that follows closely is picked up without a system call; beyond this, workers sleep.
constexpr int spins_before_sleep = 2000;
// Threads and processes that a pool leaves to the user where there is a limit to them: a compiler takes three.
constexpr std::size_t left_to_others = 4;

// Grown when needed and kept, so that a launch seen before allocates nothing.
class Scratch {
 public:
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    const std::size_t rounded = (bytes + cache_line - 1) / cache_line * cache_line;
    memory_.reset(std::aligned_alloc(cache_line, rounded));
    bytes_ = memory_ ? rounded : 0;
    if (!memory_) throw std::bad_alloc();
  }
  [[nodiscard]] void* data() const noexcept { return memory_.get(); }

 private:
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t bytes_ = 0;
};

}  // namespace

// The threads of one process.
class ThreadPool::Crew {
 public:
  explicit Crew(int threads) : scratch_(static_cast<std::size_t>(threads)) {
    try {
      if (const std::size_t started = start(scratch_.size() - 1); started < scratch_.size() - 1) {
        end();  // to begin again with fewer than there can be
        workers_.clear();
        stop_ = false;
        generation_ = 0;
        start(started - std::min(started, left_to_others));
      }
    } catch (...) {  // out of memory: those that run would outlive what they use
      end();
      throw;
    }
    scratch_.resize(workers_.size() + 1);
  }
  ~Crew() { end(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  [[nodiscard]] bool is_here() const noexcept { return forks_ == fork_count(); }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()) + 1; }
  void run(std::uint64_t count, std::size_t scratch_bytes, Task task, void* context);

 private:
  struct Job {
    std::uint64_t count = 0;
    Task task = nullptr;
    void* context = nullptr;
  };
  // Returns how many it started.
  std::size_t start(std::size_t count) {
    return start_threads(count, [this](std::size_t i) {
      workers_.emplace_back([this, index = static_cast<int>(i) + 1] { work(index); });
    });
  }
  void work(int index);
  void take_blocks(int index);
  void end() noexcept {
    stop_ = true;
    ++generation_;
    generation_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  const std::uint64_t forks_ = fork_count();
  std::mutex run_mutex_;  // held by the run() that has the workers
  Job job_;
  std::atomic<std::uint32_t> generation_{0};  // counts jobs; workers wait for it to move
  std::atomic<std::uint64_t> next_{0};        // the next block nobody has taken
  std::atomic<int> busy_{0};                  // workers still in the current job
  std::atomic<bool> stop_{false};
  std::vector<Scratch> scratch_;  // one a thread, the caller's first
  std::vector<std::thread> workers_;
};

void ThreadPool::Crew::take_blocks(int index) {
  const Worker worker{index, scratch_[static_cast<std::size_t>(index)].data()};
  for (std::uint64_t i = next_.fetch_add(1); i < job_.count; i = next_.fetch_add(1))
    job_.task(job_.context, i, worker);
}

void ThreadPool::Crew::run(std::uint64_t count, std::size_t scratch_bytes, Task task,
                           void* context) {
  const std::unique_lock lock(run_mutex_, std::try_to_lock);
  if (!lock.owns_lock()) {
    Scratch scratch;
    scratch.reserve(scratch_bytes);
    const Worker alone{0, scratch.data()};
    for (std::uint64_t i = 0; i < count; ++i) task(context, i, alone);
    return;
  }
  // The workers are idle here, so their scratch can be grown for them, where failing can be told.
  for (auto& scratch : scratch_) scratch.reserve(scratch_bytes);
  job_ = {count, task, context};
  next_ = 0;
  if (count > 1 && !workers_.empty()) {
    busy_ = static_cast<int>(workers_.size());
    ++generation_;
    generation_.notify_all();
  }
  take_blocks(0);
  for (int still = busy_; still != 0; still = busy_) busy_.wait(still);
}

void ThreadPool::Crew::work(int index) {
  std::uint32_t seen = 0;
  while (true) {
    for (int i = 0; i < spins_before_sleep && generation_ == seen; ++i);
    generation_.wait(seen);
    if (stop_) return;
    seen = generation_;
    take_blocks(index);
    if (--busy_ == 0) busy_.notify_one();
  }
}

ThreadPool::ThreadPool(int threads, std::function<void(int)> on_fewer)
    : threads_(threads), on_fewer_(std::move(on_fewer)) {}

ThreadPool::~ThreadPool() {
  if (Crew* crew = crew_.load(); crew != nullptr && crew->is_here()) delete crew;
}

// A parent's crew has no threads here, and whatever else it is in the midst of.
ThreadPool::Crew& ThreadPool::crew() {
  Crew* crew = crew_.load(std::memory_order_acquire);
  if (crew != nullptr && crew->is_here()) [[likely]]
    return *crew;
  {
    const std::lock_guard lock(starting_);
    crew = crew_.load(std::memory_order_acquire);
    if (crew != nullptr && crew->is_here()) return *crew;
    crew = new Crew(threads_);
    crew_.store(crew, std::memory_order_release);
  }
  if (on_fewer_ && crew->size() < threads_) on_fewer_(crew->size());
  return *crew;
}

int ThreadPool::size() { return crew().size(); }

void ThreadPool::run(std::uint64_t count, std::size_t scratch_bytes, Task task, void* context) {
  crew().run(count, scratch_bytes, task, context);
}

}  // namespace cudadent
