// The system's C++ compiler, which is to the host device what NVRTC is to a GPU.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace cudadent {

class HostCompiler {
 public:
  // `preferred`: a program name or path to try before c++, g++ and clang++; may be empty. Nothing
  // is run until a compile is asked for.
  explicit HostCompiler(std::string preferred) : preferred_(std::move(preferred)) {}

  // The first line of `<compiler> --version`. Throws Error(compiler_unavailable).
  std::string name();
  // Throws Error(compile_failed) with the compiler's output in detail().
  Binary compile(const Specialization& specialization);

 private:
  struct Found {
    std::string program, version;
  };
  const Found& find();

  std::string preferred_;
  std::mutex mutex_;
  Found found_;
};

}  // namespace cudadent
