// Many processes on one file: what one reported stored is there, whatever becomes of the others.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "cache/database_file.h"
#include "cache/store.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

constexpr std::int64_t trials_a_process = 200;

// Stores trials and reports each one, once it is stored, through a pipe.
struct Writer {
  pid_t process = -1;
  int reports = -1;  // read end

  Writer(const std::filesystem::path& file, std::int64_t number) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    process = start_child([&] {
      ::close(ends[0]);
      Store store(file);
      for (std::int64_t i = 0; i < trials_a_process; ++i) {
        const std::int64_t trial = number * trials_a_process + i;
        store.put_trial(gemm_trial(trial));
        if (::write(ends[1], &trial, sizeof trial) != sizeof trial) return false;
      }
      return true;
    });
    ::close(ends[1]);
    reports = ends[0];
  }
  ~Writer() { ::close(reports); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // The next report; false when there are no more.
  bool next(std::int64_t& trial) const {
    return ::read(reports, &trial, sizeof trial) == sizeof trial;
  }
};

TEST_CASE("four processes write one new file, one is killed, nothing reported is lost") {
  const TemporaryFolder folder;
  const auto file = folder / "sub" / "cudadent.db";
  std::array<Writer, 4> writers = {Writer{file, 0}, Writer{file, 1}, Writer{file, 2},
                                   Writer{file, 3}};
  std::set<std::int64_t> reported;
  std::int64_t trial = -1;
  for (int i = 0; i < 50 && writers[0].next(trial); ++i) reported.insert(trial);
  ::kill(writers[0].process, SIGKILL);
  for (const Writer& writer : writers) {
    while (writer.next(trial)) reported.insert(trial);
  }
  const int killed = wait_for(writers[0].process);
  CHECK(WIFSIGNALED(killed));
  for (std::size_t i = 1; i < writers.size(); ++i) CHECK(wait_for(writers[i].process) == 0);
  CHECK(reported.size() >= 3 * trials_a_process + 50);

  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
  Store store(file);
  const ProblemRecord problem = gemm_problem();
  std::set<std::int64_t> stored;
  for (const TrialRecord& record :
       store.trials(problem.op, problem.problem_key, problem.device_kind)) {
    stored.insert(std::get<std::int64_t>(record.trial.configuration.at("NUMBER")));
  }
  CHECK(std::includes(stored.begin(), stored.end(), reported.begin(), reported.end()));
  CHECK(stored.size() <= reported.size() + 1);  // at most one was stored and not yet reported
}

TEST_CASE("a store goes on in the child of a fork, and in the parent") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  store.put_trial(gemm_trial(0));
  const auto use_in_child = [&](std::int64_t number) {
    return start_child([&store, number] {
      for (std::int64_t i = 0; i < 50; ++i) store.put_trial(gemm_trial(number * 1000 + i));
      return store.counts().trials > 50;
    });
  };
  const pid_t first = use_in_child(1);
  const pid_t second = use_in_child(2);
  for (std::int64_t i = 0; i < 50; ++i) store.put_trial(gemm_trial(100 + i));
  CHECK(wait_for(first) == 0);
  CHECK(wait_for(second) == 0);
  CHECK(store.counts().trials == 151);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

