#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>

#include "runtime/backends/worker/worker_backend.h"

namespace cudadent {

namespace {

namespace fs = std::filesystem;

constexpr const char* program_name = "cudadent-worker";

// The folder of the file that holds this code: the program, the shared library or the Python module.
fs::path own_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&find_worker_program), &info) == 0 ||
      info.dli_fname == nullptr)
    return {};
  std::error_code error;
  fs::path file = fs::canonical(info.dli_fname, error);
  // A program's name may be relative to a folder that was left since, or to PATH.
  if (error) file = fs::read_symlink("/proc/self/exe", error);
  return file.parent_path();
}

// Runnable, and put there by someone who could also have replaced this very code.
bool is_trusted_program(const fs::path& file) {
  struct stat info {};
  return ::stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         (info.st_uid == 0 || info.st_uid == ::geteuid()) && (info.st_mode & S_IWOTH) == 0 &&
         ::access(file.c_str(), X_OK) == 0;
}

std::vector<fs::path> places() {
  std::vector<fs::path> found;
  fs::path folder = own_folder();
  if (folder.empty()) return found;
  const fs::path prefix = folder.parent_path();
  // Beside the Python module; in a build folder, where tests and modules are one or two folders further in.
  for (int level = 0; level < 3 && folder.has_relative_path(); ++level) {
    found.push_back(folder / program_name);
    found.push_back(folder / "libexec" / "cudadent" / program_name);  // <prefix>/lib/x86_64-…/
    folder = folder.parent_path();
  }
  // The program in an environment's bin/ of a package in its lib/.
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(prefix / "lib", ignored))
    if (entry.path().filename().string().starts_with("python3"))
      found.push_back(entry.path() / "site-packages" / "cudadent" / program_name);
  // For programs with the static library in them.
  found.push_back(fs::path(CUDADENT_WORKER_FOLDER) / program_name);
  return found;
}

}  // namespace

fs::path find_worker_program(const Environment& environment, std::string* why_none) {
  std::string why;
  fs::path program;
  if (environment.worker == "none") {
    why = "CUDADENT_WORKER is \"none\"";
  } else if (!environment.worker.empty()) {
    program = environment.worker;
    if (struct stat info{}; ::stat(program.c_str(), &info) != 0 || !S_ISREG(info.st_mode) ||
                            ::access(program.c_str(), X_OK) != 0)
      throw Error(ErrorCode::device_unavailable,
                  fmt::format("CUDADENT_WORKER names {}, which is no program that can be run. Name "
                              "{}, or unset it to have it looked for; \"none\" runs candidates in "
                              "this process",
                              program.string(), program_name));
  } else {
    std::string tried;
    for (const fs::path& place : places()) {
      if (program = place; is_trusted_program(place)) break;
      program.clear();
      tried += fmt::format("{}{}", tried.empty() ? "" : ", ", place.string());
    }
    if (program.empty())
      why = fmt::format("the program {} was not found (tried {}); name it in CUDADENT_WORKER",
                        program_name, tried);
  }
  if (why_none != nullptr) *why_none = why;
  return program;
}

}  // namespace cudadent
