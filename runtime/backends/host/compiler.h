// The system's C++ compiler, which is to the host device what NVRTC is to a GPU.
#pragma once

#include <string>
#include <vector>

#include "runtime/backends/compiler.h"
#include "runtime/base/fork.h"

namespace cudadent {

class HostCompiler final : public Compiler {
 public:
  // `wanted`: a program's name or path, or several words ("ccache g++"); this one or none. Empty: c++, g++ or
  // clang++, whichever is there. Nothing is run until a compile is asked for.
  explicit HostCompiler(std::string wanted, Supervision supervision = Supervision::here)
      : wanted_(std::move(wanted)), supervision_(supervision) {}

  // The first line of `<compiler> --version`. Throws Error(compiler_unavailable).
  std::string name() override;
  Binary compile(const Specialization& specialization) override;

 private:
  struct Found {
    std::vector<std::string> command;
    std::string version;
  };
  Found find();
  [[nodiscard]] Found look() const;

  std::string wanted_;
  Supervision supervision_;
  ForkSafeMutex mutex_;
  Found found_;
};

}  // namespace cudadent
