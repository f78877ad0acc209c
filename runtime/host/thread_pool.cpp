#include "runtime/host/thread_pool.h"

#include <cstdlib>
#include <new>

namespace cudadent {

namespace {
constexpr std::size_t cache_line = 64;
// A job that follows closely is picked up without a system call; beyond this, workers sleep.
constexpr int spins_before_sleep = 2000;
}  // namespace

void ThreadPool::Scratch::Free::operator()(void* memory) const noexcept { std::free(memory); }

void ThreadPool::Scratch::reserve(std::size_t bytes) {
  if (bytes > bytes_) {
    const std::size_t rounded = (bytes + cache_line - 1) / cache_line * cache_line;
    memory_.reset(std::aligned_alloc(cache_line, rounded));
    bytes_ = memory_ ? rounded : 0;
    if (!memory_) throw std::bad_alloc();
  }
}

ThreadPool::ThreadPool(int threads) : scratch_(static_cast<std::size_t>(threads)) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  ++generation_;
  generation_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::take_blocks(int index) {
  const Worker worker{index, scratch_[static_cast<std::size_t>(index)].data()};
  for (std::uint64_t i = next_.fetch_add(1); i < job_.count; i = next_.fetch_add(1))
    job_.task(job_.context, i, worker);
}

void ThreadPool::run(std::uint64_t count, std::size_t scratch_bytes, Task task, void* context) {
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

void ThreadPool::work(int index) {
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

}  // namespace cudadent
