// Matrix instructions against sums of products, for every type and layout they take; and mistakes
// with them.

#include <doctest/doctest.h>

#include "tests/emulator/small_kernel.h"
#include "tests/support/errors.h"
#include "tests/support/text.h"

namespace cudadent::emulator::tests {
namespace {

using cudadent::tests::mentions;
using cudadent::tests::replaced;

// An element type: its name, its bytes, and the bits of 0, 1 and 2.
struct Type {
  const char* name;
  int bytes;
  const char* bits;
};
constexpr Type bf16{"bf16", 2, "0, 0x3f80, 0x4000"}, f16{"f16", 2, "0, 0x3c00, 0x4000"},
    e4m3{"e4m3", 1, "0, 0x38, 0x40"}, e5m2{"e5m2", 1, "0, 0x3c, 0x40"},
    tf32{"tf32", 4, "0, 0x3f800fff, 0x40001000"};  // with bits that tf32 does not have

// What the matrices of all tests hold.
constexpr int a_value(int row, int k) { return (row * 5 + k) % 3; }
constexpr int b_value(int column, int k) { return (column + k * k) % 3; }
std::function<float(int, int)> product(int k_size, int factor = 1) {
  return [=](int row, int column) {
    int sum = 0;
    for (int k = 0; k < k_size; ++k) sum += a_value(row, k) * b_value(column, k);
    return static_cast<float>(factor * sum);
  };
}

const std::string values_text = R"(
using namespace emulated_detail;
constexpr u32 a_bits[3] = {A_BITS}, b_bits[3] = {B_BITS};
inline u32 a_value(int row, int k) { return a_bits[(row * 5 + k) % 3]; }
inline u32 b_value(int column, int k) { return b_bits[(column + k * k) % 3]; }
)";

std::string values_of(const Type& a, const Type& b) {
  return replaced(replaced(values_text, "A_BITS", a.bits), "B_BITS", b.bits);
}

// ------------------------------------------------------------------------------- mma.sync

// 16 by 8, fragments straight from the values (PTX ISA, matrix fragments for mma.m16n8k…).
std::string warp_product(const Type& a, const Type& b) {
  return values_of(a, b) + fmt::format(R"(
extern "C" __global__ void run(const float* x, float* y) {{
  constexpr int BYTES = {0}, PER = 4 / BYTES, K = 32 / BYTES;
  const int lane = threadIdx.x, group = lane / 4, pair = lane % 4;
  u32 a[4] = {{}}, b[2] = {{}};
  for (int e = 0; e < PER; ++e) {{
    for (int i = 0; i < 4; ++i)
      a[i] |= a_value(group + 8 * (i % 2), (i / 2) * K / 2 + pair * PER + e) << (8 * BYTES * e);
    for (int i = 0; i < 2; ++i)
      b[i] |= b_value(group, i * K / 2 + pair * PER + e) << (8 * BYTES * e);
  }}
  float d[4] = {{1, 1, 1, 1}};
  machine().multiply({{Element::{1}, Element::{2}, K}}, d, a, b);
  for (int i = 0; i < 4; ++i) y[(group + i / 2 * 8) * 8 + pair * 2 + i % 2] = d[i] - 1;
}}
)",
                                       a.bytes, a.name, b.name);
}

TEST_CASE("mma.sync of every type") {
  for (const auto& [a, b] : {std::pair{bf16, bf16},
                             {f16, f16},
                             {tf32, tf32},
                             {e4m3, e4m3},
                             {e4m3, e5m2},
                             {e5m2, e4m3},
                             {e5m2, e5m2}}) {
    CAPTURE(a.name);
    CAPTURE(b.name);
    CHECK(what_goes_wrong({.source = warp_product(a, b),
                           .rows = 16,
                           .columns = 8,
                           .block = "32",
                           .arguments = R"("x", "y")"},
                          product(32 / a.bytes)) == "");
  }
}

