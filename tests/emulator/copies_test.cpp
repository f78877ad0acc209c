// Copies that run on their own, mbarriers and clusters: waits that are missing or wrong must show.

#include <doctest/doctest.h>

#include "tests/emulator/small_kernel.h"
#include "tests/support/errors.h"
#include "tests/support/text.h"

namespace cudadent::emulator::tests {
namespace {

using cudadent::tests::mentions;
using cudadent::tests::replaced;

float same(int, int column) { return static_cast<float>(column); }
float same_of_64(int row, int column) { return static_cast<float>(64 * row + column); }

// ------------------------------------------------------------------------------- cp.async

const std::string copying = R"(
#include "ptx/async_copy.cuh"
extern "C" __global__ void run(const float* x, float* y, int columns) {
  __shared__ __align__(16) float values[2][64];
  const int thread = threadIdx.x;
  const u32 shared = shared_address(values);
  if (thread < 16) copy_async_16(shared + 16 * thread, x + 4 * thread, true);
  copy_async_commit();
  for (int i = 0; i < 4; ++i) {
    if (i + 1 < 4 && thread < 16)
      copy_async_16(shared + 256 * ((i + 1) % 2) + 16 * thread, x + 64 * (i + 1) + 4 * thread, true);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    y[64 * i + thread] = values[i % 2][63 - thread];
    __syncthreads();  // before the next copy
  }
}
)";
float reversed_64(int, int column) {
  return static_cast<float>(column / 64 * 64 + 63 - column % 64);
}

TEST_CASE(
    "cp.async: the wait, the barrier behind it, and the one before the memory is used again") {
  const auto with = [](const std::string& source) {
    return what_goes_wrong({.source = source, .block = "64"}, reversed_64);
  };
  CHECK(with(copying) == "");
  CHECK(mentions(with(replaced(copying, "copy_async_wait<1>();", "")), {"wrong: y["}));
  CHECK(mentions(with(replaced(copying, "copy_async_wait<1>();", "copy_async_wait<2>();")),
                 {"wrong: y["}));
  CHECK(mentions(with(replaced(copying, "__syncthreads();", "")), {"wrong: y["}));
  CHECK(mentions(with(replaced(copying, "__syncthreads();  // before", "//")), {"wrong: y["}));
  CHECK(mentions(with(replaced(copying, "x + 4 * thread, true", "x + 4 * thread + 1, true")),
                 {"cp.async from", "not a multiple of 16"}));
  CHECK(mentions(with(replaced(copying, "x + 64 * (i + 1)", "x + 65 * 64 * (i + 1)")),
                 {"cp.async of 16 bytes", "not all in one allocation"}));
  CHECK(mentions(with(replaced(copying, "shared + 16 * thread", "shared + 8 * thread")),
                 {"cp.async at", "not a multiple of 16"}));
}

// ------------------------------------------------------------------------------- TMA

// Boxes of 8 rows of 64 f32, in two halves of 128 bytes: a ring of two stages, one thread feeding it.
const std::string loading = R"(
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
extern "C" __global__ void run(const __grid_constant__ TensorMap x_map, float* y) {
  extern __shared__ __align__(1024) u8 memory[];
  const u32 shared = shared_address(memory), full = shared + 4096, empty = full + 16;
  const int thread = threadIdx.x;
  if (thread == 0) {
    for (int i = 0; i < 2; ++i) {
      mbarrier_init(full + 8 * i, 1);
      mbarrier_init(empty + 8 * i, 64);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (thread == 64) {
    for (int i = 0; i < 4; ++i) {
      mbarrier_wait(empty + 8 * (i % 2), (i / 2 & 1) ^ 1);
      mbarrier_arrive_expect_bytes(full + 8 * (i % 2), 2048);
      for (int half = 0; half < 2; ++half)
        tma_load_2d(shared + 2048 * (i % 2) + 1024 * half, &x_map, full + 8 * (i % 2), 32 * half,
                    8 * i);
    }
  } else if (thread < 64) {
    for (int i = 0; i < 4; ++i) {
      mbarrier_wait(full + 8 * (i % 2), i / 2 & 1);
      const u8* stage = memory + 2048 * (i % 2) + 1024 * (thread / 32);
      for (int row = 0; row < 8; ++row) {
        const int chunk = thread % 32 / 4 ^ row;
        y[(8 * i + row) * 64 + thread] =
            *reinterpret_cast<const float*>(stage + 128 * row + 16 * chunk + thread % 4 * 4);
      }
      mbarrier_arrive(empty + 8 * (i % 2));
    }
  }
}
)";

SmallKernel load_kernel(const std::string& source) {
  return {
      .source = source,
      .rows = 32,
      .columns = 64,
      .block = "96",
      .shared_memory = "4096 + 32",
      .arguments = R"("x_map", "y")",
      .maps =
          R"("x_map": { "tensor": "x", "dims": ["columns", "rows"], "box": [32, 8], "swizzle": 128 })"};
}

TEST_CASE("tensor loads: a ring of stages, and mistakes with it") {
  const auto with = [](std::string_view what, std::string_view by) {
    return what_goes_wrong(load_kernel(replaced(loading, what, by)), same_of_64);
  };
  CHECK(what_goes_wrong(load_kernel(loading), same_of_64) == "");
  // Whatever it is that goes wrong then:
  CHECK(with("mbarrier_wait(full + 8 * (i % 2), i / 2 & 1);", "") != "");
  CHECK(with("mbarrier_wait(full + 8 * (i % 2), i / 2 & 1);",
             "mbarrier_wait(full + 8 * (i % 2), i / 2 & 1 ^ 1);") != "");
  CHECK(mentions(with("(i / 2 & 1) ^ 1", "i / 2 & 1"), {"deadlock", "the mbarrier at"}));
  CHECK(mentions(with("mbarrier_wait(empty + 8 * (i % 2), (i / 2 & 1) ^ 1);", ""),
                 {"more arrivals than the 1 that the mbarrier at"}));
  CHECK(mentions(with("mbarrier_arrive(empty + 8 * (i % 2));",
                      "if (thread > 0) mbarrier_arrive(empty + 8 * (i % 2));"),
                 {"deadlock", "lacks 1 of 64 arrivals and 0 bytes"}));
  CHECK(mentions(with(", 2048);", ", 4096);"), {"lacks 0 of 1 arrivals and 2048 bytes"}));
  CHECK(mentions(with(", 2048);", ", 1024);"), {"exits while the mbarrier at", "waits for -"}));
  CHECK(
      mentions(with("mbarrier_init_fence();", ""), {"tma_load_2d", "without mbarrier_init_fence"}));
  CHECK(mentions(with("__syncthreads();", ""), {"which was not initialised, or overwritten"}));
  CHECK(mentions(with("thread % 32 / 4 ^ row", "thread % 32 / 4"), {"wrong: y["}));
  CHECK(mentions(with("2048 * (i % 2) + 1024 * half", "2048 * (i % 2) + 1024 * half + 64"),
                 {"tma_load_2d at", "not a multiple of 128"}));
  CHECK(mentions(with("2048 * (i % 2) + 1024 * half", "2048 * (i % 2) + 4096 * half"),
                 {"tma_load_2d of 1024 bytes of shared memory at"}));
  CHECK(mentions(with("TensorMap x_map, float* y", "TensorMap x_map, float* y, int more"),
                 {"it has more parameters than the manifest's 2"}));
  CHECK(mentions(with("} else if (thread < 64) {", "} else if (false) {"),
                 {"deadlock", "the mbarrier at"}));
}

TEST_CASE("a block must not exit while its shared memory is written") {
  const std::string source = R"(
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
extern "C" __global__ void run(const __grid_constant__ TensorMap x_map, float* y) {
  __shared__ __align__(128) float box[256];
  __shared__ __align__(8) u64 barrier;
  const u32 full = shared_address(&barrier);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect_bytes(full, 1024);
    tma_load_2d(shared_address(box), &x_map, full, 0, 0);
    mbarrier_wait(full, 0);
  }
  for (int i = threadIdx.x; i < 2048; i += 96) y[i] = 1;
}
)";
  const auto one = [](int, int) { return 1.0F; };
  CHECK(what_goes_wrong(load_kernel(source), one) == "");
  CHECK(mentions(what_goes_wrong(load_kernel(replaced(source, "mbarrier_wait(full, 0);", "")), one),
                 {"block (0, 0, 0) exits while"}));
}

