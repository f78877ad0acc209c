// c = activation(a · bᵀ + bias) for bf16 and f16 on Hopper (sm_90a): a persistent grid in which one
// warp feeds a ring of shared-memory stages through the copy engine (TMA) and CONSUMERS warpgroups
// multiply them with wgmma.
//
//   SCHEDULE cooperative: the consumers share one BM×BN tile, each BM / CONSUMERS rows of it. They
//   do
//     not wait for each other, so one may store its part while another still multiplies.
//   SCHEDULE pingpong: a consumer has a BM×BN tile of its own and the ring serves them in turn, so
//   one
//     tile is stored while the next is multiplied.
//   CLUSTER_M, CLUSTER_N: two blocks take neighbouring tiles along m (or n); each loads half of the
//     operand that they share and multicasts it to both.
//   RASTER: how many clusters along m form a band; tiles are walked down a band, then along n, so
//   that
//     the blocks that run together touch few rows of a and of b, which the L2 cache then holds.
//
// Partial tiles need no care: TMA reads zeros outside a tensor and does not write there. Tiles that
// a cluster has beyond the edge are computed from zeros and dropped.
#include "ptx/cluster.cuh"
#include "ptx/math.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

namespace {

constexpr bool PINGPONG = SCHEDULE == SCHEDULE_kind::pingpong;
constexpr int CLUSTER = CLUSTER_M * CLUSTER_N;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int K_BLOCKS = ceil_div(k, BK);
constexpr int N_CLUSTERS = ceil_div(ceil_div(n, BN), CLUSTER_N);
constexpr bool B_IS_N_MAJOR = layout_b == layout_b_kind::kn;

// The rows of a tile that one warpgroup multiplies, 64 to an instruction.
constexpr int ROWS = PINGPONG ? BM : BM / CONSUMERS;
constexpr int ROW_STEPS = ROWS / 64;

// Registers a thread: a multiprocessor has 65536, and the producer needs few. With one consumer the
// cap at entry is already as high as it can be.
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 40 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 232 : 160;

// Shared memory: the stages of a, the stages of b, the buffers of c, the barriers. Every operand
// tile starts at a multiple of 1024 bytes, as the 128-byte swizzle needs.
constexpr int A_BYTES = BM * BK * static_cast<int>(sizeof(dtype));
constexpr int B_BYTES = BN * BK * static_cast<int>(sizeof(dtype));
constexpr int C_PITCH = C_BOX * static_cast<int>(sizeof(out_dtype));
constexpr int C_BUFFER_BYTES = 16 * C_PITCH;
constexpr int A_OFFSET = 0;
constexpr int B_OFFSET = A_OFFSET + STAGES * A_BYTES;
constexpr int C_OFFSET = B_OFFSET + STAGES * B_BYTES;
constexpr int BARRIER_OFFSET = C_OFFSET + C_BYTES;
static_assert(BARRIER_OFFSET + STAGES * 16 <= shared_bytes, "the manifest's shared memory");
static_assert(ROWS % 64 == 0 && BN % 16 == 0 && BK * sizeof(dtype) == 128);
static_assert(!PINGPONG || CONSUMERS > 1);
static_assert(!B_IS_N_MAJOR || BN % 64 == 0);

// A place in the ring: the stage, and the parity of the trip around it.
struct RingPosition {
  int stage = 0;
  u32 parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  // The same as calling advance() COUNT times.
  template <int COUNT>
  __device__ __forceinline__ void skip() {
    stage += COUNT % STAGES;
    parity ^= (COUNT / STAGES) & 1;
    if (stage >= STAGES) {
      stage -= STAGES;
      parity ^= 1;
    }
  }
};

// The first row and column of this block's tile of the cluster's `index`-th piece of work.
struct TileOrigin {
  int row, column;

