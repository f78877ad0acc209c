// c = epilogue(a · b) on Hopper (sm_90a): a persistent grid in which one warp feeds a ring of
// shared-memory stages through the copy engine (TMA) and CONSUMERS warpgroups multiply them with
// wgmma. For 16-bit types, tf32 and 8-bit floats.
//
//   SCHEDULE cooperative: the consumers share one BM×BN tile, each an equal part of its rows. They
//     do not wait for each other, so one may store its part while another still multiplies.
//   SCHEDULE pingpong: a consumer has a BM×BN tile of its own and the ring serves them in turn, so
//     one tile is stored while the next is multiplied.
//   SCHEDULE stream ("stream-K"): cooperative, but where tiles do not fill their last round, that round
//     and one more are cut along k into equal ranges, a block each, whatever tiles they begin and end in.
//     A tile that several blocks have a range of is finished by the one with its last k block; the others
//     leave it their sums in global memory.
//   CLUSTER_M, CLUSTER_N: as many blocks take neighbouring tiles along m (or n); each loads a share of
//     the operand that they have in common and multicasts it to all.
//   CLUSTER_K: as many blocks split k between them, exchange their sums through each other's shared
//     memory, and each finishes some columns. For few tiles and a long k. A device holds fewer
//     clusters of 4 or 8 than its multiprocessors would make: an H200 30 of 4 and 15 of 8.
//   SPLIT_K: as many clusters split k; the last one to finish a tile adds their sums, which pass
//     through global memory, in a fixed order. With CLUSTER_K each block of it adds some columns.
//   RASTER: how many clusters along m form a band. Tiles are walked down a band, then along n, so
//     that blocks which run together touch few rows of a and of b, and the L2 cache holds them.
//   SWAP: an instruction's 64 rows are b's, and its columns, as few as 16, a's. For few rows of c: a tile of
//     64 of them takes four times as much of a stage and of an instruction as one of 16. "Rows" and "columns"
//     of a tile, its sums and its operands are the instruction's below; those of c are called c's.
//   IN_FLIGHT: how many groups of wgmma are unfinished while the next stage is waited for.
//   STORE_BUFFERS, STORE_COLUMNS: how many buffers a warp has for what it stores through the copy engine,
//     and how many columns of a tile go through one at a time. What they take, the ring lacks.
//
// Partial tiles need little care: TMA reads zeros outside a tensor and does not write there. But it reads
// them slowly, so that the last tiles of m and of n have maps of their own, whose boxes have just the rows
// that exist (m = 65 of 128 rows, n = k = 4096 on an H200: 22 µs without, 15 with). Tiles that
// a cluster has beyond the edge are computed from zeros and dropped. Operands that TMA or wgmma cannot
// read as they lie are packed first (PACK_A, PACK_B); a c that TMA cannot write is stored from registers.
//
// Factors of blocks (scaling "block", 8-bit floats): a stage is as long as their blocks along k, so its
// products are added up on their own and go into the sums times the two factors.
#include "gemm/epilogue.cuh"
#include "gemm/pack.cuh"
#include "ptx/cluster.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/ring.cuh"
#include "ptx/split_k.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

