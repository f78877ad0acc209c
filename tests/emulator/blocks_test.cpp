// Threads, warps and blocks: what is right gives the same under every schedule, what is wrong shows.

#include <doctest/doctest.h>

#include "tests/emulator/small_kernel.h"
#include "tests/support/errors.h"
#include "tests/support/text.h"

namespace cudadent::emulator::tests {
namespace {

using cudadent::tests::mentions;
using cudadent::tests::replaced;

// Every thread reads what another one wrote.
const std::string reversing = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  __shared__ float values[256];
  const int thread = threadIdx.x;
  values[thread] = x[thread];
  __syncthreads();
  y[thread] = values[255 - thread];
}
)";
float reversed(int, int column) { return static_cast<float>(255 - column); }

TEST_CASE("a barrier, and one that is missing") {
  CHECK(what_goes_wrong({.source = reversing}, reversed) == "");
  CHECK(mentions(what_goes_wrong({.source = replaced(reversing, "__syncthreads();", "")}, reversed),
                 {"wrong: y["}));
}

TEST_CASE("a barrier against writing what others still read") {
  const std::string source = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  __shared__ float values[256];
  const int thread = threadIdx.x;
  float sum = 0;
  for (int round = 0; round < 4; ++round) {
    values[thread] = x[thread] * (round + 1);
    __syncthreads();
    sum += values[255 - thread];
    __syncthreads();  // before the next round
  }
  y[thread] = sum;
}
)";
  const auto expected = [](int, int column) { return 10 * static_cast<float>(255 - column); };
  CHECK(what_goes_wrong({.source = source}, expected) == "");
  CHECK(
      mentions(what_goes_wrong(
                   {.source = replaced(source, "__syncthreads();  // before the", "//")}, expected),
               {"wrong: y["}));
}

TEST_CASE("lanes of a warp") {
  const std::string source = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  __shared__ float values[8][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  values[warp][lane] = x[threadIdx.x];
  __syncwarp();
  float sum = values[warp][31 - lane];
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  const float up = __shfl_up_sync(0xffffffffu, float(lane), 1);
  const float of_half = lane < 16 ? __shfl_sync(0xffffu, float(lane), 3)
                                  : __shfl_sync(0xffff0000u, float(lane), 3);
  y[threadIdx.x] = sum + (odd == 0xaaaaaaaau ? 1 : 0) + (up == (lane == 0 ? 0 : lane - 1) ? 2 : 0) +
                   (of_half == 3 ? 4 : 0);
}
)";
  // The upper half names lane 3, which its mask does not have.
  const auto expected = [](int, int column) {
    const int first = column / 32 * 32;
    return static_cast<float>(32 * first + 31 * 16 + 3 + (column % 32 < 16 ? 4 : 0));
  };
  CHECK(what_goes_wrong({.source = source}, expected) == "");
  CHECK(mentions(what_goes_wrong({.source = replaced(source, "__syncwarp();", "")}, expected),
                 {"wrong: y["}));
  CHECK(mentions(
      what_goes_wrong({.source = replaced(source, "__syncwarp();", "if (lane > 7) __syncwarp();")},
                      expected),
      {"deadlock", "warp 0 lanes 0-7: __shfl_xor_sync for lanes 8-31",
       "warp 0 lanes 8-31: __syncwarp for lanes 0-7"}));
}

TEST_CASE("a vote of all threads, and partial warps") {
  const std::string source = R"(
extern "C" __global__ void __launch_bounds__(THREADS) run(const float* x, float* y, int columns) {
  const int thread = threadIdx.x;
  if (thread >= 90) return;  // who has left is not waited for
  const int even = __syncthreads_count(thread % 2 == 0);
  const int any = __syncthreads_or(thread == 77), all = __syncthreads_and(thread < 90);
  for (int i = thread; i < columns; i += 90) y[i] = even * 100 + any * 10 + all;
}
)";
  const SmallKernel kernel{.source = replaced(source, "THREADS", "100"), .block = "100"};
  CHECK(what_goes_wrong(kernel, [](int, int) { return 4511.0F; }) == "");
  SUBCASE("more threads than the launch bounds") {
    const SmallKernel more{.source = replaced(source, "THREADS", "96"), .block = "100"};
    CHECK(mentions(what_goes_wrong(more, {}), {"'run'", "its block has 100 threads"}));
  }
}

TEST_CASE("a barrier that not all reach is a deadlock with a report") {
  const std::string source = R"(
#include "ptx/mbarrier.cuh"
extern "C" __global__ void run(const float* x, float* y, int columns) {
  if (threadIdx.x < 64) named_barrier_sync(3, 96);
  __syncthreads();
}
)";
  CHECK(mentions(what_goes_wrong({.source = source}, {}),
                 {"deadlock", "block (0, 0, 0) warp 0 lanes 0-31: bar.sync: barrier 3 has 64 of 96",
                  "warp 2 lanes 0-31: __syncthreads: barrier 0 has 192 of 256 threads"}));
}

TEST_CASE("a part of a warp at a barrier") {
  const std::string source = R"(
#include "ptx/mbarrier.cuh"
extern "C" __global__ void run(const float* x, float* y, int columns) {
  if (threadIdx.x % 32 < 16) named_barrier_sync(1, 128); else named_barrier_sync(2, 128);
}
)";
  CHECK(mentions(what_goes_wrong({.source = source}, {}), {"with only some lanes", "of warp"}));
}

