#include "runtime/environment.h"

#include <cstdlib>
#include <string_view>

namespace cudadent {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::filesystem::path default_cache() {
  std::error_code ignored;
  if (std::filesystem::path given = variable("CUDADENT_CACHE"); !given.empty())
    return std::filesystem::is_directory(given, ignored) ? given / "cudadent.db" : given;
  // The XDG base directory specification: a relative XDG_CACHE_HOME is to be ignored.
  if (std::filesystem::path cache_home = variable("XDG_CACHE_HOME"); cache_home.is_absolute())
    return cache_home / "cudadent" / "cudadent.db";
  if (std::filesystem::path home = variable("HOME"); !home.empty())
    return home / ".cache" / "cudadent" / "cudadent.db";
  return ":memory:";
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
  environment.cache = default_cache();
  environment.template_paths = split_path(variable("CUDADENT_TEMPLATE_PATH"));
  environment.device = variable("CUDADENT_DEVICE");
  environment.nvrtc = variable("CUDADENT_NVRTC");
  environment.layers = split_path(variable("CUDADENT_LAYERS"));
  environment.shipped = variable("CUDADENT_SHIPPED");
  environment.worker = variable("CUDADENT_WORKER");
  environment.host_compiler = variable("CUDADENT_HOST_COMPILER");
  if (environment.host_compiler.empty()) environment.host_compiler = variable("CXX");
  environment.host_threads = std::atoi(variable("CUDADENT_HOST_THREADS").c_str());
  for (const char* name : {"CUDA_PATH", "CUDA_HOME"})
    if (auto home = variable(name); !home.empty()) environment.cuda_homes.emplace_back(home);
  environment.conda_prefix = variable("CONDA_PREFIX");
  environment.virtual_env = variable("VIRTUAL_ENV");
  return environment;
}

}  // namespace cudadent
