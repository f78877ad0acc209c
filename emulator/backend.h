// A backend that looks like a CUDA device and is the host: the CUDA backend on the emulated driver,
// with the system's C++ compiler in the place of NVRTC.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "runtime/backends/backend.h"
#include "runtime/base/environment.h"

namespace cudadent::emulator {

struct EmulatorOptions {
  int sm = 90;
  int sm_count = 4;  // few, so that persistent kernels have several tiles for each block
  std::vector<std::string> compile_options;
};

// A file of what comes before a specialization's source, from the source tree.
std::string device_code(const std::string& file);

std::unique_ptr<Backend> make_emulator_backend(const EmulatorOptions& options,
                                               const Environment& environment);

}  // namespace cudadent::emulator