TEST_CASE("shared memory that nobody wrote, or that is not there") {
  const std::string source = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  extern __shared__ __align__(16) float values[];
  const int thread = threadIdx.x;
  values[thread] = x[thread];  // here
  y[thread] = values[thread AT];
}
)";
  const auto with = [&](const char* at) {
    return SmallKernel{.source = replaced(source, "AT", at), .shared_memory = "1024"};
  };
  const auto same = [](int, int column) { return static_cast<float>(column); };
  CHECK(what_goes_wrong(with(""), same) == "");
  CHECK(mentions(what_goes_wrong(with("^ 1"), same), {"wrong: y["}));
  SmallKernel beyond = with("");
  beyond.source = replaced(beyond.source, "// here", "if (thread == 0) values[256] = 1;");
  CHECK(mentions(what_goes_wrong(beyond, same),
                 {"wrote to shared memory at", "where no variable is"}));
  SmallKernel large = with("");
  large.shared_memory = "300000";
  CHECK(mentions(what_goes_wrong(large, same), {"300000 dynamically", "has 232448 a block"}));
}

TEST_CASE("what C++ leaves undefined") {
  const std::string source = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  const int thread = threadIdx.x;
  int values[4] = {1, 2, 3, 4};
  WRONG;
  y[thread] = values[thread % 4];
}
)";
  const auto expected = [](int, int column) { return static_cast<float>(column % 4 + 1); };
  const auto with = [&](const char* wrong) {
    return what_goes_wrong({.source = replaced(source, "WRONG", wrong)}, expected);
  };
  CHECK(with("") == "");
  CHECK(mentions(with("values[thread]++"), {"thread", "index outside of an array in line"}));
  CHECK(mentions(with("*reinterpret_cast<float4*>(y + thread) = make_float4(0, 0, 0, 0)"),
                 {"misaligned access"}));
  CHECK(mentions(with("values[0] = 1 << thread"), {"shift by as many bits"}));
  CHECK(mentions(with("values[0] = thread * 100000000"), {"product too large"}));
  CHECK(mentions(with("values[0] = 1 / (thread - 5)"), {"division by zero"}));
  CHECK(mentions(with("values[0] = *reinterpret_cast<int*>(16ull * thread + 64)"),
                 {"thread", "wild or misaligned access at 0x"}));
}

TEST_CASE("global memory outside of a tensor") {
  const std::string source = R"(
extern "C" __global__ void run(const float* x, float* y, int columns) {
  y[threadIdx.x] = x[threadIdx.x + SHIFT];
  if (threadIdx.x == 0) y[INDEX] = 0;
}
)";
  const auto expected = [](int, int column) { return static_cast<float>(column); };
  const auto with = [&](const char* shift, const char* index) {
    return what_goes_wrong({.source = replaced(replaced(source, "SHIFT", shift), "INDEX", index)},
                           expected);
  };
  CHECK(with("0", "0") == "");
  CHECK(mentions(with("0", "256"), {"wrote 0 bytes behind the end of an allocation of 1024"}));
  CHECK(mentions(with("0", "-1"), {"in front of an allocation of 1024 bytes"}));
  CHECK(mentions(with("1", "0"), {"wrong: y["}));
}

TEST_CASE("a block that waits for another one's flag") {
  const std::string source = R"(
extern "C" __global__ void __launch_bounds__(64, 2)
    run(const float* x, float* y, unsigned* flags) {
  const int block = blockIdx.x, thread = threadIdx.x;
  if (block > 0 && thread == 0)
    while (*reinterpret_cast<volatile unsigned*>(flags + block - 1) == 0) __nanosleep(20);
  __syncthreads();
  const float before = block > 0 ? __ldcg(y + (block - 1) * 64 + thread) : 0.0f;
  y[block * 64 + thread] = before + x[block * 64 + thread];
  __threadfence();
  __syncthreads();
  if (thread == 0) flags[block] = 1;
}
)";
  const SmallKernel kernel{
      .source = source, .block = "64", .grid = "4", .arguments = R"("x", "y", "counters")"};
  const auto expected = [](int, int column) {
    const int rows = column / 64 + 1;
    return static_cast<float>(rows * (column % 64) + 64 * rows * (rows - 1) / 2);
  };
  CHECK(what_goes_wrong(kernel, expected) == "");
  SmallKernel crowded = kernel;
  crowded.source = replaced(source, "(64, 2)", "(64, 1)");
  CHECK(mentions(what_goes_wrong(crowded, expected),
                 {"deadlock", "__nanosleep", "2 blocks have not begun: 2 fit on the device"}));
  SmallKernel never = kernel;
  never.source = replaced(source, "flags[block] = 1;", "flags[block + 8] = 1;");
  CHECK(mentions(what_goes_wrong(never, expected), {"deadlock", "__nanosleep, again and again"}));
}

TEST_CASE("a function with inline assembly and no emulation says so when it is called") {
  const std::string source = R"(
__device__ __forceinline__ int strange(int value) {
  int result;
  asm("frob.s32 %0, %1;" : "=r"(result) : "r"(value));
  return result;
}
extern "C" __global__ void run(const float* x, float* y, int columns) {
  if (USED) y[threadIdx.x] = strange(3);
  y[threadIdx.x] = 1;
}
)";
  const auto one = [](int, int) { return 1.0F; };
  CHECK(what_goes_wrong({.source = replaced(source, "USED", "columns == 0")}, one) == "");
  CHECK(mentions(what_goes_wrong({.source = replaced(source, "USED", "columns > 0")}, one),
                 {"strange has inline assembly and no emulation", "instructions.h"}));
}

}  // namespace
}  // namespace cudadent::emulator::tests
