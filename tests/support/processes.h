// What runs on this machine, as /proc tells it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace cudadent::tests {

inline std::string file_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Processes, other than zombies, whose command line has `text` in it; words are apart by '\0'.
inline std::vector<pid_t> processes_with(const std::string& text) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (file_text(entry.path() / "cmdline").find(text) != std::string::npos)
      found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

// The workers a process has started.
inline std::vector<pid_t> workers_of(pid_t parent) {
  return processes_with(std::string("serve\0", 6) + std::to_string(parent) + std::string(1, '\0'));
}

// What a process's open files are, by number.
inline std::set<std::string> open_files(const std::string& process = "self") {
  std::set<std::string> found;
  std::error_code ignored;
  const auto folder = std::filesystem::path("/proc") / process / "fd";
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
    if (const auto file = std::filesystem::read_symlink(entry.path(), ignored);
        !file.string().ends_with("/fd"))
      found.insert(entry.path().filename().string() + " " + file.string());
  return found;
}

// Whether `condition` comes true within a minute.
template <class Condition>
bool eventually(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace cudadent::tests