namespace {

constexpr bool PINGPONG = SCHEDULE == SCHEDULE_kind::pingpong;
constexpr bool STREAM = SCHEDULE == SCHEDULE_kind::stream;
constexpr int MULTICAST = CLUSTER_M * CLUSTER_N;  // Blocks that share operands.
constexpr int CLUSTER = MULTICAST * CLUSTER_K;
constexpr int K_SHARES = CLUSTER_K * SPLIT_K;  // How many blocks work on one tile.
constexpr bool SPLIT = K_SHARES > 1;
constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int ALL_K_BLOCKS = ceil_div(k, BK);
constexpr int K_BLOCKS = ALL_K_BLOCKS / K_SHARES;  // Of one block; with SPLIT, one more of some.
constexpr int N_CLUSTERS = ceil_div(ceil_div(n, BN), CLUSTER_N);
constexpr bool A_IS_M_MAJOR = !A_ALONG_K;
constexpr bool B_IS_N_MAJOR = !B_ALONG_K;
constexpr bool B_HAS_LAST = B_ALONG_K && n % BN != 0;
constexpr bool BLOCK_SCALED = scaling == scaling_kind::block;

// The rows of a tile that one warpgroup multiplies, 64 to an instruction, and the sums that a thread has of 64.
constexpr int ROWS = PINGPONG ? TILE_ROWS : TILE_ROWS / CONSUMERS;
constexpr int ROW_STEPS = ROWS / 64;
constexpr int SUMS = TILE_COLUMNS / 2;
using Accumulators = float[ROW_STEPS][SUMS];

// Registers a thread: a multiprocessor has 65536, and the producer needs few, though more to walk ranges of
// k. With one consumer the cap at entry is already as high as it can be.
constexpr int PRODUCER_REGISTERS = CONSUMERS != 2 ? 32 : STREAM ? 40 : 24;
constexpr int CONSUMER_REGISTERS = CONSUMERS != 2 ? 160 : STREAM ? 232 : 240;

// Shared memory: the stages of a, the stages of b, the buffers of c, the barriers. Every operand
// tile starts at a multiple of 1024 bytes, as the 128-byte swizzle needs.
constexpr int A_BYTES = BM * BK * static_cast<int>(sizeof(dtype));
constexpr int B_BYTES = BN * BK * static_cast<int>(sizeof(b_dtype));
constexpr int C_BUFFER_BYTES = 16 * STORE_COLUMNS * static_cast<int>(sizeof(out_dtype));
constexpr int A_OFFSET = 0;
constexpr int B_OFFSET = A_OFFSET + STAGES * A_BYTES;
constexpr int C_OFFSET = B_OFFSET + STAGES * B_BYTES;
constexpr int BARRIER_OFFSET = C_OFFSET + C_BYTES;
static_assert(BARRIER_OFFSET + STAGES * 16 <= shared_bytes, "the manifest's shared memory");
static_assert(ROWS % 64 == 0 && TILE_COLUMNS % 16 == 0 && BK * sizeof(dtype) == 128);
static_assert(!PINGPONG || CONSUMERS > 1);
static_assert(!SPLIT ||
              (MULTICAST == 1 && !PINGPONG && !TMA_STORE && TILE_COLUMNS % (8 * CLUSTER_K) == 0));
static_assert(!SPLIT || K_BLOCKS > 0, "every block has some of k");
static_assert(!STREAM || (CLUSTER == 1 && !SPLIT && ALL_K_BLOCKS > 0));
static_assert(CLUSTER_K == 1 || BM * BN * 4 <= C_OFFSET, "partial sums fit in the ring");
static_assert(!A_IS_M_MAJOR || (BM % 64 == 0 && sizeof(dtype) == 2));
static_assert(!B_IS_N_MAJOR || (BN % 64 == 0 && sizeof(b_dtype) == 2));
static_assert(!BLOCK_SCALED || (!SWAP && BK == 128 && 128 % BN == 0 && IN_FLIGHT == 0));

// The problem's sizes that are known at launch.
struct Extents {
  int m, batches;
  int m_clusters;

  __device__ __forceinline__ Extents(int m_, int batches_)
      : m(m_), batches(batches_), m_clusters(ceil_div(ceil_div(m_, BM), CLUSTER_M)) {}
  // Tiles of the whole problem, as many as a cluster has blocks counted as one.
  __device__ __forceinline__ int tiles() const { return m_clusters * N_CLUSTERS * batches; }
};

// The first row and column of c of this block's tile of the `index`-th that clusters take.
struct TileOrigin {
  int row, column, batch;

  __device__ __forceinline__ TileOrigin(int index, const Extents& extents, int rank) {
    batch = index / (extents.m_clusters * N_CLUSTERS);
    index -= batch * (extents.m_clusters * N_CLUSTERS);
    const int band = index / (RASTER * N_CLUSTERS);
    const int within = index - band * (RASTER * N_CLUSTERS);
    const int first = band * RASTER;
    const int height = min(RASTER, extents.m_clusters - first);
    const int along_n = within / height;
    const int along_m = first + within - along_n * height;
    row = (along_m * CLUSTER_M + (CLUSTER_M > 1 ? rank : 0)) * BM;
    column = (along_n * CLUSTER_N + (CLUSTER_N > 1 ? rank : 0)) * BN;
  }
  // Of the sums.
  __device__ __forceinline__ int first_row() const { return SWAP ? column : row; }
  __device__ __forceinline__ int first_column() const { return SWAP ? row : column; }
};

// The first k block of a share of k.
__device__ __forceinline__ int first_k_block_of(int share) {
  return static_cast<int>(static_cast<i64>(share) * ALL_K_BLOCKS / K_SHARES);
}

// What a block computes of one tile: the sums over some of its k blocks, or all.
struct Piece {
  int tile;  // For TileOrigin.
  int first_k_block, k_blocks;
};

// The k blocks of `tiles` tiles, one tile's behind the other's, in as many ranges as there are blocks. They
// are of one length, or the first ones by one longer. There are no fewer k blocks than ranges.
struct Ranges {
  int length, longer;

