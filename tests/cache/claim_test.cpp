// Claims: of the processes that meet one new problem, one tunes.
#include "cache/claim.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <thread>

#include "cache/process_identity.h"
#include "cache/store.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

ProblemRecord other_problem() {
  ProblemRecord problem = gemm_problem();
  problem.tuning_key = R"({"k":1,"m":1,"n":1})";
  return problem;
}

TEST_CASE("a claim keeps others off its tuning key, and only that, until it goes") {
  const TemporaryFolder folder;
  Store store(folder / "a.db");
  Store same_file(folder / "a.db");
  auto claim = store.claim(gemm_problem());
  REQUIRE(claim);
  CHECK(claim->recorded());
  CHECK(store.claim(gemm_problem()) == nullptr);
  CHECK(same_file.claim(gemm_problem()) == nullptr);
  CHECK(same_file.claim(other_problem()) != nullptr);
  REQUIRE(same_file.claimed_by(gemm_problem()));
  CHECK(same_file.claimed_by(gemm_problem())->process == ::getpid());

  claim.reset();
  CHECK(!same_file.claimed_by(gemm_problem()));
  CHECK(same_file.claim(gemm_problem()) != nullptr);
}

TEST_CASE("problems of one tuning key are claimed together") {
  Store store(":memory:");
  const auto claim = store.claim(gemm_problem());
  ProblemRecord same_key = gemm_problem();
  same_key.problem_key = R"({"k":4096,"m":512,"n":4096})";
  CHECK(store.claim(same_key) == nullptr);
}

TEST_CASE("a claim ends with the process that made it, even one that nobody waited for") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const pid_t child = start_child([&] {
    Store store(file);
    const auto claim = store.claim(gemm_problem());
    const char byte = claim ? 'y' : 'n';
    if (::write(ends[1], &byte, 1) != 1) return false;
    ::pause();
    return true;
  });
  char byte = 0;
  REQUIRE(::read(ends[0], &byte, 1) == 1);
  REQUIRE(byte == 'y');
  Store store(file);
  CHECK(store.claim(gemm_problem()) == nullptr);
  REQUIRE(store.claimed_by(gemm_problem()));
  CHECK(store.claimed_by(gemm_problem())->process == child);

  ::kill(child, SIGKILL);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);  // a zombie
  CHECK(store.claim(gemm_problem()) != nullptr);
  wait_for(child);
  for (const int end : ends) ::close(end);
}

TEST_CASE("a claim of another machine lasts as long as its heartbeat") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  Store store(file);
  auto claim = store.claim(gemm_problem());
  run_sql(file, "UPDATE claims SET boot = 'another', host = 'elsewhere'");
  CHECK(store.claim(gemm_problem()) == nullptr);
  CHECK(store.claimed_by(gemm_problem())->host == "elsewhere");

  run_sql(file, "UPDATE claims SET heartbeat = heartbeat - 31");
  CHECK(!store.claimed_by(gemm_problem()));
  const auto taken_over = store.claim(gemm_problem());
  REQUIRE(taken_over);
  claim.reset();  // is no longer its holder's to end
  CHECK(store.claim(gemm_problem()) == nullptr);
}

TEST_CASE("a number given again is not the process that claimed") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  Store store(file);
  const auto claim = store.claim(gemm_problem());
  run_sql(file, "UPDATE claims SET process_start = process_start - 1");
  CHECK(store.claim(gemm_problem()) != nullptr);
  CHECK(state_of(this_process()) == ProcessState::alive);
}

TEST_CASE("the child of a fork does not end its parent's claim") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  Store store(file);
  auto claim = store.claim(gemm_problem());
  CHECK(run_in_child([&] {
          const bool held = store.claim(gemm_problem()) == nullptr;
          claim.reset();
          return held;
        }) == 0);
  CHECK(store.claim(gemm_problem()) == nullptr);
}

TEST_CASE("where there is no thread left, a claim does without a heartbeat") {
  const TemporaryFolder folder;
  CHECK(run_in_unprivileged_child(folder, [&] {
          if (!tests::limit_threads(0)) return false;
          Store store(folder / "a.db");
          const auto claim = store.claim(gemm_problem());
          return claim && claim->recorded() && store.claim(gemm_problem()) == nullptr;
        }) == 0);
}

TEST_CASE("of eight processes at once, one gets the claim") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  std::array<int, 2> start{};
  REQUIRE(::pipe(start.data()) == 0);
  std::array<int, 2> finish{};
  REQUIRE(::pipe(finish.data()) == 0);
  std::array<pid_t, 8> children{};
  for (pid_t& child : children) {
    child = start_child([&] {
      ::close(start[1]);
      ::close(finish[1]);
      Store store(file);
      char byte = 0;
      (void)!::read(start[0], &byte, 1);  // returns at the end of file
      const auto claim = store.claim(gemm_problem());
      const int status = claim && claim->recorded() ? 7 : 0;
      (void)!::read(finish[0], &byte, 1);  // holds what it has until all have asked
      if (status != 0) ::_exit(status);
      return true;
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ::close(start[1]);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  ::close(finish[1]);
  int granted = 0;
  for (const pid_t child : children) granted += WEXITSTATUS(wait_for(child)) == 7 ? 1 : 0;
  CHECK(granted == 1);
}

TEST_CASE("where nothing can be written everybody may tune") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  { const Store create(file); }
  std::filesystem::permissions(file, std::filesystem::perms::owner_read);
  std::filesystem::permissions(
      folder.path(), std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
  CHECK(run_in_unprivileged_child(folder, [&] {
          Store store(file);
          const auto first = store.claim(gemm_problem());
          const auto second = store.claim(gemm_problem());
          return first && second && !first->recorded() && !store.claimed_by(gemm_problem());
        }) == 0);
}

}  // namespace
}  // namespace cudadent
