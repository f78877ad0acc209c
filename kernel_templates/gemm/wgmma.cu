// c = activation(a · bᵀ + bias) for bf16 and f16 on Hopper (sm_90a): a persistent grid in which one
// warp feeds a ring of shared-memory stages through the copy engine (TMA) and CONSUMERS warpgroups
// multiply them with wgmma.
//
//   SCHEDULE cooperative: the consumers share one BM×BN tile, each BM / CONSUMERS rows of it. They
//     do not wait for each other, so one may store its part while another still multiplies.
//   SCHEDULE pingpong: a consumer has a BM×BN tile of its own and the ring serves them in turn, so
//     one tile is stored while the next is multiplied.
//   CLUSTER_M, CLUSTER_N: two blocks take neighbouring tiles along m (or n); each loads half of the
//     operand that they share and multicasts it to both.
//   CLUSTER_K: as many blocks split k between them, exchange their sums through each other's shared
//     memory, and each finishes some columns. For few tiles and a long k. A device holds fewer
//     clusters of 4 or 8 than its multiprocessors would make: an H200 30 of 4 and 15 of 8.
//   RASTER: how many clusters along m form a band. Tiles are walked down a band, then along n, so
//     that blocks which run together touch few rows of a and of b, and the L2 cache holds them.
//   IN_FLIGHT: how many groups of wgmma are unfinished while the next stage is waited for.
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
constexpr int MULTICAST = CLUSTER_M * CLUSTER_N;  // Blocks that share operands.
constexpr bool SPLIT = CLUSTER_K > 1;
constexpr int CLUSTER = MULTICAST * CLUSTER_K;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int ALL_K_BLOCKS = ceil_div(k, BK);
// Of one block of the cluster, at most.
constexpr int K_BLOCKS = ceil_div(ALL_K_BLOCKS, CLUSTER_K);
constexpr int N_CLUSTERS = ceil_div(ceil_div(n, BN), CLUSTER_N);
constexpr bool B_IS_N_MAJOR = layout_b == layout_b_kind::kn;

// The rows of a tile that one warpgroup multiplies, 64 to an instruction.
constexpr int ROWS = PINGPONG ? BM : BM / CONSUMERS;
constexpr int ROW_STEPS = ROWS / 64;

// Registers a thread: a multiprocessor has 65536, and the producer needs few. With one consumer the
// cap at entry is already as high as it can be.
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;

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
static_assert(!SPLIT || (MULTICAST == 1 && !PINGPONG && BN % (8 * CLUSTER_K) == 0));
static_assert(!SPLIT || (CLUSTER_K - 1) * K_BLOCKS < ALL_K_BLOCKS, "every block has some of k");
static_assert(!SPLIT || BM * BN * 4 <= C_OFFSET, "partial sums fit in the ring");
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
  constexpr u16 ALL_BLOCKS = (1 << MULTICAST) - 1;
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
// through a buffer in shared memory to the copy engine. With two buffers, `buffer` alternates
// between them and one is filled while the other is read. Only this warp uses them: no other
// barrier is needed.
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
    if constexpr (STORE_BUFFERS > 1) buffer ^= 1;
    if (lane == 0) tma_wait_group_read<STORE_BUFFERS - 1>();
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

// The number of k blocks that the block of this rank multiplies.
__device__ __forceinline__ int k_blocks_of(int rank) {
  return SPLIT ? min(K_BLOCKS, ALL_K_BLOCKS - rank * K_BLOCKS) : K_BLOCKS;
}

template <typename OUT>
__device__ __forceinline__ void store_pair(OUT* address, float low, float high) {
  if constexpr (is_16bit_float<OUT>) {
    *reinterpret_cast<u32*>(address) = pack2<OUT>(low, high);
  } else {
    *reinterpret_cast<float2*>(address) = make_float2(low, high);
  }
}