  __device__ __forceinline__ explicit Ranges(int tiles) {
    const int blocks = static_cast<int>(gridDim.x);
    length = tiles * ALL_K_BLOCKS / blocks;
    longer = tiles * ALL_K_BLOCKS - length * blocks;
  }
  __device__ __forceinline__ int first(int block) const {
    return block * length + min(block, longer);
  }
};

// How many tiles, the first ones, are cut into ranges. Their last round alone would leave a range less
// than a tile, and every tile with several blocks; with a round more most tiles have one or two.
__device__ __forceinline__ int streamed_tiles(const Extents& extents) {
  const int blocks = static_cast<int>(gridDim.x);
  const int tiles = extents.tiles();
  const int left_over = tiles % blocks;
  return left_over == 0 ? 0 : min(tiles, blocks + left_over);
}

// The pieces of a block, one after another, as its producer and its consumers both go through them.
//
// A range of k blocks comes first, and its end before its start. So a block leaves its share of the tile that
// the next block finishes before it does anything else, and last comes the tile that blocks before it have
// left shares of. Nobody waits for long, then: the shares were written about a tile's time ago. And nobody
// waits for ever, however few blocks run at once: only for blocks with lower numbers, which begin earlier, and
// for what these do without waiting themselves. Whole tiles come after that: the producer fetches the next
// tile while shares are added up, and what is left of the ranges' ragged ends is gone when the launch ends.
class Walk {
 public:
  __device__ __forceinline__ Walk(const Extents& extents, int rank)
      : tile_(static_cast<int>(blockIdx.x) / CLUSTER),
        tiles_(extents.tiles()),
        step_(static_cast<int>(gridDim.x) / CLUSTER) {
    if constexpr (SPLIT) {
      const int share = static_cast<int>(blockIdx.y) * CLUSTER_K + (CLUSTER_K > 1 ? rank : 0);
      first_k_block_ = first_k_block_of(share);
      k_blocks_ = first_k_block_of(share + 1) - first_k_block_;
    }
  }
  // To be called first, by the producer and the consumers each for itself: what is worked out before they part
  // is kept for both, and takes registers that neither has.
  __device__ __forceinline__ void take_range(const Extents& extents) {
    if constexpr (STREAM) {
      const int streamed = streamed_tiles(extents);
      const Ranges ranges(streamed);
      range_ = ranges.first(static_cast<int>(blockIdx.x));
      range_end_ = ranges.first(static_cast<int>(blockIdx.x) + 1);
      tile_ += streamed;
    }
  }
  // Only every so many pieces from here on, from the one of `turn`: the others are others' of the block.
  __device__ __forceinline__ void take_turns(int turn, int turns) {
    tile_ += turn * step_;
    step_ *= turns;
  }
  __device__ __forceinline__ bool is_over() const { return tile_ >= tiles_ && !in_range(); }
  __device__ __forceinline__ Piece piece() const {
    if constexpr (STREAM) {
      if (in_range()) {
        const int tile = (range_end_ - 1) / OF_TILE;
        const int first = max(range_, tile * OF_TILE);
        return {tile, first - tile * OF_TILE, range_end_ - first};
      }
    }
    return {tile_, first_k_block_, k_blocks_};
  }
  __device__ __forceinline__ void advance() {
    if constexpr (STREAM) {
      if (in_range()) {
        range_end_ = max(range_, (range_end_ - 1) / OF_TILE * OF_TILE);
        return;
      }
    }
    tile_ += step_;
  }

 private:
  // Its k blocks. Where there are none there are no ranges, but a compiler that warns of a division by them.
  static constexpr int OF_TILE = maximum(ALL_K_BLOCKS, 1);

  __device__ __forceinline__ bool in_range() const { return STREAM && range_ < range_end_; }

