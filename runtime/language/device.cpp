#include "runtime/language/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/language/backend_kind.h"

namespace cudadent {

namespace {

constexpr std::int64_t kibi = 1024;
constexpr std::int64_t mebi = 1024 * kibi;
constexpr std::int64_t giga = 1'000'000'000;

// One architecture and the part that stands for it. Limits of the streaming multiprocessor are
// those of the CUDA C++ Programming Guide 13.0, "Technical Specifications per Compute Capability";
// a block may use 1 KiB less shared memory than a multiprocessor has from 8.0 on. What differs
// from part to part (multiprocessors, L2, memory, clock) is from NVIDIA's data sheet of the part.
struct Architecture {
  int sm;
  std::string_view target;  // compile target without "sm_"
  std::string_view part;
  int sm_count;
  int max_threads_per_sm;
  std::int64_t shared_memory_per_sm;
  std::int64_t max_shared_memory;
  std::int64_t l1_bytes;  // L1 and shared memory together
  std::int64_t l2_bytes;
  std::int64_t memory_bytes;
  double memory_bandwidth;
  double clock_hertz;
};

// From compute capability 9.0 on the targets are the architecture-specific ones ("a"): only they
// have wgmma, tcgen05 and the other instructions templates are written for.
constexpr std::array architectures{
    Architecture{75, "75", "Tesla T4", 40, 1024, 64 * kibi, 64 * kibi, 96 * kibi, 4 * mebi,
                 16 * giga, 320e9, 1.59e9},
    Architecture{80, "80", "NVIDIA A100-SXM4-80GB", 108, 2048, 164 * kibi, 163 * kibi, 192 * kibi,
                 40 * mebi, 80 * giga, 2039e9, 1.41e9},
    Architecture{86, "86", "NVIDIA GeForce RTX 3090", 82, 1536, 100 * kibi, 99 * kibi, 128 * kibi,
                 6 * mebi, 24 * giga, 936e9, 1.695e9},
    Architecture{87, "87", "NVIDIA Jetson AGX Orin", 16, 1536, 164 * kibi, 163 * kibi, 192 * kibi,
                 4 * mebi, 64 * giga, 204.8e9, 1.3e9},
    Architecture{89, "89", "NVIDIA L40S", 142, 1536, 100 * kibi, 99 * kibi, 128 * kibi, 96 * mebi,
                 48 * giga, 864e9, 2.52e9},
    Architecture{90, "90a", "NVIDIA H200", 132, 2048, 228 * kibi, 227 * kibi, 256 * kibi, 50 * mebi,
                 141 * giga, 4800e9, 1.98e9},
    Architecture{100, "100a", "NVIDIA B200", 148, 2048, 228 * kibi, 227 * kibi, 256 * kibi,
                 126 * mebi, 180 * giga, 8000e9, 1.965e9},
    Architecture{103, "103a", "NVIDIA B300", 148, 2048, 228 * kibi, 227 * kibi, 256 * kibi,
                 126 * mebi, 270 * giga, 8000e9, 1.92e9},
    Architecture{110, "110a", "NVIDIA Jetson AGX Thor", 20, 1536, 228 * kibi, 227 * kibi,
                 256 * kibi, 32 * mebi, 128 * giga, 273e9, 1.575e9},
    Architecture{120, "120a", "NVIDIA GeForce RTX 5090", 170, 1536, 100 * kibi, 99 * kibi,
                 128 * kibi, 96 * mebi, 32 * giga, 1792e9, 2.41e9},
    Architecture{121, "121a", "NVIDIA GB10", 48, 1536, 100 * kibi, 99 * kibi, 128 * kibi, 24 * mebi,
                 128 * giga, 273e9, 2.42e9},
};

Device device_of(const Architecture& architecture) {
  Device device;
  device.backend = cuda_kind.name;
  device.name = architecture.part;
  device.architecture = fmt::format("sm_{}", architecture.target);
  device.sm = architecture.sm;
  device.sm_count = architecture.sm_count;
  device.memory_bytes = architecture.memory_bytes;
  device.l2_bytes = architecture.l2_bytes;
  device.l1_bytes = architecture.l1_bytes;
  device.max_shared_memory = architecture.max_shared_memory;
  device.shared_memory_per_sm = architecture.shared_memory_per_sm;
  device.registers_per_sm = 64 * kibi;  // the same from 5.0 to 12.1
  device.max_threads_per_block = 1024;
  device.max_threads_per_sm = architecture.max_threads_per_sm;
  device.warp_size = 32;
  device.clock_hertz = architecture.clock_hertz;
  device.memory_bandwidth = architecture.memory_bandwidth;
  return device;
}

}  // namespace

std::string Device::kind() const { return backend_kind(backend).kind_of(*this); }

Values Device::facts() const {
  const auto integer = [](auto value) { return Value(static_cast<std::int64_t>(value)); };
  return Values{
      {"device.kind", backend},
      {"device.sm", integer(sm)},
      {"device.sm_count", integer(sm_count)},
      {"device.cores", integer(cores)},
      {"device.simd_bytes", integer(simd_bytes)},
      {"device.warp_size", integer(warp_size)},
      {"device.max_shared_memory", integer(max_shared_memory)},
      {"device.shared_memory_per_sm", integer(shared_memory_per_sm)},
      {"device.registers_per_sm", integer(registers_per_sm)},
      {"device.max_threads_per_block", integer(max_threads_per_block)},
      {"device.max_threads_per_sm", integer(max_threads_per_sm)},
      {"device.memory_bytes", integer(memory_bytes)},
      {"device.l2_bytes", integer(l2_bytes)},
      {"device.l1_bytes", integer(l1_bytes)},
      {"device.memory_bandwidth", memory_bandwidth},
      {"device.clock_hertz", clock_hertz},
  };
}

std::optional<Device> nominal_cuda_device(std::string_view architecture) {
  if (architecture.starts_with("sm_")) architecture.remove_prefix(3);
  for (const Architecture& known : architectures)
    if (architecture == known.target || architecture == std::to_string(known.sm))
      return device_of(known);
  return std::nullopt;
}

std::vector<std::string> nominal_cuda_architectures() {
  std::vector<std::string> names;
  for (const Architecture& known : architectures)
    names.push_back(fmt::format("sm_{}", known.target));
  return names;
}

}  // namespace cudadent
