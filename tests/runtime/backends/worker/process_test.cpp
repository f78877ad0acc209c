// Workers leave the process that starts them as it was, and end when it does.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/fates.h"
#include "tests/support/processes.h"

namespace cudadent {
namespace {

using namespace tests;

// A child that never ends by itself, and reports through a pipe when it is ready.
class EndlessChild {
 public:
  template <class Action>
  explicit EndlessChild(const Action& action) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    process_ = start_child([&] {
      action([&] { return ::write(ends[1], "r", 1) == 1; });
      for (;;) ::pause();
      return true;
    });
    ::close(ends[1]);
    char byte = 0;
    ready_ = ::read(ends[0], &byte, 1) == 1;
    ::close(ends[0]);
  }
  ~EndlessChild() { kill(); }
  EndlessChild(const EndlessChild&) = delete;
  EndlessChild& operator=(const EndlessChild&) = delete;
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    wait_for(process_);
    process_ = -1;
  }
  [[nodiscard]] bool ready() const { return ready_; }
  [[nodiscard]] pid_t process() const { return process_; }

 private:
  pid_t process_ = -1;
  bool ready_ = false;
};

TEST_CASE("a parent that is killed takes its workers and their compilers along") {
  const Folder folder;
  const std::string sleeper(
      "sleep\0"
      "1000.75",
      13);
  EndlessChild child([&](const auto& ready) {
    const auto sleeping = folder.write(
        "sleeping", "#!/bin/sh\n[ \"$1\" = --version ] && exec g++ --version\nsleep 1000.75\n");
    std::filesystem::permissions(sleeping, std::filesystem::perms::owner_all);
    Fates fates;
    const auto runs = fates.worker();
    fates.environment.host_compiler = sleeping.string();
    const auto compiles = fates.worker();
    const auto wanted = fates.specialization(*runs, "hang");
    runs->limit_runs(0);
    Candidate hangs(*runs, wanted);
    std::thread([&] { hangs.launch(); }).detach();
    std::thread([&] { compiles->compile(wanted); }).detach();
    ready();
    for (;;) ::pause();
  });
  REQUIRE(child.ready());
  const pid_t parent = child.process();
  // Two that measure, and a compile worker of each.
  CHECK(eventually(
      [&] { return workers_of(parent).size() == 4 && !processes_with(sleeper).empty(); }));
  child.kill();
  CHECK(eventually([&] { return workers_of(parent).empty() && processes_with(sleeper).empty(); }));
}

TEST_CASE("workers end with their parent even when a child of its own holds on to its files") {
  std::array<int, 2> ends{};  // closed here, they end the one that holds on
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  {
    EndlessChild child([&](const auto& ready) {
      const Fates fates;
      const auto worker = fates.worker();
      start_child([&] {
        ::close(ends[1]);
        ready();
        char byte = 0;
        return ::read(ends[0], &byte, 1) == 0;
      });
      ::close(ends[1]);
      for (;;) ::pause();
    });
    REQUIRE(child.ready());
    const pid_t parent = child.process();
    CHECK(workers_of(parent).size() == 1);
    child.kill();
    CHECK(eventually([&] { return workers_of(parent).empty(); }));
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a worker outlives the thread that started it, and ends with its backend") {
  const Fates fates;
  std::unique_ptr<Backend> worker;
  std::thread([&] { worker = fates.worker(); }).join();
  Candidate candidate(*worker, fates.specialization(*worker, "well"));
  candidate.launch();
  CHECK(candidate.is_right());
  CHECK(workers_of(::getpid()).size() == 2);
  worker.reset();
  CHECK(workers_of(::getpid()).empty());
}

TEST_CASE("a backend that a fork has copied is of no use there, and the parent's goes on") {
  const Fates fates;
  auto worker = fates.worker();
  const pid_t child = start_child([&] {
    const bool refused = fails(ErrorCode::launch_failed, {"parent"}, [&] { worker->allocate(1); });
    worker.reset();
    return refused;
  });
  CHECK(wait_for(child) == 0);
  Candidate candidate(*worker, fates.specialization(*worker, "well"));
  candidate.launch();
  CHECK(candidate.is_right());
}

TEST_CASE("a worker inherits no files, signals or output; this process keeps its own") {
  const Fates fates;
  const Folder folder;
  const int inherited = ::open(folder.write("secret", "").c_str(), O_RDONLY);  // no O_CLOEXEC
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGUSR1, &ignore, &before);
  sigset_t blocked, mask;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &mask);
  const auto files = open_files();
  std::array<struct sigaction, 65> handlers{};
  for (int number = 1; number < 32; ++number)
    ::sigaction(number, nullptr, &handlers[static_cast<std::size_t>(number)]);

  auto worker = fates.worker();
  const auto wanted = fates.specialization(*worker, "well");
  worker->compile(wanted);
  const auto workers = workers_of(::getpid());
  CHECK(workers.size() == 2);
  for (const pid_t process : workers) {
    const auto theirs = open_files(std::to_string(process));
    CHECK(theirs.contains("0 /dev/null"));
    CHECK(theirs.contains("1 /dev/null"));
    for (const auto& file : theirs) {
      CAPTURE(file);
      CHECK(file.find("secret") == std::string::npos);
    }
    const std::string status = file_text(fmt::format("/proc/{}/status", process));
    for (const std::string name : {"SigBlk:\t", "SigIgn:\t"}) {
      CAPTURE(name);
      const auto set = std::stoull(status.substr(status.find(name) + name.size(), 16), nullptr, 16);
      CHECK((set & 0x7FFFFFFF) == 0);  // above are the C library's own
    }
  }
  worker.reset();

  CHECK(open_files() == files);
  for (int number = 1; number < 32; ++number) {
    CAPTURE(number);
    struct sigaction now {};
    ::sigaction(number, nullptr, &now);
    CHECK((now.sa_handler == handlers[static_cast<std::size_t>(number)].sa_handler));
  }
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  ::sigaction(SIGUSR1, &before, nullptr);
  ::close(inherited);
}

TEST_CASE("a program that ignores its children's ends can use workers all the same") {
  struct sigaction ignore {
  }, before{};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGCHLD, &ignore, &before);
  {
    const Fates fates;
    const auto worker = fates.worker();
    Candidate bad(*worker, fates.specialization(*worker, "segfault"));
    CHECK(fails(ErrorCode::launch_failed, {"ended"}, [&] { bad.launch(); }));
    REQUIRE(worker->recover());
    Candidate good(*worker, fates.specialization(*worker, "well"));
    good.launch();
    CHECK(good.is_right());
  }
  CHECK(workers_of(::getpid()).empty());
  ::sigaction(SIGCHLD, &before, nullptr);
}

}  // namespace
}  // namespace cudadent