TEST_CASE("ldmatrix feeds mma.sync, plain and transposed") {
  const std::string source = R"(
#include "ptx/mma.cuh"
)" + values_of(bf16, bf16) + R"(
extern "C" __global__ void run(const float* x, float* y) {
  __shared__ __align__(16) u16 a_tile[16][24];  // [row][k]
  __shared__ __align__(16) u16 b_tile[16][8];   // [k][column]
  __shared__ __align__(16) u16 b_turned[8][24];  // [column][k]
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) a_tile[i / 16][i % 16] = a_value(i / 16, i % 16);
  for (int i = lane; i < 128; i += 32) {
    b_tile[i / 8][i % 8] = b_value(i % 8, i / 8);
    b_turned[i % 8][i / 8] = b_value(i % 8, i / 8);
  }
  __syncwarp();
  u32 a[4], b[2], b_other[2];
  load_matrix_x4(a, shared_address(&a_tile[lane % 16][lane / 16 * 8]));
  load_matrix_transposed_x2(b, shared_address(&b_tile[lane % 16][0]));
  load_matrix_x2(b_other, shared_address(&b_turned[lane % 8][lane / 8 % 2 * 8]));
  float d[4] = {};
  mma_16x8x16<bf16>(d, a, b);
  mma_16x8x16<bf16>(d, a, b_other);
  for (int i = 0; i < 4; ++i) y[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}
)";
  const auto with = [&](std::string_view what, std::string_view by) {
    return what_goes_wrong({.source = replaced(source, what, by),
                            .rows = 16,
                            .columns = 8,
                            .block = "32",
                            .arguments = R"("x", "y")"},
                           product(16, 2));
  };
  CHECK(with("", "") == "");
  CHECK(mentions(with("__syncwarp();", ""), {"wrong: y["}));
  CHECK(
      mentions(with("lane / 16 * 8]", "lane / 16 * 4]"), {"ldmatrix at", "not a multiple of 16"}));
  CHECK(mentions(with("&a_tile[lane % 16]", "&a_tile[lane / 2]"), {"wrong: y["}));
  CHECK(mentions(with("a_tile[16][24]", "a_tile[15][24]"), {"index outside of an array"}));
  CHECK(mentions(with("mma_16x8x16<bf16>(d, a, b);", "if (lane < 16) mma_16x8x16<bf16>(d, a, b);"),
                 {"mma.sync needs all 32 lanes of the warp"}));
  CHECK(mentions(with("const int lane = threadIdx.x;",
                      "const int lane = threadIdx.x; if (lane == 31) return;"),
                 {"ldmatrix needs all 32 lanes of the warp, which has 0-30"}));
}

// ------------------------------------------------------------------------------- wgmma

struct Layout {
  int swizzle = 128;
  bool transposed = false;
};

// 64 by 16 by two steps of 32 bytes of k. Where element (row, k) lies is worked out here on its own: the
// patterns of the PTX ISA, "Shared Memory Matrix Layout".
std::string warpgroup_product(const Type& a, const Type& b, const Layout& a_layout,
                              const Layout& b_layout, bool a_in_registers = false) {
  return values_of(a, b) + R"(
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"
template <int BYTES, int SWIZZLE, bool TRANSPOSED>
struct Place {
  static constexpr int COLUMNS = SWIZZLE == 0 ? 1 : SWIZZLE / 16;  // of 16 bytes, exchanged
  static constexpr int ROW = 16 * COLUMNS;                         // bytes of a row of an atom
  static constexpr int ATOM = 8 * ROW;
  // Distances between atoms: along the innermost dimension, and along the other one.
  static constexpr int INNER = 1024, OUTER = 8192;
  static int at(int row, int k) {
    const int inner = (TRANSPOSED ? row : k) * BYTES, outer = TRANSPOSED ? k : row;
    const int line = outer % 8 * ROW;
    const int exchanged = (inner % ROW / 16) ^ line / 128 % COLUMNS;
    return inner / ROW * INNER + outer / 8 * OUTER + line + exchanged * 16 + inner % 16;
  }
  static u64 descriptor(u32 address, int step) {
    constexpr u64 mode = SWIZZLE == 0 ? 0 : SWIZZLE == 128 ? 1 : SWIZZLE == 64 ? 2 : 3;
    // The step along k: whole atoms, or 32 bytes on within one.
    const int offset = TRANSPOSED ? step * (32 / BYTES / 8) * OUTER
                       : ROW > 32  ? step * 32
                                   : step * (32 / ROW) * INNER;
    // Which distance is called leading, and which stride: without a swizzle, of transposed operands,
    // stride is along m or n.
    const u64 leading = TRANSPOSED ? (SWIZZLE == 0 ? OUTER : INNER) : (SWIZZLE == 0 ? INNER : 16);
    const u64 stride = TRANSPOSED ? (SWIZZLE == 0 ? INNER : OUTER) : OUTER;
    return mode << 62 | stride / 16 << 32 | leading / 16 << 16 | ((address + offset) & 0x3ffff) >> 4;
  }
};
)" +
         fmt::format(R"(
using A = Place<{0}, {3}, {4}>;
using B = Place<{1}, {5}, {6}>;
constexpr int K_STEP = 32 / {0}, K = 2 * K_STEP;
extern "C" __global__ void run(const float* x, float* y) {{
  extern __shared__ __align__(1024) u8 memory[];
  u8 *const a = memory, *const b = memory + 98304;
  const int thread = threadIdx.x;
  for (int i = thread; i < 64 * K; i += 128) {{
    const u32 bits = a_value(i / K, i % K);
    __builtin_memcpy(a + A::at(i / K, i % K), &bits, {0});
  }}
  for (int i = thread; i < 16 * K; i += 128) {{
    const u32 bits = b_value(i / K, i % K);
    __builtin_memcpy(b + B::at(i / K, i % K), &bits, {1});
  }}
  async_proxy_fence();
  __syncthreads();
  float d[8];
  u32 held[2][4] = {{}};
  constexpr int PER = 4 / {0};
  for (int step = 0; step < 2; ++step)
    for (int i = 0; i < 4; ++i)
      for (int e = 0; e < PER; ++e)
        held[step][i] |= a_value(thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8,
                                 step * K_STEP + i / 2 * K_STEP / 2 + thread % 4 * PER + e)
                         << (8 * {0} * e);
  wgmma_fence();
  for (int step = 0; step < 2; ++step)
    machine().wgmma({{Element::{7}, Element::{8}, 16, K_STEP, step > 0, {4}, {6},
                     A::descriptor(shared_address(a), step), B::descriptor(shared_address(b), step),
                     {2} ? held[step] : nullptr, d}});
  wgmma_commit_group();
  wgmma_wait_group<0>();
  for (int i = 0; i < 8; ++i)
    y[(thread / 32 * 16 + i / 2 % 2 * 8 + thread % 32 / 4) * 16 + i / 4 * 8 + thread % 4 * 2 + i % 2] =
        d[i];
}}
)",
                     a.bytes, b.bytes, a_in_registers, a_layout.swizzle, a_layout.transposed,
                     b_layout.swizzle, b_layout.transposed, a.name, b.name);
}

