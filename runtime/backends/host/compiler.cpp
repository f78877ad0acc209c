#include "runtime/backends/host/compiler.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <thread>
#include <utility>

#include "runtime/base/cancellation.h"
#include "runtime/base/files.h"

extern char** environ;

namespace cudadent {

namespace {

using Clock = std::chrono::steady_clock;
constexpr auto compile_limit = std::chrono::seconds(120);

// A folder of our own below the system's temporary one, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code error;
    std::string pattern =
        (std::filesystem::temp_directory_path(error) / "cudadent-XXXXXX").string();
    if (error || ::mkdtemp(pattern.data()) == nullptr)
      throw Error(ErrorCode::machine_failed,
                  fmt::format("cannot make a temporary folder like {}: {}. Set TMPDIR to a folder "
                              "that can be written.",
                              pattern, error ? error.message() : std::strerror(errno)));
    path_ = pattern;
  }
  ~TemporaryFolder() {
    if (forks_ != fork_count()) return;  // the parent's
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
  std::uint64_t forks_ = fork_count();
};

struct Outcome {
  int status = 0;  // as waitpid gives it
  bool timed_out = false, cancelled = false;
  int start_error = -1;  // 0 when it was started
  [[nodiscard]] bool started() const noexcept { return start_error == 0; }
};

// This process's, with messages in English: why_failed() reads them.
std::vector<std::string> environment_in_english() {
  std::vector<std::string> variables{"LC_ALL=C"};
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    if (!std::string_view(*variable).starts_with("LC_ALL=")) variables.emplace_back(*variable);
  return variables;
}

// Runs a program with its output in a file and no input. No shell is involved.
Outcome run_program(const std::vector<std::string>& command, const std::string& output,
                    Supervision supervision) {
  std::vector<char*> arguments;
  for (const auto& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  const bool supervised_here = supervision == Supervision::here;
  // A process group of its own, so that a time-out ends the compiler's children too.
  posix_spawnattr_setflags(&attributes, supervised_here ? POSIX_SPAWN_SETPGROUP : 0);
  posix_spawnattr_setpgroup(&attributes, 0);

  auto variables = environment_in_english();
  std::vector<char*> environment;
  for (auto& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);

  pid_t child = 0;
  Outcome outcome;
  outcome.start_error = ::posix_spawnp(&child, arguments[0], &actions, &attributes,
                                       arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (!outcome.started()) return outcome;
  const auto deadline = Clock::now() + compile_limit;
  auto pause = std::chrono::microseconds(500);
  while (::waitpid(child, &outcome.status, WNOHANG) == 0) {
    if (supervised_here && !outcome.timed_out && Clock::now() > deadline) {
      outcome.timed_out = true;
      ::kill(-child, SIGKILL);
    }
    if (supervised_here && !outcome.cancelled && Cancellation::asked()) {
      outcome.cancelled = true;
      ::kill(-child, SIGKILL);
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(5000));
  }
  return outcome;
}

std::string read_text(const std::string& path) { return read_file(path).value_or(""); }

bool succeeded(const Outcome& outcome) {
  return outcome.started() && !outcome.timed_out && WIFEXITED(outcome.status) &&
         WEXITSTATUS(outcome.status) == 0;
}

std::string why_failed(const Outcome& outcome) {
  if (!outcome.started())
    return fmt::format("the compiler could not be started ({})",
                       std::strerror(outcome.start_error));
  if (outcome.cancelled) return "cancelled while it was compiled";
  if (outcome.timed_out) return fmt::format("the compiler took over {} s", compile_limit.count());
  if (WIFSIGNALED(outcome.status))
    return fmt::format("the compiler was ended by signal {}", WTERMSIG(outcome.status));
  return succeeded(outcome) ? "the compiler's output cannot be read"
                            : "the compiler reported errors";
}

// Whether a compiler that failed says that the machine let it down, and nothing about what it compiled. GCC and Clang
// tell of a compiler proper that was killed, or of a full disk, and end like after any error.
bool names_the_machine(std::string_view log) {
  constexpr std::array<std::string_view, 10> complaints{
      "signal terminated program",  // GCC: "Killed signal terminated program cc1plus"
      "command failed due to signal",    "unable to execute command",
      "No space left on device",         "Disk quota exceeded",
      "Cannot allocate memory",          "out of memory",
      "virtual memory exhausted",        "Too many open files",
      "Resource temporarily unavailable"};
  return std::any_of(complaints.begin(), complaints.end(), [&](std::string_view complaint) {
    return log.find(complaint) != std::string_view::npos;
  });
}

ErrorCode code_of(const Outcome& outcome, std::string_view log) {
  if (outcome.cancelled) return ErrorCode::cancelled;
  if (outcome.timed_out) return ErrorCode::timed_out;
  // An image that is not there although all went well was lost on the way.
  if (!outcome.started() || WIFSIGNALED(outcome.status) || succeeded(outcome) ||
      names_the_machine(log))
    return ErrorCode::machine_failed;
  return ErrorCode::compile_failed;
}

std::vector<std::byte> read_image(const std::string& path) {
  const std::string text = read_text(path);
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

// A path as it is, even with blanks in it; else words, as a shell and make take them.
std::vector<std::string> words_of(const std::string& command) {
  std::error_code ignored;
  if (std::filesystem::exists(command, ignored)) return {command};
  std::istringstream stream(command);
  return {std::istream_iterator<std::string>(stream), {}};
}

}  // namespace

HostCompiler::Found HostCompiler::find() {
  {
    const std::lock_guard lock(mutex_);
    if (!found_.command.empty()) return found_;
  }
  Found found = look();  // without the lock: it runs programs
  const std::lock_guard lock(mutex_);
  if (found_.command.empty()) found_ = std::move(found);
  return found_;
}

HostCompiler::Found HostCompiler::look() const {
  const TemporaryFolder folder;
  const std::string output = folder.file("version");
  std::string why_not;
  // Without a command when the program cannot be used.
  const auto found = [&](std::vector<std::string> command) -> Found {
    if (command.empty()) return {};
    auto question = command;
    question.emplace_back("--version");
    const Outcome outcome = run_program(question, output, supervision_);
    if (!succeeded(outcome)) {
      why_not = outcome.started() ? "it fails when it is asked for its --version"
                                  : std::strerror(outcome.start_error);
      return {};
    }
    const std::string text = read_text(output);
    return {std::move(command), text.substr(0, text.find('\n'))};
  };
  if (!wanted_.empty()) {
    if (Found wanted = found(words_of(wanted_)); !wanted.command.empty()) return wanted;
    throw Error(ErrorCode::compiler_unavailable,
                fmt::format("cannot use the C++ compiler \"{}\": {}. CUDADENT_HOST_COMPILER, or "
                            "where that is not set CXX, names it: name one that works, or unset it "
                            "to have one looked for.",
                            wanted_, why_not));
  }
  const std::vector<std::string> usual{"c++", "g++", "clang++"};
  for (const std::string& program : usual)
    if (Found one = found({program}); !one.command.empty()) return one;
  throw Error(ErrorCode::compiler_unavailable,
              fmt::format("no C++ compiler found (tried {}). Install one (Debian, Ubuntu: apt-get "
                          "install g++) or name one in CUDADENT_HOST_COMPILER.",
                          fmt::join(usual, ", ")));
}

std::string HostCompiler::name() { return find().version; }

Binary HostCompiler::compile(const Specialization& specialization) {
  const Found compiler = find();
  const TemporaryFolder folder;
  const std::string source = folder.file("template.cpp"), image = folder.file("template.so"),
                    log = folder.file("log");
  {
    std::ofstream stream(source, std::ios::binary);
    stream << specialization.source;
    if (!stream.flush())
      throw Error(ErrorCode::machine_failed,
                  fmt::format("cannot write {}: is the disk full?", source));
  }
  std::vector<std::string> command = compiler.command;
  command.insert(command.end(), {"-std=c++20", "-O3", "-march=native"});
  command.insert(command.end(), specialization.compile_options.begin(),
                 specialization.compile_options.end());
  command.insert(command.end(), {"-fPIC", "-shared", "-x", "c++", source, "-o", image});
  const auto start = Clock::now();
  const Outcome outcome = run_program(command, log, supervision_);
  Binary binary;
  binary.compile_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  binary.log = read_text(log);
  if (succeeded(outcome)) binary.image = read_image(image);
  if (binary.image.empty())
    throw Error(code_of(outcome, binary.log),
                fmt::format("{}: {}", specialization.description, why_failed(outcome)), binary.log);
  binary.specialization_hash = specialization.hash;
  binary.architecture = specialization.architecture;
  binary.compiler = compiler.version;
  for (const auto& entry : specialization.entries) binary.resources.push_back({.entry = entry});
  return binary;
}

}  // namespace cudadent