  int tile_, tiles_, step_;
  int first_k_block_ = 0, k_blocks_ = K_BLOCKS;
  int range_ = 0, range_end_ = 0;  // What is left of the block's range.
};

// Copies one box; to every block of the cluster where they share it.
template <bool SHARED>
__device__ __forceinline__ void load_box(u32 destination, const TensorMap& map, u32 full, int x,
                                         int y, int z) {
  constexpr u16 ALL_BLOCKS = (1 << MULTICAST) - 1;
  if constexpr (SHARED) {
    tma_load_3d_multicast(destination, &map, full, x, y, z, ALL_BLOCKS);
  } else {
    tma_load_3d(destination, &map, full, x, y, z);
  }
}

// Fills a stage of one operand with SIZE rows of m (or n) from `first`, and the k block at `k_start`.
// Where SHARERS blocks share it, each copies a part of it to all of them: `share` of the rows, or where the
// rows are k's, some of those.
template <bool K_MAJOR, int SIZE, int SHARERS>
__device__ __forceinline__ void load_operand(u32 stage, const TensorMap& map, int share, u32 full,
                                             int first, int k_start, int batch, int rank) {
  if constexpr (K_MAJOR) {
    const int from = SHARERS > 1 ? rank * share : 0;
    load_box<(SHARERS > 1)>(stage + from * 128, map, full, k_start, first + from, batch);
  } else {  // A box for every 64 of m or n.
    constexpr int SHARE = BK / SHARERS;
    const int share = SHARERS > 1 ? rank * SHARE : 0;
#pragma unroll
    for (int i = 0; i < SIZE / 64; ++i) {
      load_box<(SHARERS > 1)>(stage + i * (BK * 128) + share * 128, map, full, first + i * 64,
                              k_start + share, batch);
    }
  }
}

// Finishes the sums of two neighbouring columns, the first of which is even. What lies outside of c is left
// alone. With PAIRS they are read and written at once where they are neighbours in c too: both exist then, or
// neither.
__device__ __forceinline__ void finish(const Epilogue& epilogue, float& low, float& high, int row,
                                       int column, int m) {
  if constexpr (has_bias || has_residual) {
    if (row >= (SWAP ? n : m) || column >= (SWAP ? m : n)) return;
    if ((SWAP || !PAIRS) && column + 1 == (SWAP ? m : n)) {
      low = SWAP ? epilogue(low, column, row) : epilogue(low, row, column);
      return;
    }
  }
  if constexpr (SWAP) {
    low = epilogue(low, column, row);
    high = epilogue(high, column + 1, row);
  } else {
    epilogue.pair<PAIRS>(low, high, row, column);
  }
}

// Stores the 16 rows of a warp, from `row`, as 16-bit floats: a box of STORE_COLUMNS columns at a time goes
// through a buffer in shared memory to the copy engine, as c has it: with SWAP a row of the buffer is a column
// here. With two buffers, `buffer` alternates between them and one is filled while the other is read. Only
// this warp uses them: no other barrier is needed.
template <typename OUT>
__device__ __forceinline__ void store_rows(const TensorMap& c_map, const Epilogue& epilogue,
                                           u32 buffers, int& buffer, float (&accumulators)[SUMS],
                                           int row, const TileOrigin& tile, int m) {
  if (row >= (SWAP ? n : m)) return;
  const int lane = lane_index();
  // Row of the buffer and 16-byte column that this lane addresses for stmatrix. Of the four 8 by 8 matrices
  // two lie in the same columns and differ by 8 rows, which with SWAP makes them neighbours in the buffer. The
  // swizzle exchanges 16-byte columns within 128, 64 or 32 bytes by the address bits from 7 up.
  const int box_row = SWAP ? lane % 8 + lane / 16 * 8 : lane % 16;
  const int half = SWAP ? lane / 8 % 2 : lane / 16;
  constexpr int PITCH = (SWAP ? 16 : STORE_COLUMNS) * static_cast<int>(sizeof(OUT));
  constexpr int COLUMNS_16B = PITCH / 16;
  const int exchange = (box_row * PITCH / 128) % COLUMNS_16B;

#pragma unroll
  for (int box = 0; box < TILE_COLUMNS / STORE_COLUMNS; ++box) {
    const int box_column = tile.first_column() + box * STORE_COLUMNS;
    if (box_column >= (SWAP ? m : n)) return;
    const u32 destination = buffers + buffer * C_BUFFER_BYTES;
    if constexpr (STORE_BUFFERS > 1) buffer ^= 1;
    if (lane == 0) tma_wait_group_read<STORE_BUFFERS - 1>();
    __syncwarp();
#pragma unroll
    for (int j = 0; j < STORE_COLUMNS / 16; ++j) {
      float* d = accumulators + (box * STORE_COLUMNS + j * 16) / 2;
      u32 packed[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = box_column + j * 16 + i * 8 + lane % 4 * 2;
        finish(epilogue, d[4 * i], d[4 * i + 1], row + lane / 4, column, m);
        finish(epilogue, d[4 * i + 2], d[4 * i + 3], row + lane / 4 + 8, column, m);
        packed[2 * i] = pack2<OUT>(d[4 * i], d[4 * i + 1]);
        packed[2 * i + 1] = pack2<OUT>(d[4 * i + 2], d[4 * i + 3]);
      }
      if constexpr (SWAP) {
        stmatrix_x4_transposed(destination + (box_row + 16 * j) * PITCH + (half ^ exchange) * 16,
                               packed[0], packed[1], packed[2], packed[3]);
      } else {
        stmatrix_x4(destination + box_row * PITCH + ((2 * j + half) ^ exchange) * 16, packed[0],
                    packed[1], packed[2], packed[3]);
      }
    }
    async_proxy_fence();
    __syncwarp();
    if (lane == 0) {
      tma_store_3d(&c_map, destination, SWAP ? row : box_column, SWAP ? box_column : row,
                   tile.batch);
      tma_commit_group();
    }
  }
}

// Where c of one element of the batch lies; stride in elements.
template <typename OUT>
struct Destination {
  OUT* c;
  i64 row_stride;
  int m;

