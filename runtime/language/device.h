// Facts about a device, as expressions and cache keys see them.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

struct Device {
  std::string backend;       // "cuda", "host"
  std::string name;          // as people know it
  std::string architecture;  // compile target: "sm_90a", or the host's instruction set
  int ordinal = 0;
  int sm = 0;        // compute capability: 90; 0 on the host
  int sm_count = 0;  // streaming multiprocessors; cores on the host
  std::int64_t memory_bytes = 0;
  std::int64_t l2_bytes = 0;  // last-level cache on the host
  std::int64_t l1_bytes = 0;
  std::int64_t max_shared_memory = 0;     // bytes a block, opted in
  std::int64_t shared_memory_per_sm = 0;  // bytes
  std::int64_t registers_per_sm = 0;      // 32-bit
  int max_threads_per_block = 0;
  int max_threads_per_sm = 0;
  int warp_size = 0;
  int simd_bytes = 0;           // host vector width
  int cores = 0;                // host cores usable by this process
  double clock_hertz = 0;       // peak
  double memory_bandwidth = 0;  // bytes a second, nominal; 0 unknown
  std::string driver;           // version; metadata
  std::string uuid;             // metadata

  // What winners are shared by: two devices of one kind have the same. Leaves out driver and UUID.
  [[nodiscard]] std::string kind() const;
  // "device.sm", "device.sm_count", … for expressions.
  [[nodiscard]] Values facts() const;
};

// Nominal facts for an architecture without a device at hand ("sm_80", "sm_90a", "90"), for
// compiling and listing spaces; nothing for an unknown one. Values are those of its best known data
// centre or desktop part (CUDA C++ Programming Guide, compute capabilities).
std::optional<Device> nominal_cuda_device(std::string_view architecture);
std::vector<std::string> nominal_cuda_architectures();

}  // namespace cudadent
