#include "tuner/inputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>
#include <span>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "runtime/base/cancellation.h"
#include "runtime/base/threads.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// Elements that share one generator; chunks are independent, so that cores can share the work.
constexpr std::size_t chunk_elements = 1 << 16;

// SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixing function.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // Two floats in (0, 1].
  std::pair<float, float> uniforms() {
    const std::uint64_t bits = next();
    constexpr float unit = 1.0F / 16777216.0F;  // 2^-24
    return {static_cast<float>((bits >> 40) + 1) * unit,
            static_cast<float>(((bits >> 16) & 0xFFFFFF) + 1) * unit};
  }

 private:
  std::uint64_t state_;
};

// An integer from 0 to `most`.
std::int64_t below_or_at(std::int64_t most, Generator& generator) {
  return static_cast<std::int64_t>(generator.next() % (static_cast<std::uint64_t>(most) + 1));
}

// Each step is drawn around the mean of those left, in such a way that the rest can still reach the total.
std::vector<std::int64_t> draw_all(const CumulativeInput& rule, std::size_t count,
                                   Generator& generator) {
  const auto steps = static_cast<std::int64_t>(count) - 1;
  if (rule.total < 0 || (count > 0 && (rule.longest < 0 || rule.total > steps * rule.longest)))
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{} steps of at most {} do not add up to {}", steps, rule.longest, rule.total));
  std::vector<std::int64_t> all(count, 0);
  for (std::size_t i = 1; i < count; ++i) {
    const std::int64_t left = rule.total - all[i - 1];
    const std::int64_t after = static_cast<std::int64_t>(count - 1 - i);
    const std::int64_t least = std::max<std::int64_t>(0, left - after * rule.longest);
    const std::int64_t most =
        after == 0 ? left : std::min({rule.longest, left, 2 * left / (after + 1) + 1});
    all[i] = all[i - 1] + least + below_or_at(std::max(least, most) - least, generator);
  }
  return all;
}

std::vector<std::int64_t> draw_all(const PermutationInput& rule, std::size_t count,
                                   Generator& generator) {
  if (count > 0 && rule.count <= 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("a permutation of {}", rule.count));
  std::vector<std::int64_t> order(static_cast<std::size_t>(rule.count)), all;
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(
        order[i - 1],
        order[static_cast<std::size_t>(below_or_at(static_cast<std::int64_t>(i) - 1, generator))]);
  for (std::size_t i = 0; i < count; ++i) all.push_back(order[i % order.size()]);
  return all;
}

// Indices as i32 or i64.
std::vector<std::byte> as_indices(const std::vector<std::int64_t>& values, DataType dtype) {
  if (dtype != DataType::i32 && dtype != DataType::i64)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("indices are i32 or i64, not {}", name_of(dtype)));
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto narrow = static_cast<std::int32_t>(values[i]);
    const void* from = &values[i];
    if (dtype == DataType::i32) from = &narrow;
    std::memcpy(bytes.data() + i * size_of(dtype), from, size_of(dtype));
  }
  return bytes;
}

std::pair<float, float> draw(const NormalInput& spec, Generator& generator) {
  const auto [u, v] = generator.uniforms();  // Box and Muller's transform
  const float radius = std::sqrt(-2.0F * std::log(u)) * static_cast<float>(spec.deviation);
  const float angle = 2.0F * std::numbers::pi_v<float> * v;
  const auto mean = static_cast<float>(spec.mean);
  return {mean + radius * std::cos(angle), mean + radius * std::sin(angle)};
}

std::pair<float, float> draw(const UniformInput& spec, Generator& generator) {
  const auto [u, v] = generator.uniforms();
  const auto low = static_cast<float>(spec.low), width = static_cast<float>(spec.high - spec.low);
  return {low + width * u, low + width * v};
}

// Rounded to nearest, and to the nearest that fits.
template <class T>
T to_integer(float value) {
  using Limits = std::numeric_limits<T>;
  const float rounded = std::round(value);
  // The largest value may round up to one that does not fit.
  if (rounded >= static_cast<float>(Limits::max())) return Limits::max();
  if (rounded <= static_cast<float>(Limits::min())) return Limits::min();
  return static_cast<T>(rounded);
}

template <class T>
T convert(float value, DataType dtype) {
  if constexpr (std::is_same_v<T, std::uint16_t>)
    return dtype == DataType::bf16 ? to_bf16_bits(value) : to_f16_bits(value);
  else if (std::is_same_v<T, std::uint8_t> && dtype == DataType::e4m3)
    return static_cast<T>(to_e4m3_bits(value));
  else if (std::is_same_v<T, std::uint8_t> && dtype == DataType::e5m2)
    return static_cast<T>(to_e5m2_bits(value));
  else if constexpr (std::is_integral_v<T>)
    return dtype == DataType::boolean ? static_cast<T>(std::round(value) != 0.0F)
                                      : to_integer<T>(value);
  else
    return static_cast<T>(value);
}

