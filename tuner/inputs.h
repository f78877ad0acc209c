// Random inputs for tuning runs, as an operator's manifest asks for them.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "runtime/operators/problem.h"

namespace cudadent {

struct NormalInput {
  double mean = 0, deviation = 1;
};
struct UniformInput {
  double low = 0, high = 1;
};
// From 0 to `total` in steps of 0 to `longest`: where the sequences of a batch that lie one behind the
// other begin and end.
struct CumulativeInput {
  std::int64_t total = 0, longest = 0;
};
// The numbers from 0 to count − 1 in any order, and again when all are used up: the pages of a cache.
struct PermutationInput {
  std::int64_t count = 1;
};
using InputRule = std::variant<NormalInput, UniformInput, CumulativeInput, PermutationInput>;

// What the problem's input is filled with, by its operator's manifest. Throws Error(invalid_manifest) when an
// argument is no number.
InputRule input_rule(const Problem& problem, const TensorSpec& tensor);

// Whether elements are drawn each for itself, so that those of a part would do for all.
bool draws_each_element(const InputRule& rule);

// `count` elements of `dtype` as bytes; the same for the same seed, on any number of cores. Integers and
// 8-bit floats are rounded to nearest, and to the nearest that fits; flags are false where they round to
// zero. Throws Error(invalid_argument) where the elements cannot be as the rule says: when there are too few
// steps to the total, no numbers for a permutation, or no integers.
std::vector<std::byte> random_elements(const InputRule& rule, DataType dtype, std::size_t count,
                                       std::uint64_t seed);

// bf16 and f16 bits of a float, rounded to nearest even.
std::uint16_t to_bf16_bits(float value) noexcept;
std::uint16_t to_f16_bits(float value) noexcept;
// 8-bit floats the same way, with the largest finite value for all that lies beyond.
std::uint8_t to_e4m3_bits(float value) noexcept;
std::uint8_t to_e5m2_bits(float value) noexcept;

}  // namespace cudadent