  // Stores the sums of two neighbouring columns, the first of which is even.
  __device__ __forceinline__ void store(const Epilogue& epilogue, float low, float high, int row,
                                        int column) const {
    if (row >= (SWAP ? n : m) || column >= (SWAP ? m : n)) return;
    finish(epilogue, low, high, row, column, m);
    OUT* const address = SWAP ? c + column * row_stride + row : c + row * row_stride + column;
    if constexpr (SWAP) {
      address[0] = from_f32<OUT>(low);
      if (column + 1 < m) address[row_stride] = from_f32<OUT>(high);
    } else if constexpr (PAIRS && is_16bit_float<OUT>) {
      *reinterpret_cast<u32*>(address) = pack2<OUT>(low, high);
    } else if constexpr (PAIRS) {
      *reinterpret_cast<float2*>(address) = make_float2(low, high);
    } else {
      address[0] = from_f32<OUT>(low);
      if (column + 1 < n) address[1] = from_f32<OUT>(high);
    }
  }
  // An 8 by 8 piece of the accumulator and the one 8 rows below it: four lanes write neighbouring
  // elements, with SWAP eight. `row` and `column` are of the lane's first element.
  __device__ __forceinline__ void store_piece(const Epilogue& epilogue, const float* d, int row,
                                              int column) const {
    store(epilogue, d[0], d[1], row, column);
    store(epilogue, d[2], d[3], row + 8, column);
  }
};

using Consumers = NamedGroup<1, 128, 128 * CONSUMERS>;

// How an operand lies in the ring: its stages from OFFSET on, BYTES each. MN_MAJOR: rows of shared memory are
// k's.
template <typename T, int OFFSET, int BYTES_, bool MN_MAJOR_>
struct OperandInRing {
  using type = T;
  static constexpr int BYTES = BYTES_;
  static constexpr bool MN_MAJOR = MN_MAJOR_;
  // Bytes to the next 32 bytes of k, or where rows are k's, to the next 16 rows.
  static constexpr int STEP = MN_MAJOR ? 16 * 128 : 32;
  // Bytes to the next 64 of m or n.
  static constexpr int NEXT_64 = MN_MAJOR ? BK * 128 : 64 * 128;

  // Of stage 0, from the first_64-th 64 of m or n on; later stages are a constant distance on.
  static __device__ __forceinline__ u64 descriptor(u32 shared, int first_64) {
    return wgmma_descriptor_128b(shared + OFFSET + first_64 * NEXT_64, MN_MAJOR ? BK * 128 : 16,
                                 1024);
  }
};
// The first of two types, or the second.
template <bool SECOND, typename A, typename B>
struct Choice {
  using type = A;
};
template <typename A, typename B>
struct Choice<true, A, B> {
  using type = B;
};
using OperandA = OperandInRing<dtype, A_OFFSET, A_BYTES, A_IS_M_MAJOR>;
using OperandB = OperandInRing<b_dtype, B_OFFSET, B_BYTES, B_IS_N_MAJOR>;
using RowsOperand = Choice<SWAP, OperandA, OperandB>::type;
using ColumnsOperand = Choice<SWAP, OperandB, OperandA>::type;

// Issues the products of a stage, as one group; the descriptors are those of stage 0. The first product
// overwrites d when `accumulate` is 0.
__device__ __forceinline__ void multiply_stage(Accumulators& d, u64 rows_descriptor,
                                               u64 columns_descriptor, int stage, int accumulate) {
  using Rows = RowsOperand;
  using Columns = ColumnsOperand;
  const u64 rows = wgmma_advance(rows_descriptor, stage * Rows::BYTES);
  const u64 columns = wgmma_advance(columns_descriptor, stage * Columns::BYTES);
#pragma unroll
  for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(d[i]);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
#pragma unroll
    for (int i = 0; i < ROW_STEPS; ++i) {
      wgmma<Rows::type, Columns::type, TILE_COLUMNS, Rows::MN_MAJOR, Columns::MN_MAJOR>(
          d[i], wgmma_advance(rows, i * Rows::NEXT_64 + step * Rows::STEP),
          wgmma_advance(columns, step * Columns::STEP), step > 0 ? 1 : accumulate);
    }
  }
  wgmma_commit_group();
#pragma unroll
  for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(d[i]);
}

// Partial sums lie in the ring as 16-byte pieces: four accumulators of a thread are those of 8 columns
// of the tile. `slot` counts the 64-row steps of the whole tile.
__device__ __forceinline__ u32 partial_address(u32 shared, int slot, int columns_8, int thread) {
  return shared + ((slot * (TILE_COLUMNS / 8) + columns_8) * 128 + thread) * 16;
}

// The columns of the tile, in groups of 8, that a block of the cluster finishes.
constexpr int SHARE = TILE_COLUMNS / 8 / CLUSTER_K;
// What is left of the sums of a thread then: four of each group.
using SplitSums = float[ROW_STEPS * SHARE][4];

// Leaves the sums of this block in its shared memory, and adds up those of its columns from all blocks
// of the cluster in the order of their ranks. There is one tile a cluster, so the ring is free once every
// consumer is here.
__device__ __forceinline__ void add_cluster(SplitSums& sums, const Accumulators& accumulators,
                                            u32 shared, int rank) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int first_slot = (static_cast<int>(threadIdx.x) / 128 - 1) * ROW_STEPS;
  Consumers::sync();
#pragma unroll
  for (int i = 0; i < ROW_STEPS; ++i) {
#pragma unroll
    for (int j = 0; j < TILE_COLUMNS / 8; ++j) {
      const float* d = accumulators[i] + 4 * j;
      shared_store_f32x4(partial_address(shared, first_slot + i, j, thread), d[0], d[1], d[2],
                         d[3]);
    }
  }
  cluster_sync();