  __device__ __forceinline__ TileOrigin(int index, int m_clusters, int rank) {
    const int band = index / (RASTER * N_CLUSTERS);
    const int within = index - band * (RASTER * N_CLUSTERS);
    const int first = band * RASTER;
    const int height = min(RASTER, m_clusters - first);
    const int along_n = within / height;
    const int along_m = first + within - along_n * height;
    row = (along_m * CLUSTER_M + (CLUSTER_M > 1 ? rank : 0)) * BM;
    column = (along_n * CLUSTER_N + (CLUSTER_N > 1 ? rank : 0)) * BN;
  }
};

// Runs in one thread: fills a stage with the k-th blocks of the tile's rows of a and b.
__device__ __forceinline__ void load_stage(const TensorMap& a_map, const TensorMap& b_map,
                                           u32 shared, int stage, u32 full, TileOrigin tile,
                                           int k_block, int rank) {
  constexpr u16 ALL_BLOCKS = (1 << CLUSTER) - 1;
  const int k_start = k_block * BK;
  const u32 a_stage = shared + A_OFFSET + stage * A_BYTES;
  const u32 b_stage = shared + B_OFFSET + stage * B_BYTES;

  if constexpr (CLUSTER_N > 1) {  // The blocks share rows of a: each loads its half of them.
    constexpr int SHARE = BM / CLUSTER_N;
    tma_load_2d_multicast(a_stage + rank * (A_BYTES / CLUSTER_N), &a_map, full, k_start,
                          tile.row + rank * SHARE, ALL_BLOCKS);
  } else {
    tma_load_2d(a_stage, &a_map, full, k_start, tile.row);
  }

  if constexpr (B_IS_N_MAJOR) {  // One box for every 64 columns; a share of each is some rows of k.
    constexpr int SHARE = BK / CLUSTER_M;
#pragma unroll
    for (int i = 0; i < BN / 64; ++i) {
      const u32 box = b_stage + i * (BK * 128);
      if constexpr (CLUSTER_M > 1) {
        tma_load_2d_multicast(box + rank * (SHARE * 128), &b_map, full, tile.column + i * 64,
                              k_start + rank * SHARE, ALL_BLOCKS);
      } else {
        tma_load_2d(box, &b_map, full, tile.column + i * 64, k_start);
      }
    }
  } else if constexpr (CLUSTER_M > 1) {
    constexpr int SHARE = BN / CLUSTER_M;
    tma_load_2d_multicast(b_stage + rank * (B_BYTES / CLUSTER_M), &b_map, full, k_start,
                          tile.column + rank * SHARE, ALL_BLOCKS);
  } else {
    tma_load_2d(b_stage, &b_map, full, k_start, tile.column);
  }
}

// Adds the bias and applies the activation to two neighbouring columns.
__device__ __forceinline__ void finish(float& low, float& high, u32 bias_pair) {
  if constexpr (has_bias) {
    low += unpack_low<dtype>(bias_pair);
    high += unpack_high<dtype>(bias_pair);
  }
  low = activate(activation, low);
  high = activate(activation, high);
}

// The two elements of the bias from `column`, which is even, as is n.
__device__ __forceinline__ u32 load_bias(const dtype* bias, int column) {
  if constexpr (has_bias) {
    return column < n ? __ldg(reinterpret_cast<const unsigned int*>(bias + column)) : 0;
  }
  return 0;
}

// Stores the 16 rows of a warp, from `row`, as 16-bit floats: a box of C_BOX columns at a time goes
// through a buffer in shared memory to the copy engine. `buffer` alternates between two, so that
// one is filled while the other is read. Only this warp uses them, and no other barrier is needed.
template <typename OUT>
__device__ __forceinline__ void store_rows(const TensorMap& c_map, const dtype* bias, u32 buffers,
                                           int& buffer, float (&accumulators)[BN / 2], int row,
                                           int column, int m) {
  if (row >= m) return;
  const int lane = lane_index();
  // Row and 16-byte column that this lane addresses for stmatrix: lanes 0-15 the left 8 columns of
  // 16 rows, lanes 16-31 the right 8. The swizzle exchanges 16-byte columns within 128, 64 or 32
  // bytes by the address bits from 7 up.
  const int box_row = lane % 16;
  const int half = lane / 16;
  constexpr int COLUMNS_16B = C_PITCH / 16;
  const int exchange = (box_row * C_PITCH / 128) % COLUMNS_16B;

#pragma unroll
  for (int box = 0; box < BN / C_BOX; ++box) {
    const int box_column = column + box * C_BOX;
    if (box_column >= n) return;
    const u32 destination = buffers + buffer * C_BUFFER_BYTES;
    buffer ^= 1;
    if (lane == 0) tma_wait_group_read<1>();
    __syncwarp();
#pragma unroll
    for (int j = 0; j < C_BOX / 16; ++j) {
      float* d = accumulators + (box * C_BOX + j * 16) / 2;
      u32 packed[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const u32 pair = load_bias(bias, box_column + j * 16 + i * 8 + lane % 4 * 2);
        finish(d[4 * i], d[4 * i + 1], pair);
        finish(d[4 * i + 2], d[4 * i + 3], pair);
        packed[2 * i] = pack2<OUT>(d[4 * i], d[4 * i + 1]);
        packed[2 * i + 1] = pack2<OUT>(d[4 * i + 2], d[4 * i + 3]);
      }
      stmatrix_x4(destination + box_row * C_PITCH + ((2 * j + half) ^ exchange) * 16, packed[0],
                  packed[1], packed[2], packed[3]);
    }
    async_proxy_fence();
    __syncwarp();
    if (lane == 0) {
      tma_store_2d(&c_map, destination, box_column, row);
      tma_commit_group();
    }
  }
}

// The same as f32, straight from registers: four lanes write 32 neighbouring bytes.
template <typename OUT>
__device__ __forceinline__ void store_rows_f32(OUT* c, const dtype* bias,
                                               float (&accumulators)[BN / 2], int row, int column,
                                               int m) {
  const int lane = lane_index();
  const int upper = row + lane / 4;
  const int first = column + lane % 4 * 2;
  OUT* address = c + static_cast<i64>(upper) * n + first;
#pragma unroll
  for (int j = 0; j < BN / 8; ++j) {
    float* d = accumulators + 4 * j;
    const u32 pair = load_bias(bias, first + j * 8);
    finish(d[0], d[1], pair);
    finish(d[2], d[3], pair);
    if (first + j * 8 < n) {
      if (upper < m) *reinterpret_cast<float2*>(address + j * 8) = make_float2(d[0], d[1]);
      if (upper + 8 < m) {
        *reinterpret_cast<float2*>(address + 8 * n + j * 8) = make_float2(d[2], d[3]);
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    gemm(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
         const __grid_constant__ TensorMap c_map, const dtype* bias, out_dtype* c, int m) {
  extern __shared__ __align__(1024) u8 shared_memory[];
  const u32 shared = shared_address(shared_memory);
  const u32 full_barriers = shared + BARRIER_OFFSET;
  const u32 empty_barriers = full_barriers + STAGES * 8;

  const int warp = warp_index();
  const int warpgroup = warp / 4;
  const int rank = CLUSTER > 1 ? cluster_rank() : 0;

  if (threadIdx.x == 0) {
    tma_prefetch_map(&a_map);
    tma_prefetch_map(&b_map);
    tma_prefetch_map(&c_map);
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(full_barriers + 8 * i, 1);
      // A stage is empty when its readers in every block that it is multicast to are done.
      mbarrier_init(empty_barriers + 8 * i, CLUSTER * (PINGPONG ? 1 : CONSUMERS));
    }
    mbarrier_init_fence();
  }
  if constexpr (CLUSTER > 1) {
    cluster_sync();
  } else {
    __syncthreads();
  }

  const int m_clusters = ceil_div(ceil_div(m, BM), CLUSTER_M);
  const int work = m_clusters * N_CLUSTERS;
  const int first_work = static_cast<int>(blockIdx.x) / CLUSTER;
  const int work_step = static_cast<int>(gridDim.x) / CLUSTER;

  if (warpgroup == 0) {
    if constexpr (CONSUMERS > 1) registers_decrease<PRODUCER_REGISTERS>();
    if (warp == 0 && lane_index() == 0) {
      RingPosition ring;
      for (int index = first_work; index < work; index += work_step) {
        const TileOrigin tile(index, m_clusters, rank);
#pragma unroll 1
        for (int k_block = 0; k_block < K_BLOCKS; ++k_block) {
          const u32 full = full_barriers + 8 * ring.stage;
          mbarrier_wait(empty_barriers + 8 * ring.stage, ring.parity ^ 1);
          mbarrier_arrive_expect_bytes(full, A_BYTES + B_BYTES);
          load_stage(a_map, b_map, shared, ring.stage, full, tile, k_block, rank);
          ring.advance();
        }
      }
    }
    __syncwarp();
  } else {
    if constexpr (CONSUMERS > 1) registers_increase<CONSUMER_REGISTERS>();
    const int consumer = warpgroup - 1;
    const int thread = static_cast<int>(threadIdx.x) % 128;
    const int first_row = (PINGPONG ? 0 : consumer * ROWS) + warp % 4 * 16;
    const u32 store_buffers = shared + C_OFFSET + (warp - 4) * (2 * C_BUFFER_BYTES);
    int store_buffer = 0;

    // Descriptors of stage 0; later stages are a constant distance on.
    const u64 a_descriptor =
        wgmma_descriptor_128b(shared + A_OFFSET + (PINGPONG ? 0 : consumer * ROWS * 128), 16, 1024);
    const u64 b_descriptor =
        wgmma_descriptor_128b(shared + B_OFFSET, B_IS_N_MAJOR ? BK * 128 : 16, 1024);
    constexpr int B_STEP = B_IS_N_MAJOR ? 16 * 128 : 32;  // Bytes to the next 16 of k.

    // One thread a block of the cluster tells that block's producer that a stage has been read.
    const u32 empty_of_peer =
        CLUSTER > 1 ? cluster_address(empty_barriers, thread % CLUSTER) : empty_barriers;
    auto release = [&](int stage) {
      if (thread < CLUSTER) {
        if constexpr (CLUSTER > 1) {
          mbarrier_arrive_cluster(empty_of_peer + 8 * stage);
        } else {
          mbarrier_arrive(empty_of_peer + 8 * stage);
        }
      }
    };

    RingPosition ring;
    int index = first_work;
    if constexpr (PINGPONG) {
      for (int i = 0; i < consumer; ++i) ring.skip<K_BLOCKS>();
      index += consumer * work_step;
    }

    float accumulators[ROW_STEPS][BN / 2];
    for (; index < work; index += PINGPONG ? CONSUMERS * work_step : work_step) {
      if constexpr (K_BLOCKS == 0) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS * BN / 2; ++i) accumulators[i / (BN / 2)][i % (BN / 2)] = 0;
      }
      int unreleased = 0;  // The stage that the wgmma group still in flight reads.
#pragma unroll 1
      for (int k_block = 0; k_block < K_BLOCKS; ++k_block) {
        mbarrier_wait(full_barriers + 8 * ring.stage, ring.parity);
        const u64 a_stage = wgmma_advance(a_descriptor, ring.stage * A_BYTES);
        const u64 b_stage = wgmma_advance(b_descriptor, ring.stage * B_BYTES);
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(accumulators[i]);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < BK / 16; ++step) {
#pragma unroll
          for (int i = 0; i < ROW_STEPS; ++i) {
            wgmma<dtype, BN, B_IS_N_MAJOR>(
                accumulators[i], wgmma_advance(a_stage, i * 64 * 128 + step * 32),
                wgmma_advance(b_stage, step * B_STEP), step > 0 ? 1 : k_block);
          }
        }
        wgmma_commit_group();
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(accumulators[i]);
        if constexpr (IN_FLIGHT == 0) {
          wgmma_wait_group<0>();
          release(ring.stage);
        } else {
          wgmma_wait_group<1>();
          if (k_block > 0) release(unreleased);
          unreleased = ring.stage;
        }
        ring.advance();
      }
      if constexpr (IN_FLIGHT > 0 && K_BLOCKS > 0) {
        wgmma_wait_group<0>();
        release(unreleased);
      }
#pragma unroll
      for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(accumulators[i]);
      if constexpr (PINGPONG) ring.skip<K_BLOCKS*(CONSUMERS - 1)>();

      const TileOrigin tile(index, m_clusters, rank);
#pragma unroll
      for (int i = 0; i < ROW_STEPS; ++i) {
        const int row = tile.row + first_row + i * 64;
        if constexpr (is_16bit_float<out_dtype>) {
          store_rows<out_dtype>(c_map, bias, store_buffers, store_buffer, accumulators[i], row,
                                tile.column, m);
        } else {
          store_rows_f32<out_dtype>(c, bias, accumulators[i], row, tile.column, m);
        }
      }
    }
    // The buffers must outlive the copies that read them.
    if (lane_index() == 0) tma_wait_group<0>();
    __syncwarp();
  }
  // A block must not leave while the other may still arrive on its barriers.
  if constexpr (CLUSTER > 1) cluster_sync();
}
