// A tensor map as the emulated driver encodes it into the 128 bytes that kernels take.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "runtime/backends/cuda/driver.h"

namespace cudadent::emulator {

struct TensorMapFacts {
  std::uint64_t mark = 0;
  std::byte* base = nullptr;
  std::uint64_t dimensions[5] = {};  // elements, innermost first
  std::uint64_t strides[4] = {};     // bytes, of all but the innermost
  std::uint16_t box[5] = {};         // elements
  std::uint8_t rank = 0;
  std::uint8_t type = 0;  // cuda::TensorMapType
  std::uint8_t element_bytes = 0;
  std::uint8_t swizzle_bytes = 0;  // 0, 32, 64, 128

  [[nodiscard]] std::uint32_t box_bytes() const;
  [[nodiscard]] std::uint32_t row_bytes() const { return box[0] * std::uint32_t{element_bytes}; }
  // Bytes of shared memory a box has to start at a multiple of, for its swizzle to be as drawn.
  [[nodiscard]] std::uint32_t alignment() const { return 128; }
};
static_assert(sizeof(TensorMapFacts) <= sizeof(cuda::TensorMap));

// What cuTensorMapEncodeTiled does; invalid_value for what it refuses.
cuda::Result encode_tensor_map(cuda::TensorMap* map, cuda::TensorMapType type, std::uint32_t rank,
                               void* address, const std::uint64_t* dimensions,
                               const std::uint64_t* strides, const std::uint32_t* box,
                               const std::uint32_t* element_strides, int interleave, int swizzle,
                               int l2_promotion, int fill);

// Why the bytes are not a tensor map, in `facts` what they say; empty when they are.
std::string read_tensor_map(const void* map, TensorMapFacts& facts);

// Where a byte of shared memory goes: the bits that tell 16-byte columns apart are exchanged by those
// that tell 128-byte rows apart (PTX ISA, "Swizzling modes"). `address` is that of the byte.
constexpr std::uint32_t swizzled(std::uint32_t address, std::uint32_t swizzle_bytes) {
  const std::uint32_t columns = swizzle_bytes / 16;  // 0, 2, 4, 8
  return columns == 0 ? address : address ^ ((address >> 7 & (columns - 1)) << 4);
}

}  // namespace cudadent::emulator