TEST_CASE("elements outside of a tensor read as zeros, and are not written") {
  // Boxes begin in front of the tensor and reach behind it: what comes out is shifted by them.
  const std::string source = R"(
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
extern "C" __global__ void run(const __grid_constant__ TensorMap x_map,
                               const __grid_constant__ TensorMap y_map) {
  __shared__ __align__(128) float box[8][12];
  __shared__ __align__(8) u64 barrier;
  const u32 full = shared_address(&barrier);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
    for (int part = 0; part < 2; ++part) {
      mbarrier_arrive_expect_bytes(full, 8 * 12 * 4);
      tma_load_2d(shared_address(box), &x_map, full, part == 0 ? -4 : 8, part == 0 ? -2 : 5);
      mbarrier_wait(full, part);
      box[part == 0 ? 2 : 0][part == 0 ? 4 : 0] += 100;
      async_proxy_fence();
      tma_store_2d(&y_map, shared_address(box), part == 0 ? -4 : 8, part == 0 ? -2 : 5);
      tma_commit_group();
      tma_wait_group_read<0>();
    }
    tma_wait_group<0>();
  }
}
)";
  const SmallKernel kernel{
      .source = source,
      .rows = 7,
      .columns = 12,
      .block = "32",
      .arguments = R"("x_map", "y_map")",
      .maps = R"("x_map": { "tensor": "x", "dims": ["columns", "rows"], "box": [12, 8] },
                 "y_map": { "tensor": "y", "dims": ["columns", "rows"], "box": [12, 8] })"};
  SmallOperator op(kernel);
  for (std::uint64_t seed = 0; seed < schedules; ++seed) {
    const auto y = op.run(seed);
    for (int row = 0; row < 7; ++row)
      for (int column = 0; column < 12; ++column) {
        const float value = y[static_cast<std::size_t>(12 * row + column)];
        const bool first = row < 6 && column < 8, second = row >= 5 && column >= 8;
        const bool marked = (row == 0 && column == 0) || (row == 5 && column == 8);
        if (first || second)
          CHECK(value == static_cast<float>(12 * row + column + (marked ? 100 : 0)));
        else
          CHECK(value != value);
      }
  }
}

