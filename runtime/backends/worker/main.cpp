// cudadent-worker: compiles and runs kernels for a process that uses cudadent, so that a kernel that faults,
// hangs or aborts costs this process only. Started by the library; of no use by hand.
#include <cudadent/cudadent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "runtime/backends/worker/process.h"
#include "runtime/backends/worker/serve.h"

// Sanitizers would turn a kernel's signal into an exit status, and a refused allocation into an end. Their
// runtime, a library, looks these functions up: they must not be hidden.
#define CUDADENT_SANITIZER_OPTIONS                                                \
  "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:" \
  "allocator_may_return_null=1:detect_leaks=0"
#if defined(__SANITIZE_ADDRESS__)
extern "C" CUDADENT_API const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return CUDADENT_SANITIZER_OPTIONS; }
#elif defined(__SANITIZE_THREAD__)
extern "C" CUDADENT_API const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() { return CUDADENT_SANITIZER_OPTIONS; }
#endif

namespace cudadent::worker {
namespace {

constexpr int exit_not_ours = 2;

bool is_socket(int file) {
  struct stat info {};
  return ::fstat(file, &info) == 0 && S_ISSOCK(info.st_mode);
}

int explain() {
  fmt::print(stderr,
             "cudadent-worker {}: compiles and runs kernels for a process that uses cudadent.\n"
             "The library starts it, with a socket to talk through; by hand there is nothing to "
             "do with it.\n",
             version());
  return exit_not_ours;
}

// Files and settings that a worker should not have from its parent, or should have other than it.
void settle_in() {
#ifdef SYS_close_range
  ::syscall(SYS_close_range, child_socket + 1, ~0U, 0);
#endif
  ::fcntl(child_socket, F_SETFD, FD_CLOEXEC);  // compilers must not keep it open
  // A kernel that faults is everyday business here.
  const rlimit no_core_files{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core_files);
  // Where memory runs out, the system should end this process rather than its parent.
  if (const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); file >= 0) {
    if (::write(file, "500", 3) != 3) {
      // Then it may end either.
    }
    ::close(file);
  }
}

// Ends this process and every process it has started, and takes their temporary files away.
[[noreturn]] void end_all(const std::filesystem::path& scratch) {
  // Only a group that is our own: Process has made it so.
  const bool own_group = ::getpgrp() == ::getpid();
  if (!scratch.empty()) {
    if (own_group) {
      ::signal(SIGTERM, SIG_IGN);
      ::kill(0, SIGTERM);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    std::error_code ignored;
    std::filesystem::remove_all(scratch, ignored);
  }
  if (own_group) ::kill(0, SIGKILL);
  ::_exit(0);
}

// Ends all when the parent hangs up or is gone, whatever the other threads do. Both are watched: the parent
// may have forked a child that keeps its end open. (A parent-death signal would not do: it comes when the
// thread that started us ends.)
void watch(pid_t parent, const std::filesystem::path& scratch) {
  int process = -1;
#ifdef SYS_pidfd_open
  process = static_cast<int>(::syscall(SYS_pidfd_open, parent, 0));
#endif
  for (;;) {
    std::array<pollfd, 2> files{pollfd{child_socket, 0, 0}, pollfd{process, POLLIN, 0}};
    const int count = ::poll(files.data(), files.size(), process < 0 ? 500 : 5000);
    if ((count > 0 && (files[0].revents != 0 || files[1].revents != 0)) || ::getppid() != parent)
      end_all(scratch);
  }
}

int run(pid_t parent, const std::filesystem::path& scratch) {
  settle_in();
  try {
    std::thread(watch, parent, scratch).detach();
  } catch (const std::system_error& error) {
    fmt::print(stderr, "cudadent-worker: the system starts no more threads ({})\n", error.what());
    return exit_not_ours;
  }
  try {
    Channel channel{File(child_socket)};
    serve(channel);
  } catch (const ChannelError& error) {
    if (error.reason() == ChannelError::Reason::closed) end_all(scratch);
    fmt::print(stderr, "cudadent-worker: {}\n", error.what());
  } catch (const std::exception& error) {
    fmt::print(stderr, "cudadent-worker {}: {}\n", version(), error.what());
  }
  return exit_not_ours;
}

}  // namespace
}  // namespace cudadent::worker

int main(int argc, char** argv) {
  using namespace cudadent::worker;
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    fmt::print("cudadent-worker {}\n", cudadent::version());
    return 0;
  }
  if (argc != 4 || std::string_view(argv[1]) != "serve" || !is_socket(child_socket))
    return explain();
  pid_t parent = 0;
  const std::string_view number = argv[2];
  std::from_chars(number.data(), number.data() + number.size(), parent);
  if (parent != ::getppid()) return explain();
  return run(parent, argv[3]);
}
