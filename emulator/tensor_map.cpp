#include "emulator/tensor_map.h"

#include <fmt/format.h>

#include <cstring>

namespace cudadent::emulator {

namespace {

constexpr std::uint64_t mark = 0xC0DADE27'7E4503A9ull;

std::uint8_t bytes_of(cuda::TensorMapType type) {
  switch (type) {
    case cuda::TensorMapType::u8:
      return 1;
    case cuda::TensorMapType::u16:
    case cuda::TensorMapType::f16:
    case cuda::TensorMapType::bf16:
      return 2;
    case cuda::TensorMapType::u32:
    case cuda::TensorMapType::i32:
    case cuda::TensorMapType::f32:
      return 4;
    case cuda::TensorMapType::u64:
    case cuda::TensorMapType::i64:
    case cuda::TensorMapType::f64:
      return 8;
  }
  return 0;
}

}  // namespace

std::uint32_t TensorMapFacts::box_bytes() const {
  std::uint32_t bytes = element_bytes;
  for (int i = 0; i < rank; ++i) bytes *= box[i];
  return bytes;
}

cuda::Result encode_tensor_map(cuda::TensorMap* map, cuda::TensorMapType type, std::uint32_t rank,
                               void* address, const std::uint64_t* dimensions,
                               const std::uint64_t* strides, const std::uint32_t* box,
                               const std::uint32_t* element_strides, int interleave, int swizzle,
                               int l2_promotion, int fill) {
  TensorMapFacts facts;
  facts.mark = mark;
  facts.base = static_cast<std::byte*>(address);
  facts.rank = static_cast<std::uint8_t>(rank);
  facts.type = static_cast<std::uint8_t>(type);
  facts.element_bytes = bytes_of(type);
  if (rank < 1 || rank > 5 || swizzle < 0 || swizzle > 3 || interleave != 0 || fill != 0 ||
      l2_promotion < 0 || l2_promotion > 3)
    return cuda::Result::invalid_value;
  facts.swizzle_bytes = static_cast<std::uint8_t>(swizzle == 0 ? 0 : 16 << swizzle);
  bool valid = reinterpret_cast<std::uintptr_t>(map) % 64 == 0 && facts.element_bytes > 0 &&
               reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
  for (std::uint32_t i = 0; i < rank; ++i) {
    valid = valid && dimensions[i] >= 1 && dimensions[i] <= std::uint64_t{1} << 32 && box[i] >= 1 &&
            box[i] <= 256 && element_strides[i] == 1;
    facts.dimensions[i] = dimensions[i];
    facts.box[i] = static_cast<std::uint16_t>(box[i]);
    if (i + 1 == rank) break;
    valid = valid && strides[i] % 16 == 0 && strides[i] < std::uint64_t{1} << 40;
    facts.strides[i] = strides[i];
  }
  valid = valid && facts.row_bytes() % 16 == 0 &&
          (facts.swizzle_bytes == 0 || facts.row_bytes() <= facts.swizzle_bytes);
  if (!valid) return cuda::Result::invalid_value;
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &facts, sizeof facts);
  return cuda::Result::success;
}

std::string read_tensor_map(const void* map, TensorMapFacts& facts) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0)
    return fmt::format("the tensor map at {} is not 64-byte aligned", map);
  std::memcpy(&facts, map, sizeof facts);
  if (facts.mark != mark) return "this is no tensor map (or one of a tensor without elements)";
  return {};
}

}  // namespace cudadent::emulator