// Every warp stores its 8 rows through its own buffer, in two boxes.
const std::string storing = R"(
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"
extern "C" __global__ void run(const float* x, const __grid_constant__ TensorMap y_map) {
  __shared__ __align__(128) float buffers[4][8][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto& buffer = buffers[warp];
  for (int half = 0; half < 2; ++half) {
    if (lane == 0) tma_wait_group_read<0>();
    __syncwarp();
    for (int row = 0; row < 8; ++row) buffer[row][lane] = x[(8 * warp + row) * 64 + 32 * half + lane];
    async_proxy_fence();
    __syncwarp();  // all have written
    if (lane == 0) {
      tma_store_2d(&y_map, shared_address(buffer), 32 * half, 8 * warp);
      tma_commit_group();
    }
  }
  if (lane == 0) tma_wait_group<0>();
}
)";

TEST_CASE("tensor stores: memory may be written again when it has been read") {
  const auto with = [](std::string_view what, std::string_view by) {
    return what_goes_wrong(
        {.source = replaced(storing, what, by),
         .rows = 32,
         .columns = 64,
         .block = "128",
         .arguments = R"("x", "y_map")",
         .maps = R"("y_map": { "tensor": "y", "dims": ["columns", "rows"], "box": [32, 8] })"},
        same_of_64);
  };
  CHECK(with("all have written", "") == "");
  CHECK(mentions(with("if (lane == 0) tma_wait_group_read<0>();", ""), {"wrong: y["}));
  CHECK(mentions(with("if (lane == 0) tma_wait_group_read<0>();\n    __syncwarp();",
                      "if (lane == 0) tma_wait_group_read<0>();"),
                 {"wrong: y["}));
  CHECK(mentions(with("__syncwarp();  // all", "//"), {"wrong: y["}));
  CHECK(mentions(with("if (lane == 0) tma_wait_group<0>();", ""),
                 {"exits while tma_store_2d may still read its shared memory"}));
  CHECK(mentions(with("if (lane == 0) tma_wait_group<0>();", "if (lane == 1) tma_wait_group<0>();"),
                 {"exits while tma_store_2d may still read its shared memory"}));
}