#pragma unroll
  for (int i = 0; i < ROW_STEPS; ++i) {
#pragma unroll
    for (int j = 0; j < SHARE; ++j) {
      const u32 address = partial_address(shared, first_slot + i, rank * SHARE + j, thread);
      float4 part[CLUSTER_K];
#pragma unroll
      for (int p = 0; p < CLUSTER_K; ++p) {
        part[p] = cluster_load_f32x4(cluster_address(address, p));
      }
      float(&sum)[4] = sums[i * SHARE + j];
      sum[0] = part[0].x;
      sum[1] = part[0].y;
      sum[2] = part[0].z;
      sum[3] = part[0].w;
#pragma unroll
      for (int p = 1; p < CLUSTER_K; ++p) {
        sum[0] += part[p].x;
        sum[1] += part[p].y;
        sum[2] += part[p].z;
        sum[3] += part[p].w;
      }
    }
  }
}

// Of a piece that is not all of its tile: leaves the sums for the block that has the tile's last k block, or is
// in that block and adds those of the others, always from the last of k to the first, so that equal inputs give
// equal bits. Returns whether the tile is done. partials: BM * BN words for each block, zero between launches.
// A block leaves one part at most, since only the first of its pieces ends inside a tile.
__device__ __forceinline__ bool finish_sums(Accumulators& accumulators, float* partials,
                                            const Piece& piece, const Extents& extents) {
  constexpr int QUADS = ROW_STEPS * SUMS / 4;
  constexpr int PART_QUADS = Consumers::THREADS * QUADS;
  uint4* const own = reinterpret_cast<uint4*>(partials) + Consumers::thread();
  const int block = static_cast<int>(blockIdx.x);
  if (piece.first_k_block + piece.k_blocks < ALL_K_BLOCKS) {
    leave_part<Consumers::THREADS, QUADS>(accumulators[0], own + block * PART_QUADS);
    return false;
  }
  if (piece.first_k_block > 0) {
    const Ranges ranges(streamed_tiles(extents));
    int other = block;
#pragma unroll 1
    do {
      --other;
      add_part<Consumers::THREADS, QUADS>(accumulators[0], own + other * PART_QUADS);
    } while (ranges.first(other) > piece.tile * ALL_K_BLOCKS);
    __syncwarp();  // Threads have waited apart.
  }
  return true;
}

// Where factors of blocks are (scaling "block"); strides in elements.
struct BlockScales {
  const float* of_a;  // [batch, m, k blocks]
  i64 batch_stride_a, row_stride_a;
  const float* of_b;  // [batch, blocks of 128 columns, k blocks]
  i64 batch_stride_b, row_stride_b;
};

// The factors of a thread's sums: a's of its two rows in each 64, b's of the tile's columns.
struct BlockFactors {
  const float* of_rows[2 * ROW_STEPS];
  const float* of_columns;

  // `first_row` is the thread's.
  __device__ __forceinline__ BlockFactors(const BlockScales& scales, const TileOrigin& tile,
                                          int first_row, int m, int first_k_block) {
    // What is beyond the edge takes the factors of the last: nothing of it is stored.
    if constexpr (has_scale_a) {
#pragma unroll
      for (int i = 0; i < 2 * ROW_STEPS; ++i) {
        const int row = min(first_row + i / 2 * 64 + i % 2 * 8, m - 1);
        of_rows[i] = scales.of_a + tile.batch * scales.batch_stride_a + row * scales.row_stride_a +
                     first_k_block;
      }
    }
    if constexpr (has_scale_b) {
      const int block = min(tile.column, n - 1) / 128;
      of_columns = scales.of_b + tile.batch * scales.batch_stride_b + block * scales.row_stride_b +
                   first_k_block;
    }
  }
  __device__ __forceinline__ void load(float (&factors)[2 * ROW_STEPS], int k_block) const {
    float of_b = 1.0f;
    if constexpr (has_scale_b) of_b = of_columns[k_block];
#pragma unroll
    for (int i = 0; i < 2 * ROW_STEPS; ++i) {
      factors[i] = of_b;
      if constexpr (has_scale_a) factors[i] *= of_rows[i][k_block];
    }
  }
};

}  // namespace

