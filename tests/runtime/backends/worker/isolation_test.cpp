// What a candidate does to its process costs the worker, and the caller an error that says what happened.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "runtime/backends/host/backend.h"
#include "runtime/backends/worker/peer.h"
#include "runtime/backends/worker/worker_backend.h"
#include "runtime/base/cancellation.h"
#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/fates.h"

namespace cudadent {
namespace {

using namespace tests;

TEST_CASE("a worker's host is this process's host") {
  const Fates fates;
  const auto here = make_host_backend(fates.environment);
  const auto there = fates.worker();
  CHECK(there->device().kind() == here->device().kind());
  CHECK(there->device().facts() == here->device().facts());
  CHECK(there->measurement() == here->measurement());
  CHECK(there->compiler() == here->compiler());
  CHECK(there->compiling_disturbs_timing() == here->compiling_disturbs_timing());
  CHECK(!there->capturing(nullptr));
  CHECK(there->lost() == Loss::none);
  CHECK(there->recover());
}

TEST_CASE("a kernel runs in the worker as it does here") {
  const Fates fates;
  const auto there = fates.worker();
  const auto wanted = fates.specialization(*there, "well", 5'000'000);
  Candidate candidate(*there, wanted, 5'000'000);  // more than one message of data
  candidate.launch();
  CHECK(candidate.is_right());
  const auto seconds = candidate.time(3);
  REQUIRE(seconds.size() == 3);
  for (const double run : seconds) CHECK(run > 0);
  CHECK(candidate.time(0).empty());

  const auto here = make_host_backend(fates.environment);
  const Binary ours = here->compile(wanted), theirs = there->compile(wanted);
  CHECK(theirs.specialization_hash == ours.specialization_hash);
  CHECK(theirs.architecture == ours.architecture);
  CHECK(theirs.compiler == ours.compiler);
  CHECK(theirs.resources.size() == ours.resources.size());
  CHECK(theirs.image.size() == ours.image.size());
  CHECK(theirs.compile_seconds > 0);
}

TEST_CASE("an offset into a worker's memory is an offset") {
  const Fates fates;
  const auto worker = fates.worker();
  const Buffer buffer = worker->allocate(8);
  const std::array<char, 8> zeros{};
  worker->copy_to_device(buffer.data(), zeros.data(), 8);
  worker->fill(static_cast<char*>(buffer.data()) + 2, std::byte{7}, 3);
  std::array<char, 8> bytes{};
  worker->copy_to_host(bytes.data(), buffer.data(), 8);
  CHECK(bytes == std::array<char, 8>{0, 0, 7, 7, 7, 0, 0, 0});
}

TEST_CASE("what the device refuses is the same error as here, and no loss") {
  const Fates fates;
  const auto worker = fates.worker();
  auto wanted = fates.specialization(*worker, "well");
  const auto module = worker->load(worker->compile(wanted));
  wanted.plan.launches[0].entry = "thrice";
  CHECK(fails(ErrorCode::launch_failed, {"thrice"}, [&] { worker->prepare(module, wanted.plan); }));
  Binary nonsense;
  nonsense.architecture = "s390x";
  CHECK(fails(ErrorCode::launch_failed, {"s390x"}, [&] { worker->load(nonsense); }));
  CHECK(fails(ErrorCode::machine_failed, {"allocate"},
              [&] { worker->allocate(std::size_t{1} << 50); }));
  CHECK(worker->lost() == Loss::none);
}

struct Fate {
  const char* name;
  std::initializer_list<std::string_view> message;
};

TEST_CASE("a kernel that takes its process down is named, and the next one runs") {
  const Fates fates;
  const auto worker = fates.worker();
  for (const Fate& fate :
       {Fate{"segfault", {"run a kernel", "signal 11", "SIGSEGV"}},
        Fate{"abort", {"signal 6", "SIGABRT", "that is enough"}},
        Fate{"exit", {"exited with status 3"}}, Fate{"throws", {"signal 6", "terminate"}}}) {
    CAPTURE(fate.name);
    Candidate bad(*worker, fates.specialization(*worker, fate.name));
    CHECK(fails(ErrorCode::launch_failed, fate.message, [&] { bad.launch(); }));
    CHECK(worker->lost() == Loss::fault);
    // Nothing else is tried on what is left.
    CHECK(fails(ErrorCode::launch_failed, {"gone"}, [&] { worker->allocate(1); }));
    CHECK(fails(ErrorCode::launch_failed, {"gone"}, [&] { bad.launch(); }));
    REQUIRE(worker->recover());
    CHECK(worker->lost() == Loss::none);
    Candidate good(*worker, fates.specialization(*worker, "well"));
    good.launch();
    CHECK(good.is_right());
    // What was made before is of no use to the new worker, which knows nothing of it.
    CHECK(fails(ErrorCode::launch_failed, {"only be destroyed"}, [&] { bad.launch(); }));
    CHECK(worker->lost() == Loss::none);
  }
}

TEST_CASE("a process that is ended from outside is not its kernel's fault") {
  const Fates fates;
  const auto worker = fates.worker();
  Candidate unlucky(*worker, fates.specialization(*worker, "killed"));
  CHECK(fails(ErrorCode::machine_failed, {"run a kernel", "signal 9"}, [&] { unlucky.launch(); }));
  CHECK(worker->lost() == Loss::fault);
  REQUIRE(worker->recover());
}

TEST_CASE("a call that is no longer wanted ends within a moment, and the process with it") {
  const Fates fates;
  const auto worker = fates.worker();
  worker->limit_runs(3600);
  Candidate bad(*worker, fates.specialization(*worker, "hang"));
  const auto start = std::chrono::steady_clock::now();
  const Cancellation scope(
      [&] { return std::chrono::steady_clock::now() > start + std::chrono::seconds(1); });
  CHECK(fails(ErrorCode::cancelled, {"run a kernel", "cancelled"}, [&] { bad.launch(); }));
  CHECK(worker->lost() != Loss::none);
  CHECK(fails(ErrorCode::launch_failed, {"gone", "no longer wanted"},
              [&] { worker->synchronize(); }));
}

TEST_CASE("a kernel that never ends is ended, and the next one runs") {
  const Fates fates;
  const auto worker = fates.worker();
  worker->limit_runs(0.3);
  Candidate bad(*worker, fates.specialization(*worker, "hang"));
  CHECK(fails(ErrorCode::timed_out, {"run a kernel", "0.3 s"}, [&] { bad.launch(); }));
  CHECK(worker->lost() == Loss::timeout);
  CHECK(fails(ErrorCode::launch_failed, {"gone", "0.3 s"}, [&] { worker->synchronize(); }));
  REQUIRE(worker->recover());
  Candidate again(*worker, fates.specialization(*worker, "hang"));
  CHECK(fails(ErrorCode::timed_out, {"time a kernel"}, [&] { again.time(2); }));
  REQUIRE(worker->recover());
  worker->limit_runs(0);  // none
  Candidate slow(*worker, fates.specialization(*worker, "slow"));
  slow.launch();
  CHECK(slow.is_right());
}

TEST_CASE("the limit is for each run that is timed") {
  const Fates fates;
  const auto worker = fates.worker();
  Candidate slow(*worker, fates.specialization(*worker, "slow"));
  worker->limit_runs(2);
  CHECK(slow.time(8).size() == 8);  // 2.4 s together
}

TEST_CASE("a kernel that writes more than anyone reads neither waits nor is waited for") {
  const Fates fates;
  const auto worker = fates.worker();
  Candidate chatty(*worker, fates.specialization(*worker, "chatty"));
  chatty.launch();
  chatty.launch();
  CHECK(chatty.is_right());
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a kernel that eats memory is refused more") {
  const Fates fates;
  const auto worker = fates.worker();
  Candidate greedy(*worker, fates.specialization(*worker, "greedy"));
  CHECK(fails(ErrorCode::launch_failed, {"signal 6"}, [&] { greedy.launch(); }));
}
#endif

TEST_CASE("what a worker made may outlive it and its backend") {
  const Fates fates;
  auto worker = fates.worker();
  const auto wanted = fates.specialization(*worker, "well");
  auto module = worker->load(worker->compile(wanted));
  auto executable = worker->prepare(module, wanted.plan);
  Buffer buffer = worker->allocate(100);
  worker.reset();
  executable.reset();
  module.reset();
  buffer = Buffer();
}

TEST_CASE("memory that is let go is free again in the worker") {
  const Fates fates;
  const auto backend = fates.worker();
  // Far more than the machine has, were any of it kept.
  for (int i = 0; i < 64; ++i) {
    const Buffer buffer = backend->allocate(worker::usable_memory() / 8);
    CHECK(buffer.data() != nullptr);
  }
}

TEST_CASE("calls from many threads take turns") {
  const Fates fates;
  const auto worker = fates.worker();
  const auto wanted = fates.specialization(*worker, "well");
  const auto module = worker->load(worker->compile(wanted));
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 20; ++j) {
          const auto executable = worker->prepare(module, wanted.plan);
          const Buffer x = worker->allocate(400), y = worker->allocate(400);
          const std::array<void*, 2> tensors{x.data(), y.data()};
          worker->fill(x.data(), std::byte{0}, 400);
          executable->launch({tensors, {}, nullptr});
          std::array<float, 100> result{};
          worker->copy_to_host(result.data(), y.data(), 400);
          if (result != std::array<float, 100>{}) ++wrong;
        }
      });
  }
  CHECK(wrong == 0);
}

TEST_CASE("what a worker has to say is said in the parent's log") {
  Fates fates;
  fates.environment.host_threads = 8;
  const auto here = make_host_backend(fates.environment);
  const auto wanted = fates.specialization(*here, "well");
  const Binary binary = here->compile(wanted);
  CHECK(wait_for(start_child([&] {
          if (!limit_threads(4)) return false;
          if (::geteuid() < 100'000)
            return true;  // not root's child: it may have no process at all
          std::vector<std::string> log;
          auto options = fates.options();
          options.log = [&](LogLevel, std::string_view message) { log.emplace_back(message); };
          const auto worker = make_worker_backend(fates.environment, options);
          const auto executable = worker->prepare(worker->load(binary), wanted.plan);
          const Buffer x = worker->allocate(400), y = worker->allocate(400);
          const std::array<void*, 2> tensors{x.data(), y.data()};
          for (int i = 0; i < 2; ++i) executable->launch({tensors, {}, nullptr});
          return log.size() == 1 && mentions(log[0], {"in the worker process", "of its 8 threads"});
        })) == 0);
}

}  // namespace
}  // namespace cudadent