std::string wgmma_goes_wrong(const std::string& source, int k) {
  return what_goes_wrong({.source = source,
                          .rows = 64,
                          .columns = 16,
                          .block = "128",
                          .shared_memory = "163840",
                          .arguments = R"("x", "y")"},
                         product(k));
}

TEST_CASE("wgmma of every type and layout") {
  for (const auto& [a, b] :
       {std::pair{bf16, bf16}, {f16, f16}, {tf32, tf32}, {e4m3, e5m2}, {e5m2, e4m3}})
    for (const int swizzle : {128, 64, 32, 0}) {
      CAPTURE(a.name);
      CAPTURE(swizzle);
      const int k = 64 / a.bytes;
      CHECK(wgmma_goes_wrong(warpgroup_product(a, b, {swizzle}, {swizzle}), k) == "");
      if (swizzle == 128)
        CHECK(wgmma_goes_wrong(warpgroup_product(a, b, {swizzle}, {swizzle}, true), k) == "");
      if (std::string(a.name) != "bf16") continue;
      CHECK(wgmma_goes_wrong(warpgroup_product(a, b, {swizzle, true}, {128, false}), k) == "");
      CHECK(wgmma_goes_wrong(warpgroup_product(a, b, {128, false}, {swizzle, true}), k) == "");
    }
}

TEST_CASE("wgmma: waits, fences, alignment, and who has to take part") {
  const std::string source = warpgroup_product(bf16, bf16, {}, {});
  const auto with = [&](std::string_view what, std::string_view by) {
    return wgmma_goes_wrong(replaced(source, what, by), 32);
  };
  CHECK(mentions(with("wgmma_wait_group<0>();", ""), {"exits with wgmma under way"}));
  CHECK(mentions(with("wgmma_wait_group<0>();", "wgmma_wait_group<1>();"),
                 {"exits with wgmma under way"}));
  CHECK(mentions(with("wgmma_commit_group();", ""), {"exits with wgmma under way"}));
  const std::string late =
      replaced(source, "        d[i];\n", "        d[i];\n  wgmma_wait_group<0>();\n");
  CHECK(
      mentions(wgmma_goes_wrong(replaced(late, "wgmma_wait_group<0>();", ""), 32), {"wrong: y["}));
  CHECK(mentions(with("wgmma_fence();", ""), {"wgmma without a wgmma_fence"}));
  CHECK(mentions(with("__syncthreads();", ""), {"wrong: y["}));
  CHECK(mentions(with("memory + 98304", "memory + 98304 + 128"),
                 {"wgmma: an operand with a swizzle of 128 bytes at", "multiple of 1024"}));
  CHECK(mentions(with("memory + 98304", "memory + 98304 + 65536"), {"wgmma of"}));
  CHECK(mentions(with("wgmma_fence();", "if (thread < 96) wgmma_fence(); else return;"),
                 {"deadlock", "wgmma that not all four warps"}));
  CHECK(mentions(with("A::descriptor(shared_address(a), step)",
                      "A::descriptor(shared_address(a), thread < 64 ? step : 0)"),
                 {"wgmma with other descriptors than the rest of its warpgroup"}));
  CHECK(mentions(with("wgmma_wait_group<0>();", "return;"), {"exits with wgmma under way"}));
  // Memory written again before the product has read it.
  CHECK(mentions(with("wgmma_commit_group();", "wgmma_commit_group(); memory[98305] = 255;"),
                 {"wrong: y["}));
}

}  // namespace
}  // namespace cudadent::emulator::tests
