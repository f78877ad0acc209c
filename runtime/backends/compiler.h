// What makes binaries of specializations, with or without a device at hand.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/backends/backend.h"

namespace cudadent {

// Safe from many threads.
class Compiler {
 public:
  virtual ~Compiler() = default;
  // Name and version, as Backend::compiler(). Throws Error(compiler_unavailable).
  virtual std::string name() = 0;
  // Throws Error(compile_failed) with the compiler's output in detail(), or compiler_unavailable.
  virtual Binary compile(const Specialization& specialization) = 0;
};

// Of compilers that are programs.
enum class Supervision : std::uint8_t {
  here,       // the compiler gets two minutes, then it is ended with all it has started
  by_caller,  // whoever started this process limits it, and ends the compilers with its process group
};

}  // namespace cudadent
