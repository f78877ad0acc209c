#include "runtime/launch/memory_overlap.h"

#include <doctest/doctest.h>

#include <array>
#include <random>
#include <set>
#include <vector>

namespace cudadent {
namespace {

alignas(16) std::array<float, 4096> memory{};

Tensor tensor(std::size_t offset, std::initializer_list<std::int64_t> shape,
              std::initializer_list<std::int64_t> strides = {}, DataType dtype = DataType::f32) {
  Tensor result(memory.data() + offset, dtype, shape);
  std::copy(strides.begin(), strides.end(), result.strides.begin());
  return result;
}

std::set<std::uintptr_t> bytes_of(const Tensor& tensor) {
  std::vector<std::int64_t> starts{0};
  for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.rank); ++i) {
    std::vector<std::int64_t> longer;
    for (const auto start : starts)
      for (std::int64_t x = 0; x < tensor.shape[i]; ++x)
        longer.push_back(start + x * tensor.strides[i]);
    starts = longer;
  }
  std::set<std::uintptr_t> bytes;
  const auto size = static_cast<std::int64_t>(size_of(tensor.dtype));
  for (const auto start : starts)
    for (std::int64_t byte = 0; byte < size; ++byte)
      bytes.insert(reinterpret_cast<std::uintptr_t>(tensor.data) +
                   static_cast<std::uintptr_t>(start * size + byte));
  return bytes;
}

bool meet_by_listing(const Tensor& a, const Tensor& b) {
  const auto of_b = bytes_of(b);
  for (const auto byte : bytes_of(a))
    if (of_b.contains(byte)) return true;
  return false;
}

TEST_CASE("tensors beside, behind and over each other") {
  const Tensor whole = tensor(0, {4, 8});
  CHECK(elements_meet(whole, whole));
  CHECK(!elements_meet(whole, tensor(32, {4, 8})));
  CHECK(elements_meet(whole, tensor(31, {1})));
  CHECK(!elements_meet(whole, tensor(8, {0, 8})));
  CHECK(!byte_range(tensor(8, {0, 8})).meets(byte_range(whole)));
  // Columns of one matrix, and those beside them.
  CHECK(!elements_meet(tensor(0, {16, 8}, {24, 1}), tensor(8, {16, 16}, {24, 1})));
  CHECK(elements_meet(tensor(0, {16, 9}, {24, 1}), tensor(8, {16, 16}, {24, 1})));
  // q, k and v side by side, and one that is read by each of a batch.
  const auto part = [](std::size_t i) { return tensor(8 * i, {2, 16, 8}, {384, 24, 1}); };
  CHECK(!elements_meet(part(0), part(1)));
  CHECK(!elements_meet(part(2), part(0)));
  CHECK(elements_meet(part(1), tensor(10, {2, 4}, {0, 1})));
  // Columns, in columns of a transposed view of the same.
  CHECK(elements_meet(tensor(0, {16, 16}), tensor(5, {16}, {16})));
  CHECK(!elements_meet(tensor(0, {16, 4}, {16, 1}), tensor(5, {16}, {16})));
}

TEST_CASE("whether elements meet is what a list of all bytes says") {
  std::mt19937_64 random(20261129);
  const auto below = [&](std::uint64_t most) { return static_cast<std::int64_t>(random() % most); };
  constexpr std::array dtypes{DataType::u8, DataType::bf16, DataType::f32, DataType::f64};
  int met = 0, ranges_met = 0;
  constexpr int count = 4000;
  for (int i = 0; i < count; ++i) {
    std::array<Tensor, 2> both;
    const std::array<std::int64_t, 3> common{below(90), below(30), 1 + below(3)};
    for (Tensor& one : both) {
      one = Tensor(reinterpret_cast<char*>(memory.data()) + 8 * below(40), dtypes[random() % 4],
                   {1 + below(5), 1 + below(5), below(20) == 0 ? 0 : 1 + below(5)});
      for (std::size_t d = 0; d < 3; ++d)
        one.strides[d] = random() % 2 == 0 ? common[d] : below(d == 0 ? 90 : 30);
    }
    CAPTURE(i);
    const bool expected = meet_by_listing(both[0], both[1]);
    REQUIRE(elements_meet(both[0], both[1]) == expected);
    REQUIRE(elements_meet(both[1], both[0]) == expected);
    met += expected ? 1 : 0;
    ranges_met += byte_range(both[0]).meets(byte_range(both[1])) ? 1 : 0;
  }
  // Both answers are common, also where ranges meet.
  CHECK(met > count / 10);
  CHECK(ranges_met - met > count / 10);
}

TEST_CASE("layouts that would take for ever count as apart") {
  // Even bytes and odd ones, each in steps that have nothing to do with the other's.
  Tensor even(memory.data(), DataType::u8, {100000, 1000});
  even.strides = {2 * 1009, 2};
  Tensor odd(reinterpret_cast<char*>(memory.data()) + 1, DataType::u8, {100000, 1000});
  odd.strides = {2 * 1013, 2};
  CHECK(!elements_meet(even, odd));
  odd.data = even.data;
  CHECK(elements_meet(even, odd));
}

TEST_CASE("the same elements") {
  CHECK(same_elements(tensor(0, {4, 8}), tensor(0, {4, 8})));
  CHECK(same_elements(tensor(0, {4, 8}), tensor(0, {1, 4, 8}, {77, 8, 1})));
  CHECK(same_elements(tensor(0, {1}), tensor(0, {})));
  CHECK(!same_elements(tensor(0, {4, 8}), tensor(1, {4, 8})));
  CHECK(!same_elements(tensor(0, {4, 8}), tensor(0, {8, 4})));
  CHECK(!same_elements(tensor(0, {4, 8}), tensor(0, {4, 8}, {9, 1})));
  CHECK(!same_elements(tensor(0, {4, 8}), tensor(0, {2, 4, 8})));
  CHECK(!same_elements(tensor(0, {4}, {1}, DataType::f32), tensor(0, {4}, {1}, DataType::i32)));
}

}  // namespace
}  // namespace cudadent
