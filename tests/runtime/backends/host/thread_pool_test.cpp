#include "runtime/backends/host/thread_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/child.h"

namespace cudadent {
namespace {

using tests::limit_threads;
using tests::start_child;
using tests::wait_for;

constexpr std::size_t most = 1000;

struct Counts {
  std::array<std::atomic<int>, most> runs{};
  std::atomic<bool> well{true};
  int workers = 0;
};

void count(void* context, std::uint64_t index, const ThreadPool::Worker& worker) {
  auto& counts = *static_cast<Counts*>(context);
  ++counts.runs.at(index);
  if (worker.index < 0 || worker.index >= counts.workers) counts.well = false;
}

TEST_CASE("every block runs once, however many threads there are") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (const std::uint64_t blocks : {0, 1, 2, 7, 1000}) {
      Counts counts;
      counts.workers = threads;
      pool.run(blocks, 0, count, &counts);
      CHECK(counts.well);
      for (std::size_t i = 0; i < most; ++i) CHECK(counts.runs[i] == (i < blocks ? 1 : 0));
    }
  }
}

TEST_CASE("scratch is aligned, private to a thread and as large as asked") {
  struct Context {
    std::size_t bytes;
    std::atomic<bool> well{true};
  };
  ThreadPool pool(3);
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{100}, std::size_t{5000}, std::size_t{10}}) {
    Context context{bytes};
    pool.run(
        64, bytes,
        [](void* opaque, std::uint64_t index, const ThreadPool::Worker& worker) {
          auto& [size, well] = *static_cast<Context*>(opaque);
          if (reinterpret_cast<std::uintptr_t>(worker.scratch) % 64 != 0) well = false;
          auto* scratch = static_cast<unsigned char*>(worker.scratch);
          const auto mark = static_cast<unsigned char>(index);
          std::memset(scratch, mark, size);
          for (std::size_t i = 0; i < size; ++i)
            if (scratch[i] != mark) well = false;
        },
        &context);
    CHECK(context.well);
  }
}

TEST_CASE("runs from several threads at once all finish") {
  ThreadPool pool(2);
  std::array<Counts, 4> counts;
  {
    std::vector<std::jthread> callers;
    for (auto& own : counts) {
      own.workers = pool.size();
      callers.emplace_back([&pool, &own] {
        for (int i = 0; i < 100; ++i) pool.run(10, 64, count, &own);
      });
    }
  }
  for (const auto& own : counts) {
    CHECK(own.well);
    for (std::size_t i = 0; i < 10; ++i) CHECK(own.runs[i] == 100);
  }
}

TEST_CASE("a pool that never ran goes away") {
  ThreadPool pool(4);
  CHECK(pool.size() == 4);
}

// Whether every one of 100 blocks runs once.
bool works(ThreadPool& pool) {
  Counts counts;
  counts.workers = pool.size();
  pool.run(100, 64, count, &counts);
  return counts.well && std::all_of(counts.runs.begin(), counts.runs.begin() + 100,
                                    [](const auto& runs) { return runs == 1; });
}

TEST_CASE("the child of a fork has threads of its own, and may itself fork") {
  ThreadPool pool(3);
  CHECK(works(pool));
  CHECK(wait_for(start_child([&] {
          return works(pool) && pool.size() == 3 &&
                 wait_for(start_child([&] { return works(pool); })) == 0;
        })) == 0);
  CHECK(works(pool));
}

TEST_CASE("a fork may come while another thread runs blocks") {
  ThreadPool pool(2);
  std::atomic<bool> end{false};
  std::jthread other([&] {
    while (!end) works(pool);
  });
  for (int i = 0; i < 10; ++i) CHECK(wait_for(start_child([&] { return works(pool); })) == 0);
  end = true;
}

TEST_CASE("a child that only destroys an inherited pool does not wait for its threads") {
  auto pool = std::make_unique<ThreadPool>(3);
  CHECK(works(*pool));
  CHECK(wait_for(start_child([&] {
          pool.reset();
          return true;
        })) == 0);
  CHECK(works(*pool));
}

TEST_CASE("where the system has fewer threads left, fewer do the work, and it is said once") {
  CHECK(wait_for(start_child([] {
          if (!limit_threads(6)) return false;
          std::vector<int> told;
          ThreadPool pool(8, [&](int threads) { told.push_back(threads); });
          // Not all there are: others need some, too.
          return works(pool) && works(pool) && told == std::vector<int>{pool.size()} &&
                 pool.size() <= 3;
        })) == 0);
}

}  // namespace
}  // namespace cudadent