TEST_CASE("the child of a fork holds its own locks") {
  // Else the parent would take itself for the last user as it closes, and delete the child's log.
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  auto store = std::make_unique<Store>(file);
  store->put_trial(gemm_trial(0));
  std::array<int, 2> to_child{};
  std::array<int, 2> to_parent{};
  REQUIRE(::pipe(to_child.data()) == 0);
  REQUIRE(::pipe(to_parent.data()) == 0);
  const pid_t child = start_child([&] {
    char byte = 0;
    store->put_trial(gemm_trial(1));
    if (::write(to_parent[1], &byte, 1) != 1 || ::read(to_child[0], &byte, 1) != 1) return false;
    store->put_trial(gemm_trial(2));  // after the parent has closed
    return true;
  });
  char byte = 0;
  REQUIRE(::read(to_parent[0], &byte, 1) == 1);
  store.reset();
  REQUIRE(::write(to_child[1], &byte, 1) == 1);
  CHECK(wait_for(child) == 0);
  for (const int end : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) ::close(end);
  CHECK(Store(file).counts().trials == 3);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

TEST_CASE("so it does where it has inherited two stores of one file, and uses one") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  auto store = std::make_unique<Store>(file), other = std::make_unique<Store>(file);
  store->put_trial(gemm_trial(0));
  CHECK(other->counts().trials == 1);
  std::array<int, 2> to_child{};
  std::array<int, 2> to_parent{};
  REQUIRE(::pipe(to_child.data()) == 0);
  REQUIRE(::pipe(to_parent.data()) == 0);
  const pid_t child = start_child([&] {
    char byte = 0;
    store->put_trial(gemm_trial(1));
    if (::write(to_parent[1], &byte, 1) != 1 || ::read(to_child[0], &byte, 1) != 1) return false;
    store->put_trial(gemm_trial(2));  // after the parent has closed both
    return other->counts().trials == 3;
  });
  char byte = 0;
  REQUIRE(::read(to_parent[0], &byte, 1) == 1);
  store.reset();
  other.reset();
  REQUIRE(::write(to_child[1], &byte, 1) == 1);
  CHECK(wait_for(child) == 0);
  for (const int end : {to_child[0], to_child[1], to_parent[0], to_parent[1]}) ::close(end);
  CHECK(Store(file).counts().trials == 3);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

TEST_CASE("a fork may come while other threads use the store") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  std::atomic<bool> end{false};
  std::atomic<std::int64_t> stored{0};
  {
    std::vector<std::jthread> threads;
    for (std::int64_t t = 0; t < 2; ++t)
      threads.emplace_back([&, t] {
        for (std::int64_t i = 0; !end; ++i, ++stored)
          store.put_trial(gemm_trial(100'000 * (t + 1) + i));
      });
    threads.emplace_back([&] {
      while (!end) store.problems();
    });
    for (std::int64_t child = 0; child < 10; ++child)
      CHECK(run_in_child([&] {
              store.put_trial(gemm_trial(child));
              return store.counts().trials > 0;
            }) == 0);
    end = true;
  }
  CHECK(store.counts().trials == stored + 10);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

TEST_CASE("a fork may come while another thread waits for a lock of another process") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  store.put_trial(gemm_trial(0));
  std::array<int, 2> locked{}, end{};
  REQUIRE(::pipe(locked.data()) == 0);
  REQUIRE(::pipe(end.data()) == 0);
  const pid_t holder = start_child([&] {
    sqlite::Connection other(file, sqlite::Connection::Access::read_write,
                             std::chrono::seconds(10));
    const sqlite::Transaction writing(other);
    char byte = 0;
    return ::write(locked[1], &byte, 1) == 1 && ::read(end[0], &byte, 1) == 1;
  });
  char byte = 0;
  REQUIRE(::read(locked[0], &byte, 1) == 1);
  std::jthread writer([&] { store.put_trial(gemm_trial(1)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // so that it waits, most likely
  if (!on_network_file_system(folder.path()))
    CHECK(run_in_child([&] { return store.counts().trials == 1; }) == 0);
  REQUIRE(::write(end[1], &byte, 1) == 1);
  CHECK(wait_for(holder) == 0);
  writer.join();
  for (const int number : {locked[0], locked[1], end[0], end[1]}) ::close(number);
  CHECK(store.counts().trials == 2);
}

TEST_CASE("a child that only destroys an inherited store does the parent no harm") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  auto store = std::make_unique<Store>(file);
  store->put_trial(gemm_trial(0));
  CHECK(run_in_child([&] {
          store.reset();
          return true;
        }) == 0);
  store->put_trial(gemm_trial(1));
  CHECK(Store(file).counts().trials == 2);
  store.reset();
  CHECK(Store(file).counts().trials == 2);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

}  // namespace
}  // namespace cudadent
