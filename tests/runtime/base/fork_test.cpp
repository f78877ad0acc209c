#include "runtime/base/fork.h"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/processes.h"

namespace cudadent {
namespace {

using namespace tests;

TEST_CASE("a child counts one fork more than its parent, whose count stays") {
  const auto before = fork_count();
  CHECK(wait_for(start_child([&] {
          return fork_count() == before + 1 &&
                 wait_for(start_child([&] { return fork_count() == before + 2; })) == 0;
        })) == 0);
  CHECK(fork_count() == before);
}

TEST_CASE("whatever threads do, a child finds mutexes unlocked and what they guard whole") {
  ForkSafeMutex mutex, inner;
  std::int64_t left = 0, right = 0;  // equal whenever nobody has the mutex
  std::atomic<bool> end{false};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      while (!end) {
        const std::lock_guard lock(mutex);
        ++left;
        const std::lock_guard nested(inner);
        ++right;
      }
    });
  for (int i = 0; i < 20; ++i)
    CHECK(wait_for(start_child([&] {
            const std::lock_guard lock(mutex);
            const std::lock_guard nested(inner);
            return left == right;
          })) == 0);
  end = true;
}

TEST_CASE("a thread that holds a mutex may itself fork") {
  ForkSafeMutex mutex;
  mutex.lock();
  const auto child = start_child([&] {
    ForkSafeMutex other;
    const std::lock_guard lock(other);
    return true;
  });
  mutex.unlock();
  CHECK(wait_for(child) == 0);
  CHECK(wait_for(start_child([&] { return mutex.try_lock(); })) == 0);
}

TEST_CASE("a fork goes through while a thread that holds a mutex sleeps and allows it") {
  ForkSafeMutex mutex;
  std::atomic<bool> asleep{false}, end{false};
  std::jthread sleeper([&] {
    const std::lock_guard lock(mutex);
    const ForkAllowed allowed;
    asleep = true;
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  REQUIRE(eventually([&] { return asleep.load(); }));
  std::jthread waiter([&] {  // does not hold it up either
    const std::lock_guard lock(mutex);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  CHECK(wait_for(start_child([&] { return mutex.try_lock(); })) == 0);
  CHECK(!mutex.try_lock());
  end = true;
}

TEST_CASE("a fork does not wait for ever, and its child says what is wrong instead of hanging") {
  std::atomic<bool> inside{false}, end{false};
  std::jthread stuck([&] {
    const NoFork no_fork;
    inside = true;
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  REQUIRE(eventually([&] { return inside.load(); }));
  ForkSafeMutex mutex;
  CHECK(wait_for(start_child([&] {
          return fails(ErrorCode::device_unavailable, {"when it forked", "spawn"},
                       [&] { mutex.lock(); });
        })) == 0);
  mutex.lock();  // the parent goes on
  mutex.unlock();
  end = true;
  stuck.join();
  CHECK(wait_for(start_child([&] { return mutex.try_lock(); })) == 0);
}

}  // namespace
}  // namespace cudadent
