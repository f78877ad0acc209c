#include "tuner/inputs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "tests/support/errors.h"

namespace cudadent {
namespace {

template <class T>
std::vector<T> draw(const InputRule& spec, DataType dtype, std::size_t count,
                    std::uint64_t seed = 1) {
  const auto bytes = random_elements(spec, dtype, count, seed);
  REQUIRE(bytes.size() == count * sizeof(T));
  std::vector<T> elements(count);
  if (count > 0) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

double mean_of(const std::vector<float>& samples) {
  double sum = 0;
  for (const float sample : samples) sum += sample;
  return sum / static_cast<double>(samples.size());
}

TEST_CASE("normal and uniform inputs are what they are called") {
  constexpr std::size_t count = 200'001;  // several generators' worth, and odd
  const auto normal = draw<float>(NormalInput{2, 3}, DataType::f32, count);
  const double mean = mean_of(normal);
  double square = 0;
  for (const float sample : normal) square += (sample - mean) * (sample - mean);
  CHECK(mean == doctest::Approx(2).epsilon(0.02));
  CHECK(std::sqrt(square / count) == doctest::Approx(3).epsilon(0.02));

  const auto uniform = draw<float>(UniformInput{-1, 3}, DataType::f32, count);
  const auto [low, high] = std::minmax_element(uniform.begin(), uniform.end());
  CHECK(*low >= -1);
  CHECK(*high <= 3);
  CHECK(*high - *low > 3.9);
  CHECK(mean_of(uniform) == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("a seed is a sequence") {
  const NormalInput normal;
  const auto first = random_elements(normal, DataType::f32, 1000, 1);
  CHECK(first == random_elements(normal, DataType::f32, 1000, 1));
  CHECK(first != random_elements(normal, DataType::f32, 1000, 2));
  // Longer ones begin alike, whatever the number of threads.
  const auto longer = random_elements(normal, DataType::f32, 100'000, 1);
  CHECK(std::equal(first.begin(), first.end(), longer.begin()));
  CHECK(random_elements(normal, DataType::f32, 0, 1).empty());
}

TEST_CASE("every data type") {
  for (const float value : draw<float>(NormalInput{}, DataType::f32, 1000))
    CHECK(std::isfinite(value));
  for (const double value : draw<double>(NormalInput{}, DataType::f64, 1000))
    CHECK(std::isfinite(value));
  const auto singles = draw<float>(NormalInput{}, DataType::f32, 1000);
  const auto halves = draw<std::uint16_t>(NormalInput{}, DataType::f16, 1000);
  const auto brains = draw<std::uint16_t>(NormalInput{}, DataType::bf16, 1000);
  for (std::size_t i = 0; i < 1000; ++i) {
    CHECK(halves[i] == to_f16_bits(singles[i]));
    CHECK(brains[i] == to_bf16_bits(singles[i]));
  }
  for (const std::int32_t value : draw<std::int32_t>(UniformInput{-3, 3}, DataType::i32, 1000))
    CHECK(std::abs(value) <= 3);
  const auto large = draw<std::int64_t>(UniformInput{0, 1000}, DataType::i64, 1000);
  CHECK(std::set(large.begin(), large.end()).size() > 400);
}

TEST_CASE("values that do not fit are the nearest that do") {
  const auto bytes = draw<std::uint8_t>(NormalInput{0, 1}, DataType::u8, 1000);
  CHECK(*std::max_element(bytes.begin(), bytes.end()) <= 6);  // not 255 for −1
  for (const std::int8_t value : draw<std::int8_t>(UniformInput{500, 600}, DataType::i8, 100))
    CHECK(value == 127);
  for (const std::int32_t value : draw<std::int32_t>(UniformInput{1e20, 2e20}, DataType::i32, 100))
    CHECK(value == std::numeric_limits<std::int32_t>::max());
  for (const std::int64_t value :
       draw<std::int64_t>(UniformInput{-2e20, -1e20}, DataType::i64, 100))
    CHECK(value == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("flags are 0 or 1, and both") {
  const auto flags = draw<std::uint8_t>(NormalInput{}, DataType::boolean, 1000);
  CHECK(std::set<std::uint8_t>(flags.begin(), flags.end()) == std::set<std::uint8_t>{0, 1});
}

TEST_CASE("bf16 rounds to nearest even") {
  CHECK(to_bf16_bits(1.0F) == 0x3F80);
  CHECK(to_bf16_bits(-2.0F) == 0xC000);
  CHECK(to_bf16_bits(std::bit_cast<float>(0x3F808000U)) == 0x3F80);  // halfway, even below
  CHECK(to_bf16_bits(std::bit_cast<float>(0x3F818000U)) == 0x3F82);  // halfway, even above
  CHECK(to_bf16_bits(std::bit_cast<float>(0x3F808001U)) == 0x3F81);
  CHECK(to_bf16_bits(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(to_bf16_bits(-std::numeric_limits<float>::infinity()) == 0xFF80);
  CHECK(to_bf16_bits(std::bit_cast<float>(0x7F800001U)) == 0x7FC0);  // NaN stays NaN
}

TEST_CASE("f16 rounds to nearest even, with subnormals and infinities") {
  CHECK(to_f16_bits(1.0F) == 0x3C00);
  CHECK(to_f16_bits(-0.0F) == 0x8000);
  CHECK(to_f16_bits(65504.0F) == 0x7BFF);
  CHECK(to_f16_bits(65519.0F) == 0x7BFF);
  CHECK(to_f16_bits(65520.0F) == 0x7C00);
  CHECK(to_f16_bits(1.0F + 0x1p-11F) == 0x3C00);  // halfway, even below
  CHECK(to_f16_bits(1.0F + 3 * 0x1p-11F) == 0x3C02);
  CHECK(to_f16_bits(0x1p-14F) == 0x0400);
  CHECK(to_f16_bits(0x1p-24F) == 0x0001);
  CHECK(to_f16_bits(0x1p-25F) == 0x0000);
  CHECK(to_f16_bits(-3 * 0x1p-25F) == 0x8002);
  CHECK(to_f16_bits(std::numeric_limits<float>::infinity()) == 0x7C00);
  CHECK((to_f16_bits(std::numeric_limits<float>::quiet_NaN()) & 0x7FFF) > 0x7C00);
}

TEST_CASE("sequences one behind the other begin and end where the total ends") {
  for (const std::int64_t longest : {8, 20, 100}) {
    const auto starts = draw<std::int32_t>(CumulativeInput{100, longest}, DataType::i32, 14);
    CHECK(starts.front() == 0);
    CHECK(starts.back() == 100);
    for (std::size_t i = 1; i < starts.size(); ++i) {
      CHECK(starts[i] >= starts[i - 1]);
      CHECK(starts[i] - starts[i - 1] <= longest);
    }
  }
  CHECK(draw<std::int64_t>(CumulativeInput{0, 0}, DataType::i64, 1) ==
        std::vector<std::int64_t>{0});
  CHECK(tests::fails(ErrorCode::invalid_argument, {"13 steps of at most 7", "100"},
                     [] { random_elements(CumulativeInput{100, 7}, DataType::i32, 14, 1); }));
}

TEST_CASE("a permutation has each number once, then again") {
  auto numbers = draw<std::int32_t>(PermutationInput{50}, DataType::i32, 60);
  CHECK(std::equal(numbers.begin(), numbers.begin() + 10, numbers.begin() + 50));
  numbers.resize(50);
  CHECK(!std::is_sorted(numbers.begin(), numbers.end()));
  std::sort(numbers.begin(), numbers.end());
  for (std::int32_t i = 0; i < 50; ++i) CHECK(numbers[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("the rule of an input may depend on its problem") {
  const auto op = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
    "op": "gather",
    "tensors": {
      "cache": { "shape": ["pages", 8], "dtype": "f32" },
      "lengths": { "shape": ["batch"], "dtype": "i32" },
      "starts": { "shape": ["batch + 1"], "dtype": "i32" },
      "table": { "shape": ["batch", "width"], "dtype": "i32" },
      "y": { "shape": ["batch"], "dtype": "f32", "role": "output" } },
    "inputs": {
      "lengths": "uniform(0, min(8*width, 100))", "starts": "cumulative(pages)",
      "table": "permutation(pages)" } })manifest",
                                                                          "op.json"));
  const Problem problem = make_problem(
      op, {{"pages", std::int64_t{30}}, {"batch", std::int64_t{4}}, {"width", std::int64_t{7}}});
  CHECK(std::holds_alternative<NormalInput>(input_rule(problem, op->tensors[0])));
  CHECK(std::get<UniformInput>(input_rule(problem, op->tensors[1])).high == 56);
  const auto starts = std::get<CumulativeInput>(input_rule(problem, op->tensors[2]));
  CHECK(starts.total == 30);
  CHECK(starts.longest == 30);
  CHECK(std::get<PermutationInput>(input_rule(problem, op->tensors[3])).count == 30);
}

}  // namespace
}  // namespace cudadent
