// Forks of this process, for code that has threads and locks. The child of a fork has one thread, the one that
// forked; of the others it has the locks they held and what they were half through with.
//
// What is here makes locks and what they guard come out whole: a fork waits until no thread is between taking
// and releasing a ForkSafeMutex. What lasts longer than a fork can wait (threads, tuning runs, processes, CUDA
// contexts) is told apart by fork_count(), and made anew or refused in the child.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace cudadent {

namespace forking {
extern std::atomic<std::uint64_t> count;  // written by the child of a fork only
}

// Of the forks between the start of the program and this process: another number in the child than in the
// parent. One load. (Of forks that run no handlers, such as vfork, the child may call nothing of ours.)
inline std::uint64_t fork_count() noexcept {
  return forking::count.load(std::memory_order_relaxed);
}

// While one lives, a fork in any thread waits; in the thread that forks it may live, and does in the child, too.
// For some milliseconds at a time: who holds one waits for no process, for nothing that may take a lock of the
// caller's (callbacks, logs), and for no lock but a ForkSafeMutex. A fork does not wait for ever: after some
// seconds it goes through, and the child can make none of these any more.
class NoFork {
 public:
  // Waits for a fork under way. Throws Error(device_unavailable) in a child as above.
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

// Lets forks through while this thread, which holds NoForks, sleeps. What it holds locked, the child finds
// locked by nobody, and in the state it is in now.
class ForkAllowed {
 public:
  ForkAllowed() noexcept;
  ~ForkAllowed();
  ForkAllowed(const ForkAllowed&) = delete;
  ForkAllowed& operator=(const ForkAllowed&) = delete;

 private:
  int depth_;
};

// A mutex that holds a NoFork while it is locked: the child of a fork finds it unlocked, and what it guards whole.
class ForkSafeMutex {
 public:
  ForkSafeMutex() = default;
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;
  // All as std::mutex's, but lock() and try_lock() throw what NoFork does.
  void lock();
  bool try_lock();
  void unlock() noexcept;

 private:
  void make_own();

  std::mutex mutex_;
  std::atomic<std::uint64_t> forks_ = fork_count();  // in the process that mutex_ belongs to
};

// Throws Error(device_unavailable): "cannot <attempt>: this process was forked …", for what a child cannot have.
// A CUDA context is one such thing.
inline constexpr std::string_view cuda_in_child_advice =
    "CUDA cannot be used after a fork: use it in processes that were started anew "
    "(multiprocessing's \"spawn\" or "
    "\"forkserver\"), or not before the fork.";
[[noreturn]] void fail_in_child(std::string_view attempt, std::string_view advice);

}  // namespace cudadent
