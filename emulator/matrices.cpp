#include "emulator/matrices.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulator/grid.h"
#include "runtime/operators/problem.h"
#include "tuner/inputs.h"

namespace cudadent::emulator {

namespace {

float f16_value(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                  : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? INFINITY : NAN;
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// 4 bits of exponent (bias 7), 3 of fraction, no infinity; only all ones is NaN.
float e4m3_value(std::uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 3 & 15), fraction = static_cast<int>(bits & 7);
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                                  : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
  if (exponent == 15 && fraction == 7) magnitude = NAN;
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

// The upper half of an f16.
float e5m2_value(std::uint32_t bits) { return f16_value(bits << 8); }

template <float (*VALUE)(std::uint32_t), std::size_t COUNT>
const std::array<float, COUNT>& table() {
  static const std::array<float, COUNT> values = [] {
    std::array<float, COUNT> all{};
    for (std::size_t i = 0; i < COUNT; ++i) all[i] = VALUE(static_cast<std::uint32_t>(i));
    return all;
  }();
  return values;
}

float value_of(Element element, std::uint32_t bits) {
  switch (element) {
    case Element::bf16:
      return std::bit_cast<float>(bits << 16);
    case Element::f16:
      return table<f16_value, 65536>()[bits];
    case Element::e4m3:
      return table<e4m3_value, 256>()[bits];
    case Element::e5m2:
      return table<e5m2_value, 256>()[bits];
    case Element::tf32:  // the lower 13 bits are not looked at
      return std::bit_cast<float>(bits & 0xffffe000U);
    case Element::f32:
      return std::bit_cast<float>(bits);
  }
  return NAN;
}

// Element `index` of those packed in a register, lowest first.
float packed_value(Element element, std::uint32_t word, int index) {
  const int bits = 8 * bytes_of(element);
  const std::uint32_t mask = bits == 32 ? 0xffffffffU : (1U << bits) - 1;
  return value_of(element, word >> (bits * index) & mask);
}

}  // namespace

int bytes_of(Element element) {
  switch (element) {
    case Element::bf16:
    case Element::f16:
      return 2;
    case Element::e4m3:
    case Element::e5m2:
      return 1;
    case Element::tf32:
    case Element::f32:
      return 4;
  }
  return 0;
}

float load_element(Element element, const std::byte* from) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, from, static_cast<std::size_t>(bytes_of(element)));
  return value_of(element, bits);
}

void store_element(Element element, std::byte* to, float value) {
  const auto put = [&](auto bits) { std::memcpy(to, &bits, sizeof bits); };
  if (element == Element::bf16) return put(to_bf16_bits(value));
  if (element == Element::f16) return put(to_f16_bits(value));
  put(value);
}

// ------------------------------------------------------------------------------- ldmatrix, stmatrix

namespace {

// What a lane brings to a load or store of 8×8 matrices of 16-bit elements: the row that it gives the
// address of, and its two elements of each matrix, 2 (lane % 4) and the next of row lane / 4.
struct MatrixMove {
  std::uint32_t* words;  // one a matrix
  int count;
  bool transposed;
  std::byte* row = nullptr;  // null when none is asked of it
  std::array<std::byte, 16> read_early{};
};

// Calls move(bytes in the row, bytes in the lane's word) for each of the warp's elements.
template <class Move>
void for_elements(Collective& lanes, Move&& move) {
  const auto of = [&](std::size_t lane) -> MatrixMove& {
    return *static_cast<MatrixMove*>(lanes.payload[lane]);
  };
  for (std::size_t lane = 0; lane < 32; ++lane)
    for (int matrix = 0; matrix < of(lane).count; ++matrix)
      for (std::size_t half = 0; half < 2; ++half) {
        std::size_t row = lane / 4, column = lane % 4 * 2 + half;
        if (of(lane).transposed) std::swap(row, column);
        move(of(static_cast<std::size_t>(matrix) * 8 + row).row + 2 * column,
             reinterpret_cast<std::byte*>(&of(lane).words[matrix]) + 2 * half);
      }
}

}  // namespace