TEST_CASE("what stmatrix wrote needs a fence before a tensor store") {
  const std::string source = R"(
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"
extern "C" __global__ void run(const float* x, const __grid_constant__ TensorMap y_map) {
  __shared__ __align__(128) float buffer[8][16];
  const int lane = threadIdx.x;
  // Four matrices of 8 by 8 16-bit halves: 8 rows of 16 f32, whose halves are what stmatrix stores.
  u32 values[4];
  for (int i = 0; i < 4; ++i) values[i] = __float_as_uint(x[lane / 4 * 16 + i * 4 + lane % 4]);
  stmatrix_x4(shared_address(&buffer[lane % 8][lane / 8 * 4]), values[0], values[1], values[2],
              values[3]);
  async_proxy_fence();
  __syncwarp();
  if (lane == 0) {
    tma_store_2d(&y_map, shared_address(buffer), 0, 0);
    tma_commit_group();
    tma_wait_group<0>();
  }
}
)";
  SmallKernel kernel{
      .source = source,
      .rows = 8,
      .columns = 16,
      .block = "32",
      .arguments = R"("x", "y_map")",
      .maps = R"("y_map": { "tensor": "y", "dims": ["columns", "rows"], "box": [16, 8] })"};
  const auto same_of_16 = [](int row, int column) { return static_cast<float>(16 * row + column); };
  CHECK(what_goes_wrong(kernel, same_of_16) == "");
  kernel.source = replaced(source, "async_proxy_fence();", "");
  CHECK(mentions(what_goes_wrong(kernel, same_of_16),
                 {"tma_store_2d reads shared memory at", "without an async_proxy_fence"}));
}

// ------------------------------------------------------------------------------- clusters

// Each block of a pair loads half of the rows into both, and y comes from the other's memory.
const std::string sharing = R"(
#include "ptx/cluster.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
extern "C" __global__ void run(const __grid_constant__ TensorMap x_map, float* y) {
  __shared__ __align__(128) float rows[2][4][32];
  __shared__ __align__(8) u64 barrier;
  const int rank = cluster_rank(), thread = threadIdx.x;
  const u32 full = shared_address(&barrier);
  if (thread == 0) {
    mbarrier_init(full, 1);
    mbarrier_init_fence();
  }
  cluster_sync();
  if (thread == 0) {
    mbarrier_arrive_expect_bytes(full, 1024);
    tma_load_2d_multicast(shared_address(rows[rank]), &x_map, full, 0, 4 * rank, 3);
  }
  mbarrier_wait(full, 0);
  cluster_sync();  // the other one has all of it too
  const u32 there = cluster_address(shared_address(rows[rank][0]) + 16 * thread, rank ^ 1);
  const float4 four = cluster_load_f32x4(there);
  *reinterpret_cast<float4*>(y + rank * 128 + 4 * thread) = four;
  cluster_sync();  // nobody reads here any more
}
)";

TEST_CASE("clusters: multicast, the other block's memory, and leaving too early") {
  const auto with = [](std::string_view what, std::string_view by) {
    return what_goes_wrong(
        {.source = replaced(sharing, what, by),
         .rows = 8,
         .columns = 32,
         .block = "32",
         .grid = "2",
         .cluster = "2",
         .arguments = R"("x_map", "y")",
         .maps = R"("x_map": { "tensor": "x", "dims": ["columns", "rows"], "box": [32, 4] })"},
        [](int row, int column) { return static_cast<float>(32 * row + column); });
  };
  CHECK(with("nobody reads", "") == "");
  CHECK(mentions(with("cluster_sync();  // nobody", "//"),
                 {"ld.shared::cluster", "of the shared memory of block", "which has exited"}));
  CHECK(mentions(with("cluster_sync();  // the other", "//"), {"wrong: y["}));
  CHECK(
      mentions(with("  cluster_sync();\n  if", "  if"), {"of the mbarrier at", "not initialised"}));
  CHECK(
      mentions(with("0, 4 * rank, 3);", "0, 4 * rank, 7);"), {"to blocks 0x7 of a cluster of 2"}));
  CHECK(mentions(with("rank ^ 1)", "rank + 1)"), {"mapa of block 2 of a cluster of 2"}));
  CHECK(mentions(with("  mbarrier_wait(full, 0);\n", "  cluster_arrive();\n"),
                 {"barrier.cluster.arrive twice"}));
}

TEST_CASE("registers of warpgroups") {
  const std::string source = R"(
#include "ptx/wgmma.cuh"
extern "C" __global__ void __launch_bounds__(384, 1) run(const float* x, float* y, int columns) {
  if (threadIdx.x < 128) registers_decrease<24>(); else registers_increase<240>();
  if (threadIdx.x < 256) y[threadIdx.x] = x[threadIdx.x];
}
)";
  CHECK(what_goes_wrong({.source = source, .block = "384"}, same) == "");
  CHECK(mentions(
      what_goes_wrong({.source = replaced(source, "<240>", "<248>"), .block = "384"}, same),
      {"deadlock", "setmaxnreg.inc to 248"}));
}

}  // namespace
}  // namespace cudadent::emulator::tests
