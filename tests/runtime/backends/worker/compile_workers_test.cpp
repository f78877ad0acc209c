// Compilers that fail in every way there is, and many at once.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "runtime/backends/host/backend.h"
#include "runtime/base/cancellation.h"
#include "tests/support/errors.h"
#include "tests/support/fates.h"
#include "tests/support/processes.h"

namespace cudadent {
namespace {

using namespace tests;

// A compiler that does what a file says when there is one, and compiles when there is none.
class OddCompiler {
 public:
  OddCompiler() {
    const auto script =
        folder_.write("compiler", fmt::format("#!/bin/sh\n"
                                              "[ \"$1\" = --version ] && exec g++ --version\n"
                                              "[ -e {0} ] && . {0}\n"
                                              "exec g++ \"$@\"\n",
                                              (folder_ / "oddity").string()));
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    fates_.environment.host_compiler = script.string();
  }
  void does(const std::string& commands) const { folder_.write("oddity", commands + "\n"); }
  void compiles() const { std::filesystem::remove(folder_ / "oddity"); }
  [[nodiscard]] const Fates& fates() const { return fates_; }
  [[nodiscard]] const Folder& folder() const { return folder_; }

 private:
  Folder folder_;
  Fates fates_;
};

// The temporary folder of everything started while it lives is below `path`.
class TemporaryFolders {
 public:
  TemporaryFolders() { set(folder_.path()); }
  explicit TemporaryFolders(const std::filesystem::path& path) { set(path); }
  ~TemporaryFolders() {
    if (before_)
      ::setenv("TMPDIR", before_->c_str(), 1);
    else
      ::unsetenv("TMPDIR");
  }
  TemporaryFolders(const TemporaryFolders&) = delete;
  TemporaryFolders& operator=(const TemporaryFolders&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }

 private:
  void set(const std::filesystem::path& path) {
    if (const char* before = std::getenv("TMPDIR"); before != nullptr) before_ = before;
    ::setenv("TMPDIR", path.c_str(), 1);
  }
  Folder folder_;
  std::optional<std::string> before_;
};

bool compiles(Backend& backend, const Specialization& specialization) {
  return !backend.compile(specialization).image.empty();
}

TEST_CASE("what does not compile fails with the compiler's words, and the next one compiles") {
  const Fates fates;
  const auto worker = fates.worker();
  const auto here = make_host_backend(fates.environment);
  const auto broken = fates.specialization(*worker, "broken");
  const auto theirs = error_of([&] { worker->compile(broken); });
  const auto ours = error_of([&] { here->compile(broken); });
  REQUIRE(theirs);
  REQUIRE(ours);
  CHECK(theirs->code() == ErrorCode::compile_failed);
  CHECK(std::string(theirs->what()) == ours->what());
  CHECK(mentions(theirs->detail(), {"this one does not compile"}));
  CHECK(compiles(*worker, fates.specialization(*worker, "well")));
}

TEST_CASE("a compiler that dies, says nonsense or takes its worker along costs one compile") {
  const OddCompiler compiler;
  const auto worker = compiler.fates().worker();
  const auto wanted = compiler.fates().specialization(*worker, "well");
  struct Oddity {
    const char* commands;
    std::string_view message;
    ErrorCode code;
  };
  // What the machine did is told from what is wrong with the template.
  constexpr ErrorCode machine = ErrorCode::machine_failed, theirs = ErrorCode::compile_failed;
  const std::vector<Oddity> oddities{
      {"kill -9 $$", "ended by signal 9", machine},
      {"echo nonsense; exit 0", "twice/fates", machine},
      {"echo nonsense; exit 1", "reported errors", theirs},
      {"echo 'g++: fatal error: Killed signal terminated program cc1plus'; exit 1", "twice/fates",
       machine},
      {"echo 'clang: error: unable to execute command: Killed'; exit 254", "twice/fates", machine},
      {"echo '/tmp/x.s: No space left on device'; exit 1", "twice/fates", machine},
      {"echo 'virtual memory exhausted: Cannot allocate memory'; exit 1", "twice/fates", machine}};
  const auto here = make_host_backend(compiler.fates().environment);
  for (const Oddity& oddity : oddities) {
    CAPTURE(oddity.commands);
    compiler.does(oddity.commands);
    CHECK(fails(oddity.code, {oddity.message}, [&] { worker->compile(wanted); }));
    CHECK(fails(oddity.code, {oddity.message}, [&] { here->compile(wanted); }));
    compiler.compiles();
    CHECK(compiles(*worker, wanted));
  }
  compiler.does("kill -SEGV $PPID; sleep 30");
  CHECK(fails(machine, {"twice/fates FATE=well", "process", "signal 11"},
              [&] { worker->compile(wanted); }));
  compiler.compiles();
  CHECK(compiles(*worker, wanted));
  CHECK(worker->lost() == Loss::none);
}

TEST_CASE("compilers speak English, whatever the locale: what they complain of is read") {
  const OddCompiler compiler;
  const auto here = make_host_backend(compiler.fates().environment);
  const auto wanted = compiler.fates().specialization(*here, "well");
  compiler.does("echo \"locale $LC_ALL\"; exit 1");
  const auto error = error_of([&] { here->compile(wanted); });
  REQUIRE(error);
  CHECK(mentions(error->detail(), {"locale C"}));
}

TEST_CASE("without a folder for temporary files nothing compiles, for now") {
  const OddCompiler compiler;
  const auto here = make_host_backend(compiler.fates().environment);
  const auto wanted = compiler.fates().specialization(*here, "well");
  CHECK(here->compiler() != "");
  const TemporaryFolders folders("/proc/no/such/folder");
  CHECK(fails(ErrorCode::machine_failed, {"temporary folder", "TMPDIR"},
              [&] { here->compile(wanted); }));
}

TEST_CASE("compiles that are no longer wanted end within a moment, in a worker and here") {
  const OddCompiler compiler;
  const auto worker = compiler.fates().worker();
  const auto here = make_host_backend(compiler.fates().environment);
  const auto wanted = compiler.fates().specialization(*worker, "well");
  CHECK(worker->compiler() == here->compiler());
  compiler.does("sleep 3000");
  for (Backend* backend : {worker.get(), here.get()}) {
    const auto start = std::chrono::steady_clock::now();
    const Cancellation scope(
        [&] { return std::chrono::steady_clock::now() > start + std::chrono::milliseconds(300); });
    CHECK(fails(ErrorCode::cancelled, {"twice/fates FATE=well", "cancelled"},
                [&] { backend->compile(wanted); }));
  }
  compiler.compiles();
  CHECK(compiles(*worker, wanted));
}

TEST_CASE(
    "a compiler that never ends is ended with all it has started, and nothing of it is left") {
  const TemporaryFolders temporary;
  const OddCompiler compiler;
  WorkerOptions options = compiler.fates().options();
  options.compile_timeout = 1;
  auto worker = make_worker_backend(compiler.fates().environment, options);
  const auto wanted = compiler.fates().specialization(*worker, "well");
  compiler.does("sleep 1000.25 & sh -c 'sleep 1000.25; true'");
  CHECK(fails(ErrorCode::timed_out, {"twice/fates FATE=well", "1 s"},
              [&] { worker->compile(wanted); }));
  CHECK(eventually([] {
    return processes_with(std::string("sleep\0"
                                      "1000.25",
                                      13))
        .empty();
  }));
  options.compile_timeout = 60;
  worker = make_worker_backend(compiler.fates().environment, options);
  compiler.compiles();
  CHECK(compiles(*worker, wanted));
  worker.reset();
  int left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(temporary.path()))
    left += entry.path().filename().string().starts_with("cudadent-worker-") ? 1 : 0;
  CHECK(left == 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("compilers may not take all memory") {
  const OddCompiler compiler;
  const auto worker = compiler.fates().worker();
  compiler.does(fmt::format("ulimit -d > {}", (compiler.folder() / "limit").string()));
  CHECK(compiles(*worker, compiler.fates().specialization(*worker, "well")));
  const std::string limit = file_text(compiler.folder() / "limit");
  CAPTURE(limit);
  CHECK(limit.find_first_of("0123456789") == 0);
}
#endif

TEST_CASE("many threads compile at once, no more than allowed side by side") {
  const OddCompiler compiler;
  WorkerOptions options = compiler.fates().options();
  options.compile_processes = 2;
  const auto worker = make_worker_backend(compiler.fates().environment, options);
  // Each compile notes how many are under way.
  const std::string running = (compiler.folder() / "running-").string();
  compiler.does(
      fmt::format("touch {0}$$; ls {0}* | wc -l >> {1}; g++ \"$@\"; s=$?; rm {0}$$; exit $s",
                  running, (compiler.folder() / "counts").string()));
  std::atomic<int> good{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i)
      threads.emplace_back([&, i] {
        const char* fate = i % 2 == 0 ? "well" : "slow";
        if (compiles(*worker, compiler.fates().specialization(*worker, fate))) ++good;
      });
  }
  CHECK(good == 6);
  std::istringstream counts(file_text(compiler.folder() / "counts"));
  int lines = 0;
  for (int count = 0; counts >> count; ++lines) CHECK(count <= 2);
  CHECK(lines == 6);
  CHECK(workers_of(::getpid()).size() <= 3);  // with the one that measures
}

TEST_CASE("compiling goes on while the device is lost") {
  const Fates fates;
  const auto worker = fates.worker();
  Candidate bad(*worker, fates.specialization(*worker, "exit"));
  CHECK_THROWS_AS(bad.launch(), Error);
  CHECK(worker->lost() == Loss::fault);
  CHECK(compiles(*worker, fates.specialization(*worker, "well")));
}

TEST_CASE("a compile worker that died while idle is not used again") {
  const Fates fates;
  const auto worker = fates.worker();
  const auto wanted = fates.specialization(*worker, "well");
  const auto measuring = workers_of(::getpid());
  REQUIRE(measuring.size() == 1);
  CHECK(compiles(*worker, wanted));
  for (const pid_t process : workers_of(::getpid()))
    if (process != measuring[0]) ::kill(process, SIGKILL);
  CHECK(eventually([] { return workers_of(::getpid()).size() == 1; }));
  CHECK(compiles(*worker, wanted));
}

TEST_CASE("without a compiler the error says what to install, as here") {
  Fates fates;
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/no/such/folder", 1);
  const auto worker = fates.worker();
  const auto wanted = fates.specialization(*worker, "well");
  const bool failed = fails(ErrorCode::compiler_unavailable, {"CUDADENT_HOST_COMPILER"},
                            [&] { worker->compile(wanted); });
  ::setenv("PATH", path.c_str(), 1);
  CHECK(failed);
}

}  // namespace
}  // namespace cudadent