// A float of one sign bit, `exponent_bits` and the rest, rounded to nearest even; magnitudes beyond
// `largest`, infinity too, become that code.
template <int exponent_bits>
std::uint8_t to_8_bits(float value, std::uint32_t largest) noexcept {
  constexpr int fraction_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  constexpr int shift = 23 - fraction_bits;
  constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(127 - bias + 1) << 23;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<std::uint8_t>(sign | 0x7F);
  std::uint32_t code = 0;
  if (magnitude < smallest_normal) {
    // Adding a float whose last bit is worth the smallest subnormal makes the addition round to that.
    constexpr auto anchor = static_cast<std::uint32_t>(127 + 24 - bias - fraction_bits) << 23;
    const float sum = std::bit_cast<float>(magnitude) + std::bit_cast<float>(anchor);
    code = std::bit_cast<std::uint32_t>(sum) - anchor;
  } else {
    const std::uint32_t half = (1U << (shift - 1)) - 1 + ((magnitude >> shift) & 1);
    code = (magnitude - (static_cast<std::uint32_t>(127 - bias) << 23) + half) >> shift;
  }
  return static_cast<std::uint8_t>(sign | std::min(code, largest));
}

template <class T, class Distribution>
void fill_chunk(const Distribution& distribution, DataType dtype, std::uint64_t seed,
                std::size_t chunk, std::span<T> elements) {
  Generator generator(seed * 0xD1342543DE82EF95ULL + chunk);
  for (std::size_t i = 0; i < elements.size(); i += 2) {
    const auto [first, second] = draw(distribution, generator);
    elements[i] = convert<T>(first, dtype);
    if (i + 1 < elements.size()) elements[i + 1] = convert<T>(second, dtype);
  }
}

template <class T, class Distribution>
std::vector<std::byte> fill(const Distribution& spec, DataType dtype, std::size_t count,
                            std::uint64_t seed) {
  std::vector<std::byte> bytes(count * sizeof(T));
  const std::span<T> elements(reinterpret_cast<T*>(bytes.data()), count);
  const std::size_t chunks = (count + chunk_elements - 1) / chunk_elements;
  std::atomic<std::size_t> next = 0;
  on_threads(std::min<std::size_t>(std::max(1U, std::thread::hardware_concurrency()), chunks), [&] {
    for (std::size_t chunk = next++; chunk < chunks; chunk = next++) {
      if (Cancellation::asked()) next = chunks;  // told to this thread, for all
      const std::size_t start = chunk * chunk_elements;
      fill_chunk(spec, dtype, seed, chunk,
                 elements.subspan(start, std::min(chunk_elements, count - start)));
    }
  });
  Cancellation::check();
  return bytes;
}

}  // namespace

std::uint16_t to_bf16_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

std::uint16_t to_f16_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<std::uint16_t>(sign | 0x7E00);
  if (magnitude >= 0x477FF000) return static_cast<std::uint16_t>(sign | 0x7C00);  // ≥ 65520
  if (magnitude < 0x38800000) {
    // Below 2^-14 results are multiples of 2^-24; adding 0.5 makes the addition round to that.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000));
  }
  const std::uint32_t rounded = magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

std::uint8_t to_e4m3_bits(float value) noexcept { return to_8_bits<4>(value, 0x7E); }
std::uint8_t to_e5m2_bits(float value) noexcept { return to_8_bits<5>(value, 0x7B); }

namespace {

template <class Distribution>
std::vector<std::byte> fill_as(const Distribution& spec, DataType dtype, std::size_t count,
                               std::uint64_t seed) {
  switch (dtype) {
    case DataType::f64:
      return fill<double>(spec, dtype, count, seed);
    case DataType::f32:
      return fill<float>(spec, dtype, count, seed);
    case DataType::bf16:
    case DataType::f16:
      return fill<std::uint16_t>(spec, dtype, count, seed);
    case DataType::i64:
      return fill<std::int64_t>(spec, dtype, count, seed);
    case DataType::i32:
      return fill<std::int32_t>(spec, dtype, count, seed);
    case DataType::i8:
      return fill<std::int8_t>(spec, dtype, count, seed);
    case DataType::u8:
    case DataType::boolean:
    case DataType::e4m3:
    case DataType::e5m2:
      return fill<std::uint8_t>(spec, dtype, count, seed);
  }
  throw Error(ErrorCode::internal, "unknown data type");
}

}  // namespace

InputRule input_rule(const Problem& problem, const TensorSpec& tensor) {
  const auto found = problem.op->inputs.find(tensor.name);
  if (found == problem.op->inputs.end()) return NormalInput();
  const auto& arguments = found->second.arguments;
  const auto value = [&](std::size_t i) { return arguments[i].evaluate(Scope(problem.values)); };
  const auto real = [&](std::size_t i) { return as_real(value(i), arguments[i].text()); };
  const auto integer = [&](std::size_t i) { return as_integer(value(i), arguments[i].text()); };
  switch (found->second.rule) {
    case InputSpec::Rule::normal:
      return NormalInput{real(0), real(1)};
    case InputSpec::Rule::uniform:
      return UniformInput{real(0), real(1)};
    case InputSpec::Rule::cumulative:
      return CumulativeInput{integer(0), integer(arguments.size() - 1)};
    case InputSpec::Rule::permutation:
      return PermutationInput{integer(0)};
  }
  throw Error(ErrorCode::internal, "unknown rule");
}

bool draws_each_element(const InputRule& rule) {
  return std::holds_alternative<NormalInput>(rule) || std::holds_alternative<UniformInput>(rule);
}

std::vector<std::byte> random_elements(const InputRule& rule, DataType dtype, std::size_t count,
                                       std::uint64_t seed) {
  return std::visit(
      [&]<class Rule>(const Rule& any) {
        if constexpr (std::is_same_v<Rule, CumulativeInput> ||
                      std::is_same_v<Rule, PermutationInput>) {
          Generator generator(seed);
          return as_indices(draw_all(any, count, generator), dtype);
        } else {
          return fill_as(any, dtype, count, seed);
        }
      },
      rule);
}

}  // namespace cudadent