// Stores an 8 by 8 piece of the accumulator and the one 8 rows below it straight from registers: four
// lanes write neighbouring elements. `row` and `column` are of the lane's first element.
template <typename OUT>
__device__ __forceinline__ void store_piece(OUT* c, const dtype* bias, float d0, float d1, float d2,
                                            float d3, int row, int column, int m) {
  if (column >= n) return;
  const u32 pair = load_bias(bias, column);
  finish(d0, d1, pair);
  finish(d2, d3, pair);
  OUT* address = c + static_cast<i64>(row) * n + column;
  if (row < m) store_pair(address, d0, d1);
  if (row + 8 < m) store_pair(address + 8 * n, d2, d3);
}

// The 16 rows of a warp from `row`, straight from registers.
template <typename OUT>
__device__ __forceinline__ void store_rows_directly(OUT* c, const dtype* bias,
                                                    float (&accumulators)[BN / 2], int row,
                                                    int column, int m) {
  const int lane = lane_index();
#pragma unroll
  for (int j = 0; j < BN / 8; ++j) {
    float* d = accumulators + 4 * j;
    store_piece(c, bias, d[0], d[1], d[2], d[3], row + lane / 4, column + j * 8 + lane % 4 * 2, m);
  }
}

// Partial sums lie in the ring as 16-byte pieces: four accumulators of a thread are those of 8 columns
// of the tile. `slot` counts the 64-row steps of the whole tile.
__device__ __forceinline__ u32 partial_address(u32 shared, int slot, int columns_8, int thread) {
  return shared + ((slot * (BN / 8) + columns_8) * 128 + thread) * 16;
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
      mbarrier_init(empty_barriers + 8 * i, MULTICAST * (PINGPONG ? 1 : CONSUMERS));
    }
    mbarrier_init_fence();
  }
  if constexpr (CLUSTER > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }

  const int m_clusters = ceil_div(ceil_div(m, BM), CLUSTER_M);
  const int work = m_clusters * N_CLUSTERS;
  const int first_work = static_cast<int>(blockIdx.x) / CLUSTER;
  const int work_step = static_cast<int>(gridDim.x) / CLUSTER;
  const int k_blocks = k_blocks_of(rank);

  if (warpgroup == 0) {
    if constexpr (CONSUMERS > 1) registers_decrease<PRODUCER_REGISTERS>();
    if (warp == 0 && lane_index() == 0) {
      RingPosition ring;
      for (int index = first_work; index < work; index += work_step) {
        const TileOrigin tile(index, m_clusters, rank);
#pragma unroll 1
        for (int k_block = 0; k_block < k_blocks; ++k_block) {
          const u32 full = full_barriers + 8 * ring.stage;
          mbarrier_wait(empty_barriers + 8 * ring.stage, ring.parity ^ 1);
          mbarrier_arrive_expect_bytes(full, A_BYTES + B_BYTES);
          load_stage(a_map, b_map, shared, ring.stage, full, tile,
                     (SPLIT ? rank * K_BLOCKS : 0) + k_block, rank);
          ring.advance();
        }
      }
    }
    __syncwarp();
    if constexpr (SPLIT) cluster_sync();
  } else {
    if constexpr (CONSUMERS > 1) registers_increase<CONSUMER_REGISTERS>();
    const int consumer = warpgroup - 1;
    const int thread = static_cast<int>(threadIdx.x) % 128;
    const int first_row = (PINGPONG ? 0 : consumer * ROWS) + warp % 4 * 16;
    const u32 store_buffers = shared + C_OFFSET + (warp - 4) * (STORE_BUFFERS * C_BUFFER_BYTES);
    int store_buffer = 0;

    // Descriptors of stage 0; later stages are a constant distance on.
    const u64 a_descriptor =
        wgmma_descriptor_128b(shared + A_OFFSET + (PINGPONG ? 0 : consumer * ROWS * 128), 16, 1024);
    const u64 b_descriptor =
        wgmma_descriptor_128b(shared + B_OFFSET, B_IS_N_MAJOR ? BK * 128 : 16, 1024);
    constexpr int B_STEP = B_IS_N_MAJOR ? 16 * 128 : 32;  // Bytes to the next 16 of k.

    // One thread a block of the cluster tells that block's producer that a stage has been read.
    const u32 empty_of_peer =
        MULTICAST > 1 ? cluster_address(empty_barriers, thread % MULTICAST) : empty_barriers;
    auto release = [&](int stage) {
      if (thread < MULTICAST) {
        if constexpr (MULTICAST > 1) {
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
      // The first consumer's first turn.
      if (consumer == CONSUMERS - 1) named_barrier_arrive(1, 256);
    }

    float accumulators[ROW_STEPS][BN / 2];
    for (; index < work; index += PINGPONG ? CONSUMERS * work_step : work_step) {
      if constexpr (K_BLOCKS == 0) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS * BN / 2; ++i) accumulators[i / (BN / 2)][i % (BN / 2)] = 0;
      }
      // A turn begins when the consumer before has seen all its stages full. Only then do the parities
      // that this one waits for mean the right trip around the ring: a waiter who is a whole trip
      // early takes the end of an older phase for its own.
      if constexpr (PINGPONG) named_barrier_sync(1 + consumer, 256);
      int unreleased = 0;  // The stage that the wgmma group still in flight reads.
#pragma unroll 1
      for (int k_block = 0; k_block < k_blocks; ++k_block) {
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
      if constexpr (PINGPONG) named_barrier_arrive(1 + (consumer + 1) % CONSUMERS, 256);
      if constexpr (IN_FLIGHT > 0 && K_BLOCKS > 0) {
        wgmma_wait_group<0>();
        release(unreleased);
      }
#pragma unroll
      for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(accumulators[i]);
      if constexpr (PINGPONG) ring.skip<K_BLOCKS*(CONSUMERS - 1)>();

      const TileOrigin tile(index, m_clusters, rank);
      if constexpr (SPLIT) {
        // There is one tile a cluster, so the ring is free once every consumer is here.
        named_barrier_sync(1, 128 * CONSUMERS);
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
#pragma unroll
          for (int j = 0; j < BN / 8; ++j) {
            const float* d = accumulators[i] + 4 * j;
            shared_store_f32x4(partial_address(shared, consumer * ROW_STEPS + i, j, thread), d[0],
                               d[1], d[2], d[3]);
          }
        }
        cluster_sync();
        constexpr int SHARE = BN / 8 / CLUSTER_K;  // Groups of 8 columns that a block finishes.
        const int lane = lane_index();
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
          const int row = tile.row + first_row + i * 64 + lane / 4;
#pragma unroll
          for (int j = 0; j < SHARE; ++j) {
            const int columns_8 = rank * SHARE + j;
            if (tile.column + columns_8 * 8 >= n) break;
            const u32 address =
                partial_address(shared, consumer * ROW_STEPS + i, columns_8, thread);
            float4 part[CLUSTER_K];
#pragma unroll
            for (int p = 0; p < CLUSTER_K; ++p) {
              part[p] = cluster_load_f32x4(cluster_address(address, p));
            }
            float4 sum = part[0];
#pragma unroll
            for (int p = 1; p < CLUSTER_K; ++p) {
              sum.x += part[p].x;
              sum.y += part[p].y;
              sum.z += part[p].z;
              sum.w += part[p].w;
            }
            store_piece(c, bias, sum.x, sum.y, sum.z, sum.w, row,
                        tile.column + columns_8 * 8 + lane % 4 * 2, m);
          }
        }
      } else {
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
          const int row = tile.row + first_row + i * 64;
          if constexpr (is_16bit_float<out_dtype>) {
            store_rows<out_dtype>(c_map, bias, store_buffers, store_buffer, accumulators[i], row,
                                  tile.column, m);
          } else {
            store_rows_directly(c, bias, accumulators[i], row, tile.column, m);
          }
        }
      }
    }
    // The buffers must outlive the copies that read them.
    if (lane_index() == 0) tma_wait_group<0>();
    __syncwarp();
  }
  // A block must not leave while another may still arrive on its barriers or read its sums.
  if constexpr (CLUSTER > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  }
}
