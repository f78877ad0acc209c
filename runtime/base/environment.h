// Every environment variable cudadent reads, read once, here.
//
// clang-format off: a table
// | variable                | meaning                                                               |
// |-------------------------|-----------------------------------------------------------------------|
// | CUDADENT_CACHE          | the database file (or a folder to keep cudadent.db in)                |
// | XDG_CACHE_HOME, HOME    | where the default database lies: <cache home>/cudadent/cudadent.db;   |
// |                         | without them below the home of the user's account                     |
// | CUDADENT_LAYERS         | colon-separated databases that are only read, below the user's own    |
// | CUDADENT_SHIPPED        | a folder of winners in the place of those that ship; "none": no such  |
// | CUDADENT_TEMPLATE_PATH  | colon-separated folders with operators and templates of the user's    |
// | CUDADENT_DEVICE         | the device for "auto": host, cuda, cuda:1                             |
// | CUDADENT_NVRTC          | the libnvrtc.so file to load before looking elsewhere                 |
// | CUDADENT_HOST_COMPILER  | the C++ compiler of the host device, maybe with words before it       |
// |                         | ("ccache g++"); else CXX; without both c++, g++ or clang++            |
// | CUDADENT_HOST_THREADS   | threads of the host device; default: the cores this process may use   |
// | CUDADENT_WORKER         | the program candidates run in; "none": run them in this process       |
// | CUDA_PATH, CUDA_HOME    | a toolkit to look for NVRTC in, last                                  |
// | CONDA_PREFIX, VIRTUAL_ENV | environments to look for NVRTC in                                   |
// clang-format on
//
// What a variable asks for is done or is an error: a device, a worker, NVRTC, a compiler or a template folder that
// is not there is never replaced by another. A database, a layer or a folder of shipped winners that cannot be used
// is a warning, since launches can go on without it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cudadent {

struct Environment {
  // The database file to use by default. ":memory:" where there is no place for one: `why_no_cache` says why.
  std::filesystem::path cache;
  std::string why_no_cache;
  std::vector<std::filesystem::path> template_paths;
  std::string device;
  std::string nvrtc;
  std::vector<std::filesystem::path> layers;  // CUDADENT_LAYERS
  std::string shipped;                        // CUDADENT_SHIPPED
  std::string worker;                         // CUDADENT_WORKER
  std::string host_compiler;                  // CUDADENT_HOST_COMPILER, else CXX
  int host_threads = 0;
  std::vector<std::filesystem::path> cuda_homes;  // CUDA_PATH, CUDA_HOME, as set
  std::filesystem::path conda_prefix, virtual_env;

  // Throws Error(invalid_argument) for a variable that cannot be meant.
  static Environment read();
};

}  // namespace cudadent
