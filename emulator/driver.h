// A CUDA driver whose devices are emulated: what the CUDA backend needs to run on a machine without a
// GPU. Kernels are shared objects made of translate()'s text; a launch has run when it returns.
#pragma once

#include <cstdint>
#include <string>

#include "emulator/grid.h"
#include "runtime/backends/cuda/driver.h"

namespace cudadent::emulator {

// The table has plain functions, so a device's number says what it is: compute capability times 1000,
// plus the number of multiprocessors. 90008 is a small device of compute capability 9.0.
constexpr int device_number(int sm, int sm_count) { return sm * 1000 + sm_count; }

cuda::Driver emulated_driver();

// What a cudadent::Stream is here: launches on it are scheduled by its seed. The seed moves on with
// every launch, unless it is 0: then the schedule is the plainest one.
struct EmulatedStream {
  std::uint64_t seed = 0;
};

// What is not zero of the memory that executables keep for launches on this stream, which have all ended: kernels
// have to leave it zero. Empty when all is.
std::string dirty_kept_memory(const EmulatedStream& stream);

}  // namespace cudadent::emulator
