// Random inputs for tuning runs, as an operator's manifest asks for them.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/manifest.h"

namespace cudadent {

// `count` elements of `dtype` as bytes; the same for the same seed, on any number of cores. Integers and
// 8-bit floats are rounded to nearest, and to the nearest that fits; flags are false where they round to
// zero.
std::vector<std::byte> random_elements(const InputSpec& spec, DataType dtype, std::size_t count,
                                       std::uint64_t seed);

// bf16 and f16 bits of a float, rounded to nearest even.
std::uint16_t to_bf16_bits(float value) noexcept;
std::uint16_t to_f16_bits(float value) noexcept;
// 8-bit floats the same way, with the largest finite value for all that lies beyond.
std::uint8_t to_e4m3_bits(float value) noexcept;
std::uint8_t to_e5m2_bits(float value) noexcept;

}  // namespace cudadent
