// Empties the L2 cache of what earlier work left there, ahead of a timed run.
#pragma once

#include <cstddef>
#include <memory>

#include "runtime/backends/backend.h"
#include "runtime/backends/cuda/executable.h"
#include "runtime/backends/cuda/gpu.h"

namespace cudadent::cuda {

// Reads memory of its own, twice the cache's size. Writing it would do, but would leave the cache full of
// data that has yet to go to memory: the run behind it would pay for that with up to as much bandwidth
// as for its own data.
class CacheFlush {
 public:
  // `memory` is what is read; its size is rounded down to 4096 bytes. Throws Error(launch_failed).
  CacheFlush(const std::shared_ptr<const Gpu>& gpu, Buffer memory);
  // Queues the reads. Throws Error(launch_failed).
  void queue(Stream stream) const;

 private:
  std::shared_ptr<const Gpu> gpu_;
  Buffer memory_;
  std::unique_ptr<const CudaModule> module_;
  Function read_;
};

}  // namespace cudadent::cuda
