#include "runtime/base/fork.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pthread.h>

#include <chrono>
#include <memory>
#include <thread>
#include <utility>

namespace cudadent {

std::atomic<std::uint64_t> forking::count = 0;

namespace {

// How long a fork waits for threads that hold a NoFork.
constexpr auto longest_wait = std::chrono::seconds(5);

// State of the process, as the things it guards against are: a fork copies all of it.
std::atomic<int> inside = 0;            // threads that hold a NoFork
std::atomic<bool> fork_wanted = false;  // or under way
bool quiet = true;                      // the fork under way has seen nobody inside
std::atomic<bool> cut_off = false;      // this process, by a fork that waited long enough
std::mutex forks_take_turns;
std::mutex making_own;

thread_local int depth = 0;  // NoForks that this thread holds

void enter() {
  while (true) {
    ++inside;
    if (!fork_wanted) return;
    --inside;
    fork_wanted.wait(true);
  }
}

void before_fork() {
  forks_take_turns.lock();
  fork_wanted = true;
  const int own = depth > 0 ? 1 : 0;
  const auto deadline = std::chrono::steady_clock::now() + longest_wait;
  while (!(quiet = inside == own) && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::microseconds(50));
}

void after_fork() {
  fork_wanted = false;
  fork_wanted.notify_all();
  forks_take_turns.unlock();
}

void after_fork_in_child() {
  if (!quiet) cut_off = true;
  inside = depth > 0 ? 1 : 0;
  ++forking::count;
  after_fork();
}

const int registered = ::pthread_atfork(before_fork, after_fork, after_fork_in_child);

}  // namespace

NoFork::NoFork() {
  if (cut_off)
    throw Error(
        ErrorCode::device_unavailable,
        "cudadent cannot be used in this process: a thread of its parent was at work inside "
        "cudadent when it forked. Fork while no thread is, or start the process anew "
        "(multiprocessing's \"spawn\").");
  if (depth == 0) enter();
  ++depth;
}

NoFork::~NoFork() {
  if (--depth == 0) --inside;
}

ForkAllowed::ForkAllowed() noexcept : depth_(std::exchange(depth, 0)) {
  if (depth_ > 0) --inside;
}

ForkAllowed::~ForkAllowed() {
  if (depth_ > 0) enter();
  depth = depth_;
}

// The copy may be locked, by a thread that is not here.
void ForkSafeMutex::make_own() {
  const std::lock_guard lock(making_own);
  if (forks_ == fork_count()) return;
  std::construct_at(&mutex_);
  forks_ = fork_count();
}

void ForkSafeMutex::lock() {
  // Waits without a NoFork of its own: who has the mutex may wait for a fork itself, once its sleep is over.
  while (!try_lock()) {
    mutex_.lock();
    mutex_.unlock();
  }
}

bool ForkSafeMutex::try_lock() {
  const NoFork no_fork;
  if (forks_ != fork_count()) make_own();
  if (!mutex_.try_lock()) return false;
  ++depth;
  return true;
}

void ForkSafeMutex::unlock() noexcept {
  mutex_.unlock();
  if (--depth == 0) --inside;
}

void fail_in_child(std::string_view attempt, std::string_view advice) {
  throw Error(
      ErrorCode::device_unavailable,
      fmt::format("cannot {}: this process is the child of a fork, and what that takes is its "
                  "parent's. {}",
                  attempt, advice));
}

}  // namespace cudadent