// That all lanes have come orders no memory: a row may be read when the lane with its address comes.
void Grid::load_matrix(U32* out, int count, bool transposed, U32 address) {
  need(75, "ldmatrix");
  MatrixMove move{.words = out, .count = count, .transposed = transposed};
  if (self().lane < 8 * count) {
    move.row = static_cast<std::byte*>(shared_pointer(address, 16, 16, "ldmatrix"));
    if (random_.happens(request_.schedule.early)) {
      std::memcpy(move.read_early.data(), move.row, 16);
      move.row = move.read_early.data();
    }
  }
  collective(0xffffffffU, true, "ldmatrix", &move, [](Grid&, Warp&, Collective& lanes) {
    for_elements(lanes, [](const std::byte* in_row, std::byte* in_word) {
      std::memcpy(in_word, in_row, 2);
    });
  });
}

void Grid::store_matrix(U32 address, const U32* values, int count, bool transposed) {
  need(90, "stmatrix");
  std::array<U32, 4> words{};
  std::memcpy(words.data(), values, static_cast<std::size_t>(count) * 4);
  MatrixMove move{.words = words.data(), .count = count, .transposed = transposed};
  if (self().lane < 8 * count) {
    move.row = static_cast<std::byte*>(shared_pointer(address, 16, 16, "stmatrix"));
    shared_written(address, 16);
  }
  collective(0xffffffffU, true, "stmatrix", &move, [](Grid&, Warp&, Collective& lanes) {
    for_elements(lanes, [](std::byte* in_row, const std::byte* in_word) {
      std::memcpy(in_row, in_word, 2);
    });
  });
}

// ------------------------------------------------------------------------------- mma

namespace {

struct Multiply {
  WarpProduct product;
  float* d;
  const std::uint32_t *a, *b;
};

// The fragments of one product as matrices. A row of a spreads over 4 lanes: of every `per` elements
// of a quarter of a register row, and the upper half of k is in the registers behind.
void multiply_fragments(Collective& lanes) {
  const auto of = [&](int lane) -> Multiply& {
    return *static_cast<Multiply*>(lanes.payload[static_cast<std::size_t>(lane)]);
  };
  const auto [a_type, b_type, k] = of(0).product;
  const int per = 4 / bytes_of(a_type);  // elements in a register
  const int half = 4 * per;              // elements of k that one register of all four lanes covers
  std::array<float, 16 * 32> a{};
  std::array<float, 8 * 32> b{};
  for (int lane = 0; lane < 32; ++lane) {
    const Multiply& mine = of(lane);
    const int group = lane / 4, first = lane % 4 * per;
    for (int step = 0; step < k / half; ++step)
      for (int e = 0; e < per; ++e) {
        const int at = step * half + first + e;
        for (int upper = 0; upper < 2; ++upper)
          a[place_in(32, group + 8 * upper, at)] =
              packed_value(a_type, mine.a[2 * step + upper], e);
        b[place_in(32, group, at)] = packed_value(b_type, mine.b[step], e);
      }
  }
  for (int lane = 0; lane < 32; ++lane) {
    Multiply& mine = of(lane);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = mine.d[i];
      for (int at = 0; at < k; ++at) sum += a[place_in(32, row, at)] * b[place_in(32, column, at)];
      mine.d[i] = sum;
    }
  }
}

}  // namespace

void Grid::multiply(const WarpProduct& product, float* d, const U32* a, const U32* b) {
  need(bytes_of(product.a) == 1                      ? 89
       : product.a == Element::f16 && product.k == 8 ? 75
                                                     : 80,
       "mma.sync of this type");
  Multiply mine{product, d, a, b};
  collective(0xffffffffU, true, "mma.sync", &mine,
             [](Grid&, Warp&, Collective& lanes) { multiply_fragments(lanes); });
}

}  // namespace cudadent::emulator
