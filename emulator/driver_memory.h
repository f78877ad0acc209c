// Memory of emulated devices, as the driver hands it out.
#pragma once

#include "emulator/memory.h"
#include "runtime/backends/cuda/driver.h"

namespace cudadent::emulator {

// A driver is one in a process, and so is its memory.
GlobalMemory& device_memory();

void add_memory(cuda::Driver& table);

}  // namespace cudadent::emulator
