#include "runtime/backends/worker/process.h"

#include <cudadent/cudadent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

extern char** environ;

namespace cudadent::worker {

namespace {

constexpr std::size_t errors_kept = 4096;

// The same file under a number that none of the child's first four files has.
File above_standard_files(int number) {
  const int copy = ::fcntl(number, F_DUPFD_CLOEXEC, child_socket + 1);
  if (copy < 0)
    throw Error(ErrorCode::device_unavailable,
                fmt::format("cannot start a worker process: fcntl: {}", std::strerror(errno)));
  return File(copy);
}

std::array<File, 2> make_pipe() {
  std::array<int, 2> ends{};
  // Not blocking: a child that writes a lot must neither wait for us nor make us wait.
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0)
    throw Error(ErrorCode::device_unavailable,
                fmt::format("cannot start a worker process: pipe2: {}", std::strerror(errno)));
  return {File(ends[0]), File(ends[1])};
}

class SpawnSettings {
 public:
  SpawnSettings(int socket, int error_output) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawn_file_actions_adddup2(&actions_, socket, child_socket);
    posix_spawn_file_actions_adddup2(&actions_, error_output, STDERR_FILENO);
    posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)  // else the worker itself does
    posix_spawn_file_actions_addclosefrom_np(&actions_, child_socket + 1);
#endif
    posix_spawnattr_init(&attributes_);
    posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes_, 0);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes_, &signals);
    sigfillset(&signals);
    sigdelset(&signals, SIGKILL);
    sigdelset(&signals, SIGSTOP);
    posix_spawnattr_setsigdefault(&attributes_, &signals);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  [[nodiscard]] const posix_spawn_file_actions_t* actions() const { return &actions_; }
  [[nodiscard]] const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// This process's, with another TMPDIR.
std::vector<std::string> child_environment(const std::filesystem::path& scratch) {
  constexpr std::string_view name = "TMPDIR=";
  std::vector<std::string> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    if (scratch.empty() || !std::string_view(*variable).starts_with(name))
      variables.emplace_back(*variable);
  if (!scratch.empty()) variables.push_back(std::string(name) + scratch.string());
  return variables;
}

std::string signal_text(int number) {
  const auto name = [number]() -> std::string_view {
    switch (number) {
      case SIGSEGV:
        return "SIGSEGV: an access to memory it does not have";
      case SIGBUS:
        return "SIGBUS: an access to memory that is not there";
      case SIGABRT:
        return "SIGABRT: it aborted";
      case SIGFPE:
        return "SIGFPE: a division by zero";
      case SIGILL:
        return "SIGILL: an illegal instruction";
      case SIGKILL:
        return "SIGKILL: killed from outside, perhaps for want of memory";
      case SIGTERM:
        return "SIGTERM";
      case SIGTRAP:
        return "SIGTRAP";
      case SIGSYS:
        return "SIGSYS: a forbidden system call";
      case SIGXCPU:
        return "SIGXCPU: out of processor time";
      default:
        return "";
    }
  }();
  return name.empty() ? fmt::format("signal {}", number)
                      : fmt::format("signal {} ({})", number, name);
}

bool comes_from_outside(int signal) {
  return signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGHUP ||
         signal == SIGQUIT || signal == SIGXCPU;
}

std::string status_text(int status) {
  if (WIFSIGNALED(status)) return "was ended by " + signal_text(WTERMSIG(status));
  return fmt::format("exited with status {}", WEXITSTATUS(status));
}

// Files may still be made in it by processes that are just dying.
void remove_scratch_folder(const std::filesystem::path& folder) noexcept {
  std::error_code error;
  for (int attempt = 0; attempt < 5; ++attempt) {
    std::filesystem::remove_all(folder, error);
    if (!error) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace

std::filesystem::path make_scratch_folder() {
  std::error_code error;
  std::string pattern =
      (std::filesystem::temp_directory_path(error) / "cudadent-worker-XXXXXX").string();
  if (error || ::mkdtemp(pattern.data()) == nullptr) return {};
  return pattern;
}

Process::Process(const std::filesystem::path& program, File socket, std::filesystem::path scratch)
    : parent_(::getpid()), scratch_(std::move(scratch)) {
  const File child_end = above_standard_files(socket.get());
  auto [read_end, write_end] = make_pipe();
  const File error_output = above_standard_files(write_end.get());
  const SpawnSettings settings(child_end.get(), error_output.get());
  std::vector<std::string> arguments{program.string(), "serve", std::to_string(parent_),
                                     scratch_.string()};
  std::vector<std::string> variables = child_environment(scratch_);
  const int error =
      ::posix_spawn(&child_, program.c_str(), settings.actions(), settings.attributes(),
                    pointers_to(arguments).data(), pointers_to(variables).data());
  if (error != 0) {
    if (!scratch_.empty()) remove_scratch_folder(scratch_);
    throw Error(ErrorCode::device_unavailable, fmt::format("cannot start the worker program {}: {}",
                                                           program.string(), std::strerror(error)));
  }
  stderr_ = std::move(read_end);
}

Process::~Process() {
  end(0);
  if (!scratch_.empty() && ours()) remove_scratch_folder(scratch_);
}

// False in the child of a fork: the process is the parent's.
bool Process::ours() const noexcept { return child_ > 0 && ::getpid() == parent_; }

Process::State Process::wait(double seconds) const noexcept {
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  auto pause = std::chrono::microseconds(100);
  for (;;) {
    siginfo_t info{};
    // Left as a zombie, so that its number is not given away before its group is dealt with.
    const int result =
        ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT);
    // ECHILD: the program that this library is part of ignores or waits for all its children.
    if (result != 0 && errno != EINTR) return State::gone;
    if (result == 0 && info.si_pid == child_) return State::zombie;
    if (Clock::now() >= deadline) return State::running;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(5000));
  }
}

const std::string& Process::end(double seconds) noexcept {
  if (ended_ || !ours()) return how_;
  ended_ = true;
  State state = wait(seconds);
  const bool by_itself = state != State::running;
  if (state == State::running) {
    ::kill(-child_, SIGKILL);
    state = wait(60);  // a driver takes its time to end a context
  }
  int status = 0;
  if (state == State::zombie) {
    ::kill(-child_, SIGKILL);  // what it has started
    ::waitpid(child_, &status, WNOHANG);
    killed_ = by_itself && WIFSIGNALED(status) && comes_from_outside(WTERMSIG(status));
  }
  try {
    how_ = state == State::zombie ? status_text(status) : "ended";
  } catch (const std::exception&) {  // out of memory: then it just ended
  }
  return how_;
}

const std::string& Process::errors() noexcept {
  std::array<char, 4096> buffer{};
  try {
    for (;;) {
      const auto count = ::read(stderr_.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      errors_.append(buffer.data(), static_cast<std::size_t>(count));
      unread_.append(buffer.data(), static_cast<std::size_t>(count));
      if (unread_.size() > 2 * errors_kept) unread_.erase(0, unread_.size() - errors_kept);
      if (errors_.size() > 2 * errors_kept) errors_.erase(0, errors_.size() - errors_kept);
    }
  } catch (const std::exception&) {
  }
  return errors_;
}

std::vector<std::string> Process::notes() noexcept {
  std::vector<std::string> found;
  errors();
  try {
    for (auto end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
      const std::string_view line(unread_.data(), end);
      if (line.starts_with(worker_note)) found.emplace_back(line.substr(worker_note.size()));
      unread_.erase(0, end + 1);
    }
  } catch (const std::exception&) {  // out of memory
  }
  return found;
}

}  // namespace cudadent::worker