// Packs a (blocks with y = 0) and b (y = 1), where they need it.
extern "C" __global__ void __launch_bounds__(pack::THREADS)
    pack_operands(const dtype* a, i64 row_stride_a, i64 batch_stride_a, int batches_a,
                  dtype* packed_a, const b_dtype* b, i64 row_stride_b, i64 batch_stride_b,
                  int batches_b, b_dtype* packed_b, int m) {
  if constexpr (PACK_A) {
    if (blockIdx.y == 0) {
      pack::run<layout_a == layout_a_kind::km>(
          pack::Operand<dtype>{a, row_stride_a, batch_stride_a, packed_a, m, batches_a});
    }
  }
  if constexpr (PACK_B) {
    if (blockIdx.y == 1) {
      pack::run<layout_b == layout_b_kind::kn>(
          pack::Operand<b_dtype>{b, row_stride_b, batch_stride_b, packed_b, n, batches_b});
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    gemm(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap a_last_map,
         int last_a, const __grid_constant__ TensorMap b_map,
         const __grid_constant__ TensorMap b_last_map, int last_b,
         const __grid_constant__ TensorMap c_map, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, i64 row_stride_residual,
         i64 batch_stride_residual, out_dtype* c, i64 row_stride_c, i64 batch_stride_c,
         float* partials, u32* counters, int m, int batch, int batch_step_a, int batch_step_b,
         i64 batch_stride_scale_a, i64 row_stride_scale_a, i64 batch_stride_scale_b,
         i64 row_stride_scale_b) {
  extern __shared__ __align__(1024) u8 shared_memory[];
  const u32 shared = shared_address(shared_memory);
  const u32 full_barriers = shared + BARRIER_OFFSET;
  const u32 empty_barriers = full_barriers + STAGES * 8;

  const int warp = warp_index();
  const int warpgroup = warp / 4;
  const int rank = CLUSTER > 1 ? cluster_rank() : 0;

  if (threadIdx.x == 0) {
    tma_prefetch_map(&a_map);
    if constexpr (!A_IS_M_MAJOR) tma_prefetch_map(&a_last_map);
    tma_prefetch_map(&b_map);
    if constexpr (B_HAS_LAST) tma_prefetch_map(&b_last_map);
    if constexpr (TMA_STORE) tma_prefetch_map(&c_map);
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(full_barriers + 8 * i, 1);
      // A stage is empty when its readers in every block that it is multicast to are done.
      mbarrier_init(empty_barriers + 8 * i, MULTICAST * (PINGPONG ? 1 : CONSUMERS));
    }
    mbarrier_init_fence();
  }
  // Blocks that only split k first meet when they add up.
  if constexpr (MULTICAST > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }

  const Extents extents(m, batch);
  Walk walk(extents, rank);

  if (warpgroup == 0) {
    if constexpr (CONSUMERS > 1) registers_decrease<PRODUCER_REGISTERS>();
    if (warp == 0 && lane_index() == 0) {
      RingPosition<STAGES> ring;
      walk.take_range(extents);
      for (; !walk.is_over(); walk.advance()) {
        const Piece piece = walk.piece();
        const TileOrigin tile(piece.tile, extents, rank);
        // Rows of shared memory that the last tile does not fill end in what is not stored.
        const bool is_last_a = !A_IS_M_MAJOR && tile.row + BM > m;
        const bool is_last_b = B_HAS_LAST && tile.column + BN > n;
        const TensorMap& map_of_a = is_last_a ? a_last_map : a_map;
        const TensorMap& map_of_b = is_last_b ? b_last_map : b_map;
        const int share_of_a = is_last_a ? last_a : BM / CLUSTER_N;
        const int share_of_b = is_last_b ? last_b : BN / CLUSTER_M;
        const u32 bytes = (A_IS_M_MAJOR ? A_BYTES : share_of_a * (CLUSTER_N * 128)) +
                          (B_IS_N_MAJOR ? B_BYTES : share_of_b * (CLUSTER_M * 128));
#pragma unroll 1
        for (int k_block = 0; k_block < piece.k_blocks; ++k_block) {
          const u32 full = full_barriers + 8 * ring.stage;
          mbarrier_wait(empty_barriers + 8 * ring.stage, ring.parity ^ 1);
          mbarrier_arrive_expect_bytes(full, bytes);
          const int k_start = (piece.first_k_block + k_block) * BK;
          load_operand<!A_IS_M_MAJOR, BM, CLUSTER_N>(shared + A_OFFSET + ring.stage * A_BYTES,
                                                     map_of_a, share_of_a, full, tile.row, k_start,
                                                     tile.batch * batch_step_a, rank);
          load_operand<!B_IS_N_MAJOR, BN, CLUSTER_M>(shared + B_OFFSET + ring.stage * B_BYTES,
                                                     map_of_b, share_of_b, full, tile.column,
                                                     k_start, tile.batch * batch_step_b, rank);
          ring.advance();
        }
      }
    }
    __syncwarp();
    if constexpr (CLUSTER_K > 1) cluster_sync();
  } else {
    if constexpr (CONSUMERS > 1) registers_increase<CONSUMER_REGISTERS>();
    const int consumer = warpgroup - 1;
    const int thread = static_cast<int>(threadIdx.x) % 128;
    const int first_row = (PINGPONG ? 0 : consumer * ROWS) + warp % 4 * 16;
    const u32 store_buffers = shared + C_OFFSET + (warp - 4) * (STORE_BUFFERS * C_BUFFER_BYTES);
    int store_buffer = 0;

    const u64 rows_descriptor =
        RowsOperand::descriptor(shared, PINGPONG ? 0 : consumer * ROW_STEPS);
    const u64 columns_descriptor = ColumnsOperand::descriptor(shared, 0);

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

    // With SPLIT_K a cluster has one tile; each of its blocks adds up some columns.
    const int k_share = CLUSTER_K == 1 ? 0 : rank;
    const int partial_tile = static_cast<int>(blockIdx.x) / CLUSTER * CLUSTER_K + k_share;
    const PartTicket<SPLIT_K, Consumers> ticket(counters, partial_tile);
    RingPosition<STAGES> ring;
    if constexpr (PINGPONG) {
      for (int i = 0; i < consumer; ++i) ring.template skip<K_BLOCKS>();
      walk.take_turns(consumer, CONSUMERS);
      // The first consumer's first turn.
      if (consumer == CONSUMERS - 1) named_barrier_arrive(1, 256);
    }

    walk.take_range(extents);
    for (; !walk.is_over(); walk.advance()) {
      Piece piece = walk.piece();
      // Broadcast so that the compiler keeps the loop over them in uniform registers.
      if constexpr (STREAM) piece.k_blocks = __shfl_sync(0xffffffffu, piece.k_blocks, 0);
      Accumulators accumulators;
      // With STREAM since finish_sums changes them: if the first product seemed to need what it left, the
      // compiler would hold them twice.
      if constexpr (K_BLOCKS == 0 || BLOCK_SCALED || STREAM) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS * SUMS; ++i) accumulators[i / SUMS][i % SUMS] = 0;
      }
      // A turn begins when the consumer before has seen all its stages full. Only then do the parities
      // that this one waits for mean the right trip around the ring: a waiter who is a whole trip
      // early takes the end of an older phase for its own.
      if constexpr (PINGPONG) named_barrier_sync(1 + consumer, 256);
      int unreleased = 0;  // The stage that the wgmma group still in flight reads.
      if constexpr (BLOCK_SCALED) {
        const TileOrigin tile(piece.tile, extents, rank);
        const BlockScales scales{scale_a, batch_stride_scale_a, row_stride_scale_a,
                                 scale_b, batch_stride_scale_b, row_stride_scale_b};
        const BlockFactors block_factors(scales, tile, tile.row + first_row + lane_index() / 4, m,
                                         piece.first_k_block);
#pragma unroll 1
        for (int k_block = 0; k_block < piece.k_blocks; ++k_block) {
          float factors[2 * ROW_STEPS];
          block_factors.load(factors, k_block);
          Accumulators products;
          mbarrier_wait(full_barriers + 8 * ring.stage, ring.parity);
          multiply_stage(products, rows_descriptor, columns_descriptor, ring.stage, 0);
          wgmma_wait_group<0>();
#pragma unroll
          for (int i = 0; i < ROW_STEPS; ++i) wgmma_pin(products[i]);
          release(ring.stage);
          ring.advance();
#pragma unroll
          for (int i = 0; i < ROW_STEPS * SUMS; ++i) {
            const int step = i / SUMS, at = i % SUMS;
            accumulators[step][at] =
                fmaf(products[step][at], factors[2 * step + at / 2 % 2], accumulators[step][at]);
          }
        }
      }
#pragma unroll 1
      for (int k_block = BLOCK_SCALED ? piece.k_blocks : 0; k_block < piece.k_blocks; ++k_block) {
        mbarrier_wait(full_barriers + 8 * ring.stage, ring.parity);
        multiply_stage(accumulators, rows_descriptor, columns_descriptor, ring.stage, k_block);
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
      if constexpr (PINGPONG) ring.template skip<K_BLOCKS*(CONSUMERS - 1)>();
      if constexpr (STREAM) {
        if (!finish_sums(accumulators, partials, piece, extents)) continue;
      }
      const TileOrigin tile(piece.tile, extents, rank);
      const Epilogue epilogue(
          bias, has_residual ? residual + tile.batch * batch_stride_residual : nullptr,
          row_stride_residual, scale_a, scale_b);
      const Destination<out_dtype> destination{c + tile.batch * batch_stride_c, row_stride_c, m};
      const int lane_row = tile.first_row() + first_row + lane_index() / 4;
      const int lane_column = tile.first_column() + lane_index() % 4 * 2;
      if constexpr (TMA_STORE) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
          store_rows<out_dtype>(c_map, epilogue, store_buffers, store_buffer, accumulators[i],
                                tile.first_row() + first_row + i * 64, tile, m);
        }
      } else if constexpr (!SPLIT) {
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
#pragma unroll
          for (int j = 0; j < TILE_COLUMNS / 8; ++j) {
            destination.store_piece(epilogue, accumulators[i] + 4 * j, lane_row + i * 64,
                                    lane_column + j * 8);
          }
        }
      } else {
        SplitSums sums;
        if constexpr (CLUSTER_K > 1) {
          add_cluster(sums, accumulators, shared, rank);
        } else {
#pragma unroll
          for (int i = 0; i < ROW_STEPS * SUMS; ++i) {
            sums[i / 4][i % 4] = accumulators[i / SUMS][i % SUMS];
          }
        }
        if constexpr (SPLIT_K > 1) {
          const int part = static_cast<int>(blockIdx.y);
          if (!combine_parts(sums, partials, ticket, partial_tile, part)) continue;
        }
#pragma unroll
        for (int i = 0; i < ROW_STEPS; ++i) {
#pragma unroll
          for (int j = 0; j < SHARE; ++j) {
            destination.store_piece(epilogue, sums[i * SHARE + j], lane_row + i * 64,
                                    lane_column + (k_share * SHARE + j) * 8);
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
