#include "cache/process_identity.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "runtime/base/files.h"

namespace cudadent {

namespace {

std::string contents_of(const std::string& file) { return read_file(file).value_or(""); }

struct ProcessStatus {
  char state = 0;          // 0 where unknown
  std::int64_t start = 0;  // clock ticks since boot; 0 where unknown
};

// Fields 3 and 22 of /proc/<pid>/stat, proc(5). The name, field 2, may hold spaces and parentheses, so
// that counting starts behind its last parenthesis.
ProcessStatus status_of(std::int64_t process) {
  const std::string text = contents_of(fmt::format("/proc/{}/stat", process));
  const auto name_end = text.rfind(") ");
  if (name_end == std::string::npos) return {};
  std::string_view rest = std::string_view(text).substr(name_end + 2);
  ProcessStatus status{rest.empty() ? '\0' : rest.front()};
  constexpr int fields_between = 19;
  for (int field = 0; field < fields_between; ++field) {
    const auto space = rest.find(' ');
    if (space == std::string_view::npos) return {};
    rest.remove_prefix(space + 1);
  }
  std::from_chars(rest.data(), rest.data() + rest.size(), status.start);
  return status;
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

std::string boot_of_this_machine() {
  std::string boot = contents_of("/proc/sys/kernel/random/boot_id");
  while (!boot.empty() && boot.back() == '\n') boot.pop_back();
  return boot;
}

std::string namespace_of_process_numbers() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
}

}  // namespace

ProcessIdentity this_process() {
  const std::int64_t process = ::getpid();
  return {host_name(), boot_of_this_machine(), namespace_of_process_numbers(), process,
          status_of(process).start};
}

ProcessState state_of(const ProcessIdentity& identity) {
  const ProcessIdentity here = this_process();
  if (identity.boot.empty() || identity.boot != here.boot || identity.process_numbers.empty() ||
      identity.process_numbers != here.process_numbers)
    return ProcessState::unknown;
  const bool exists = ::kill(static_cast<pid_t>(identity.process), 0) == 0 || errno == EPERM;
  if (!exists) return ProcessState::dead;
  const ProcessStatus status = status_of(identity.process);
  if (status.start == 0 || identity.process_start == 0) return ProcessState::unknown;
  const bool ended =
      status.state == 'Z' || status.state == 'X';  // though nobody asked for its status
  return status.start == identity.process_start && !ended ? ProcessState::alive
                                                          : ProcessState::dead;
}

}  // namespace cudadent
