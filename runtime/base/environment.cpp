#include "runtime/base/environment.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace cudadent {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// What the system knows of the user's account; empty when it knows no such user, as in many containers.
std::filesystem::path home_of_account() {
  std::string buffer(1024, '\0');
  struct passwd entry {};
  struct passwd* found = nullptr;
  int code = ERANGE;
  while (code == ERANGE && buffer.size() < (std::size_t{1} << 20U)) {
    buffer.resize(2 * buffer.size());
    code = ::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found);
  }
  return code == 0 && found != nullptr ? std::filesystem::path(found->pw_dir)
                                       : std::filesystem::path();
}

// Nothing where there is no place for one.
std::optional<std::filesystem::path> default_cache() {
  std::error_code ignored;
  if (std::filesystem::path given = variable("CUDADENT_CACHE"); !given.empty()) {
    const bool is_folder = !given.has_filename() || std::filesystem::is_directory(given, ignored);
    return is_folder ? given / "cudadent.db" : given;
  }
  // The XDG base directory specification: a relative XDG_CACHE_HOME is to be ignored.
  if (std::filesystem::path cache_home = variable("XDG_CACHE_HOME"); cache_home.is_absolute())
    return cache_home / "cudadent" / "cudadent.db";
  std::filesystem::path home = variable("HOME");
  if (!home.is_absolute()) home = home_of_account();
  if (!home.is_absolute()) return std::nullopt;
  return home / ".cache" / "cudadent" / "cudadent.db";
}

// 0 when it is not set.
int number_of_threads(const char* name) {
  constexpr int most = 4096;
  const std::string text = variable(name);
  if (text.empty()) return 0;
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || number < 1 || number > most)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}={}: expected a number of threads from 1 to {}", name, text, most));
  return number;
}

std::vector<std::filesystem::path> split_path(std::string_view text) {
  std::vector<std::filesystem::path> folders;
  while (!text.empty()) {
    const auto colon = text.find(':');
    if (const auto part = text.substr(0, colon); !part.empty()) folders.emplace_back(part);
    text = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  }
  return folders;
}

}  // namespace

Environment Environment::read() {
  Environment environment;
  if (auto cache = default_cache()) {
    environment.cache = std::move(*cache);
  } else {
    environment.cache = ":memory:";
    environment.why_no_cache = fmt::format(
        "there is no place for the database: neither XDG_CACHE_HOME nor HOME is an "
        "absolute path, and user {} has no home. Set CUDADENT_CACHE to a file",
        ::getuid());
  }
  environment.template_paths = split_path(variable("CUDADENT_TEMPLATE_PATH"));
  environment.device = variable("CUDADENT_DEVICE");
  environment.nvrtc = variable("CUDADENT_NVRTC");
  environment.layers = split_path(variable("CUDADENT_LAYERS"));
  environment.shipped = variable("CUDADENT_SHIPPED");
  environment.worker = variable("CUDADENT_WORKER");
  environment.host_compiler = variable("CUDADENT_HOST_COMPILER");
  if (environment.host_compiler.empty()) environment.host_compiler = variable("CXX");
  environment.host_threads = number_of_threads("CUDADENT_HOST_THREADS");
  for (const char* name : {"CUDA_PATH", "CUDA_HOME"})
    if (auto home = variable(name); !home.empty()) environment.cuda_homes.emplace_back(home);
  environment.conda_prefix = variable("CONDA_PREFIX");
  environment.virtual_env = variable("VIRTUAL_ENV");
  return environment;
}

}  // namespace cudadent
