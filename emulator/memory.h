// The emulated device's global memory: the host's, with a guard on both sides of every allocation.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

namespace cudadent::emulator {

class GlobalMemory {
 public:
  // At least 256-byte aligned, filled with NaNs; null when there is no memory.
  void* allocate(std::size_t bytes);
  // False when it is none of ours.
  bool free(void* memory);
  // Whether bytes from `memory` lie in one allocation.
  bool contains(const void* memory, std::size_t bytes);
  // What a kernel wrote outside an allocation; empty when nothing.
  std::string why_damaged();

 private:
  struct Allocation {
    std::size_t bytes;
    std::byte* base;
  };
  static std::string why_damaged(const std::byte* data, const Allocation& allocation);

  std::mutex mutex_;
  std::map<const std::byte*, Allocation> allocations_;
};

}  // namespace cudadent::emulator
