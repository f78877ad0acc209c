// Attention on Hopper (sm_90a): a block has tiles of BM queries of one head. One warp feeds q, and k
// and v in two rings of STAGES blocks of BN keys, through the copy engine (TMA). Each of CONSUMERS
// warpgroups has 64 queries; it multiplies q · kᵀ into registers, makes probabilities of the scores
// there, and multiplies them, still in registers, by v. Keys are walked from the last to the first.
//
//   OVERLAP: the next block's scores and the last block's share of the output are multiplied while the
//     softmax of a block runs in between.
//   PINGPONG: consumers take turns in issuing products, so that one multiplies while another computes
//     exponentials.
//   SCHEDULE persistent: as many blocks as multiprocessors walk over all tiles; single: a block a tile.
//   PACK: rows of a tile are the query heads that share k and v, query by query, instead of queries
//     of one head: for few queries, which would not fill the 64 rows of a product.
//   SPLIT: so many blocks have a share of a tile's keys each. The last one to finish puts their results
//     together, which pass through global memory, in a fixed order.
//   FMA_EXP2: one of so many exponentials is a polynomial: the special-function unit has only 16 a
//     cycle, which at a small head_dim is what everything else waits for. 0: none is.
//   SECTION: so many heads are worked on at a time, the longest tiles of all of them first when
//     causal. Their k and v should fit in the L2 cache.
//
// Exponentials are powers of 2: the factor of the scores and log2(e) are one multiplication, fused
// with the subtraction of the largest score. Blocks with keys that some query does not see go through
// another copy of the loop. Rows of zeros beyond head_dim, query_length and kv_length come from TMA.
#include "ptx/math.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/ring.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

namespace {

constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr bool PERSISTENT = SCHEDULE == SCHEDULE_kind::persistent;
constexpr int OUT_DIM = round_up(head_dim, 16);  // columns that are multiplied
constexpr int QUERIES = BM / GROUP;     // of a tile; rows beyond QUERIES * GROUP are not used
constexpr int BOXES = SHARED_DIM / 64;  // of 64 columns, 128 bytes
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;
constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

constexpr int K_OFFSET = Q_BYTES;
constexpr int V_OFFSET = K_OFFSET + STAGES * KV_BYTES;
constexpr int BARRIER_OFFSET = V_OFFSET + STAGES * KV_BYTES;
static_assert(BARRIER_OFFSET + 16 + 32 * STAGES <= shared_bytes, "the manifest's shared memory");
static_assert(BN % 16 == 0 && BM == 64 * CONSUMERS);
static_assert(QUERIES > 0);
static_assert(!PINGPONG || (OVERLAP && CONSUMERS > 1));

// Barriers, as addresses of shared memory.
struct Barriers {
  u32 q_full, q_empty, k_full, k_empty, v_full, v_empty;

  __device__ __forceinline__ explicit Barriers(u32 first)
      : q_full(first),
        q_empty(first + 8),
        k_full(first + 16),
        k_empty(k_full + 8 * STAGES),
        v_full(k_empty + 8 * STAGES),
        v_empty(v_full + 8 * STAGES) {}
  __device__ __forceinline__ void init() const {
    mbarrier_init(q_full, 1);
    mbarrier_init(q_empty, CONSUMERS);
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(k_full + 8 * i, 1);
      mbarrier_init(v_full + 8 * i, 1);
      mbarrier_init(k_empty + 8 * i, CONSUMERS);
      mbarrier_init(v_empty + 8 * i, CONSUMERS);
    }
    mbarrier_init_fence();
  }
};

// The problem's sizes.
struct Sizes {
  int batch, heads, heads_a_kv_head, query_length, kv_length;
  int reach;  // with windowed, a query sees keys less than this away

  __device__ __forceinline__ int query_blocks() const { return ceil_div(query_length, QUERIES); }
  // Heads, or with PACK groups of them.
  __device__ __forceinline__ int groups() const { return heads / GROUP; }
  __device__ __forceinline__ int work() const { return query_blocks() * groups() * batch * SPLIT; }
  // Keys that the queries from position `first` to `last` see lie from low_key to below high_key. The
  // position of a query is the index of the key that it stands at.
  __device__ __forceinline__ int low_key(int first) const {
    return windowed ? max(0, first - reach + 1) : 0;
  }
  __device__ __forceinline__ int high_key(int last) const {
    if constexpr (causal) return min(kv_length, last + 1);
    return windowed ? min(kv_length, last + reach) : kv_length;
  }
};

// QUERIES queries of a head or a group of them, and the blocks of keys that this block multiplies them
// with: from `low` to below `high`.
struct Tile {
  int index;
  int first_query, group, batch;
  int first_position;
  int low, high;
  int part;  // of SPLIT

  __device__ __forceinline__ Tile(int work, const Sizes& sizes) {
    index = work / SPLIT;
    part = work - index * SPLIT;
    const int query_blocks = sizes.query_blocks(), heads = sizes.groups() * sizes.batch;
    const int section = index / (SECTION * query_blocks);
    const int within = index - section * (SECTION * query_blocks);
    const int section_heads = min(SECTION, heads - section * SECTION);
    const int along = within / section_heads;
    const int any_head = section * SECTION + within - along * section_heads;
    batch = any_head / sizes.groups();
    group = any_head - batch * sizes.groups();
    first_query = (causal ? query_blocks - 1 - along : along) * QUERIES;
    first_position = first_query + sizes.kv_length - sizes.query_length;
    const int last_position =
        min(first_query + QUERIES, sizes.query_length) - 1 + sizes.kv_length - sizes.query_length;
    low = sizes.low_key(first_position) / BN;
    high = ceil_div(max(0, sizes.high_key(last_position)), BN);
    low = min(low, high);
    if constexpr (SPLIT > 1) {
      const int blocks = high - low;
      high = low + blocks * (part + 1) / SPLIT;
      low += blocks * part / SPLIT;
    }
  }
  __device__ __forceinline__ int kv_head(const Sizes& sizes) const {
    return GROUP > 1 ? group : group / sizes.heads_a_kv_head;
  }
};

// The tiles of a block, one after another.
struct Walk {
  int round = 0;

  // The number of the next piece of work; work() or more when there is none. When causal, tiles become shorter:
  // every other round goes backwards, which evens out what the blocks get.
  __device__ __forceinline__ int next() {
    const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
    const int at = causal && round % 2 == 1 ? blocks - 1 - block : block;
    return round++ * blocks + at;
  }
};

// Copies the rows of q, or of a block of k or v, to shared memory, 64 columns a box.
__device__ __forceinline__ void load_queries(u32 destination, const TensorMap& map, u32 full,
                                             const Tile& tile) {
  mbarrier_arrive_expect_bytes(full, QUERIES * GROUP * SHARED_DIM * 2);
#pragma unroll
  for (int box = 0; box < BOXES; ++box) {
    tma_load_5d(destination + box * (BM * 128), &map, full, box * 64, 0, tile.first_query,
                tile.group, tile.batch);
  }
}
__device__ __forceinline__ void load_block(u32 destination, const TensorMap& map, u32 full,
                                           int kv_head, int block, int batch) {
  mbarrier_arrive_expect_bytes(full, KV_BYTES);
#pragma unroll
  for (int box = 0; box < BOXES; ++box) {
    tma_load_4d(destination + box * (BN * 128), &map, full, box * 64, kv_head, block * BN, batch);
  }
}

// 2^x of the column with this number of those of a thread.
template <bool MASKED>
__device__ __forceinline__ float exponential(float x, int column) {
  // -infinity is for the special-function unit.
  if (!MASKED && FMA_EXP2 > 0 && column % maximum(1, FMA_EXP2) == 1) return exp2_by_fma(x);
  return exp2_approx(x);
}

// The row of a tile that a thread's first accumulators belong to; the others are 8 further down.
__device__ __forceinline__ int first_row() { return (warp_index() - 4) * 16 + lane_index() / 4; }

// 64 rows of one warpgroup: what a thread of it knows of its two, those of the accumulators with bit 1
// of the index clear, and set.
struct Rows {
  float largest[2];     // of the scores so far; -infinity before the first
  float total[2];       // of the exponentials in this thread's columns
  float shrink[2];      // what totals and sums of earlier blocks are multiplied by
  int low[2], high[2];  // Keys seen, relative to this thread's first column of block 0.

  __device__ __forceinline__ Rows(int first_position, const Sizes& sizes) {
    const int column = lane_index() % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      largest[i] = __uint_as_float(0xff800000u);
      total[i] = 0.0f;
      const int position = first_position + (first_row() + i * 8) / GROUP;
      low[i] = sizes.low_key(position) - column;
      high[i] = sizes.high_key(position) - column;
    }
  }

  // Makes exponentials of the scores of a block, and takes them into the totals.
  template <bool MASKED>
  __device__ __forceinline__ void softmax(float (&scores)[BN / 2], int block, float factor,
                                          float inner_factor) {
    if constexpr (capped) {
#pragma unroll
      for (float& score : scores) score = tanh_approx(score * inner_factor);
    }
    if constexpr (MASKED) {
#pragma unroll
      for (int j = 0; j < BN / 2; ++j) {
        const int column = block * BN + j / 4 * 8 + j % 2, i = j / 2 % 2;
        const bool seen = column < high[i] && (!windowed || column >= low[i]);
        if (!seen) scores[j] = __uint_as_float(0xff800000u);
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float now = largest[i];
#pragma unroll
      for (int j = 0; j < BN / 8; ++j) {
        now = fmaxf(now, fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
      }
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
      // A row may not have seen any key yet: its scores are -infinity, as they shall stay.
      const float subtract = MASKED && now == __uint_as_float(0xff800000u) ? 0.0f : now * factor;
      shrink[i] = exp2_approx(fmaf(largest[i], factor, -subtract));
      largest[i] = now;
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < BN / 8; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& score = scores[4 * j + 2 * i + e];
          score = exponential<MASKED>(fmaf(score, factor, -subtract), 2 * j + e);
          sum += score;
        }
      }
      total[i] = fmaf(total[i], shrink[i], sum);
    }
  }
  // The totals over all columns.
  __device__ __forceinline__ void add_columns() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      total[i] += __shfl_xor_sync(0xffffffffu, total[i], 1);
      total[i] += __shfl_xor_sync(0xffffffffu, total[i], 2);
    }
  }
};

// Probabilities of 16 keys each, as an operand of wgmma.
using Probabilities = u32[BN / 16][4];

__device__ __forceinline__ void round_probabilities(Probabilities& p, const float (&s)[BN / 2]) {
#pragma unroll
  for (int j = 0; j < BN / 4; ++j) p[j / 4][j % 4] = pack2<dtype>(s[2 * j], s[2 * j + 1]);
}

// Issues the products of scores as a group.
__device__ __forceinline__ void multiply_scores(float (&scores)[BN / 2], u64 q_descriptor,
                                                u64 k_descriptor) {
#pragma unroll
  for (int step = 0; step < OUT_DIM / 16; ++step) {
    const int box = step / 4, bytes = step % 4 * 32;
    wgmma<dtype, dtype, BN, 0, 0>(scores, wgmma_advance(q_descriptor, box * (BM * 128) + bytes),
                                  wgmma_advance(k_descriptor, box * (BN * 128) + bytes),
                                  step > 0 ? 1 : 0);
  }
  wgmma_commit_group();
}

// Issues the products of a block's probabilities and values, added to the sums, as a group.
__device__ __forceinline__ void multiply_values(float (&sums)[OUT_DIM / 2], const Probabilities& p,
                                                u64 v_descriptor) {
#pragma unroll
  for (int step = 0; step < BN / 16; ++step) {
    wgmma_registers<dtype, OUT_DIM, 1>(sums, p[step], wgmma_advance(v_descriptor, step * 2048), 1);
  }
  wgmma_commit_group();
}

__device__ __forceinline__ void shrink_sums(float (&sums)[OUT_DIM / 2], const float (&by)[2]) {
#pragma unroll
  for (int j = 0; j < OUT_DIM / 2; ++j) sums[j] *= by[j / 2 % 2];
}

// Four lanes hold 4 words each: afterwards lane l has word l of each, in the order of the lanes.
__device__ __forceinline__ void transpose_quad(u32 (&words)[4]) {
  const int lane = lane_index();
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (lane & bit) != 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int first = bit == 1 ? 2 * pair : pair;
      u32 &a = words[first], &b = words[first + bit];
      const u32 other = __shfl_xor_sync(0xffffffffu, upper ? a : b, bit);
      if (upper) {
        a = other;
      } else {
        b = other;
      }
    }
  }
}

// Stores two rows of sums, 8 apart, times their factors. `out` is the first row's; a null second row is
// beyond the end, as both may be.
__device__ __forceinline__ void store_rows(dtype* first, dtype* second,
                                           const float (&sums)[OUT_DIM / 2],
                                           const float (&factors)[2]) {
#pragma unroll
  for (int group = 0; group < ceil_div(OUT_DIM, 32); ++group) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      u32 words[4];
#pragma unroll
      for (int piece = 0; piece < 4; ++piece) {
        const int j = 4 * (4 * group + piece) + 2 * i;
        words[piece] =
            j < OUT_DIM / 2 ? pack2<dtype>(sums[j] * factors[i], sums[j + 1] * factors[i]) : 0;
      }
      transpose_quad(words);
      dtype* const row = i == 0 ? first : second;
      const int column = group * 32 + lane_index() % 4 * 8;
      if (row != nullptr && column < head_dim) {
        store_16(row + column, make_uint4(words[0], words[1], words[2], words[3]));
      }
    }
  }
}

// Every block of a tile calls this with its own results, and leaves them in `partials`. In the one that
// is last they are replaced by those of all parts together, and true is returned. Parts are taken in
// their order, so that equal inputs give equal bits. Each warpgroup counts for itself; only a thread with
// the same index reads what a thread wrote.
__device__ __forceinline__ bool combine_parts(Rows& rows, float (&sums)[OUT_DIM / 2],
                                              const bool (&exist)[2], float factor, float* partials,
                                              u32* counters, int tile, int part) {
  constexpr int GROUP_THREADS = 128 * CONSUMERS;
  constexpr int PART_FLOATS = GROUP_THREADS * (4 + OUT_DIM / 2);
  const int thread = static_cast<int>(threadIdx.x) - 128;
  const int barrier = 8 + thread / 128;
  float* const parts = partials + static_cast<i64>(tile) * SPLIT * PART_FLOATS;
  const auto statistics_of = [&](int other) {
    return reinterpret_cast<float4*>(parts + other * PART_FLOATS) + thread;
  };
  const auto sums_of = [&](int other) {
    return reinterpret_cast<float2*>(parts + other * PART_FLOATS + 4 * GROUP_THREADS) + thread;
  };
  *statistics_of(part) =
      make_float4(rows.largest[0], rows.largest[1], rows.total[0], rows.total[1]);
#pragma unroll
  for (int j = 0; j < OUT_DIM / 4; ++j) {
    if (exist[j % 2]) {
      sums_of(part)[j * GROUP_THREADS] = make_float2(sums[2 * j], sums[2 * j + 1]);
    }
  }

  // As in split_k.cuh: write, fence, count.
  __threadfence();
  named_barrier_sync(barrier, 128);
  bool is_last = false;
  if (thread % 128 == 0) {
    u32* const counter = counters + tile * CONSUMERS + thread / 128;
    is_last = atomicAdd(counter, 1u) == SPLIT - 1;
    if (is_last) *counter = 0;
  }
  if (!named_barrier_any(barrier, 128, is_last)) return false;
  __threadfence();

  float largest[2] = {__uint_as_float(0xff800000u), __uint_as_float(0xff800000u)};
  for (int other = 0; other < SPLIT; ++other) {
    const float4 theirs = __ldcg(statistics_of(other));
    largest[0] = fmaxf(largest[0], theirs.x);
    largest[1] = fmaxf(largest[1], theirs.y);
  }
  float subtract[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    rows.largest[i] = largest[i];
    rows.total[i] = 0.0f;
    subtract[i] = largest[i] == __uint_as_float(0xff800000u) ? 0.0f : largest[i] * factor;
  }
#pragma unroll
  for (float& sum : sums) sum = 0.0f;
#pragma unroll 1
  for (int other = 0; other < SPLIT; ++other) {
    const float4 theirs = __ldcg(statistics_of(other));
    const float weights[2] = {exp2_approx(fmaf(theirs.x, factor, -subtract[0])),
                              exp2_approx(fmaf(theirs.y, factor, -subtract[1]))};
    rows.total[0] = fmaf(theirs.z, weights[0], rows.total[0]);
    rows.total[1] = fmaf(theirs.w, weights[1], rows.total[1]);
#pragma unroll
    for (int j = 0; j < OUT_DIM / 4; ++j) {
      if (!exist[j % 2]) continue;
      const float2 value = __ldcg(sums_of(other) + j * GROUP_THREADS);
      sums[2 * j] = fmaf(value.x, weights[j % 2], sums[2 * j]);
      sums[2 * j + 1] = fmaf(value.y, weights[j % 2], sums[2 * j + 1]);
    }
  }
  return true;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
              const __grid_constant__ TensorMap v_map, dtype* out, i64 batch_stride_out,
              i64 sequence_stride_out, i64 head_stride_out, float* lse, float* partials,
              u32* counters, int batches, int heads, int heads_a_kv_head, int query_length,
              int kv_length, float scale, float softcap, float window) {
  extern __shared__ __align__(1024) u8 shared_memory[];
  const u32 shared = shared_address(shared_memory);
  const Barriers barriers(shared + BARRIER_OFFSET);
  const Sizes sizes{batches,         heads,
                    heads_a_kv_head, query_length,
                    kv_length,       static_cast<int>(fminf(fmaxf(ceilf(window), 0.0f), 1e9f))};
  const int warp = warp_index();
  const int warpgroup = warp / 4;

  if (threadIdx.x == 0) {
    if (kv_length > 0) {  // Without elements there are no maps.
      tma_prefetch_map(&q_map);
      tma_prefetch_map(&k_map);
      tma_prefetch_map(&v_map);
    }
    barriers.init();
  }
  __syncthreads();
  const int work = sizes.work();
  Walk walk;

  if (warpgroup == 0) {
    if constexpr (CONSUMERS > 1) registers_decrease<PRODUCER_REGISTERS>();
    if (warp != 0 || lane_index() != 0) return;
    RingPosition<STAGES> k_ring, v_ring;
    u32 q_parity = 0;
    for (int index = walk.next(); index < work; index = walk.next()) {
      const Tile tile(index, sizes);
      if (tile.low == tile.high) continue;
      const int kv_head = tile.kv_head(sizes);
      // Values follow the keys at a distance of one block: that is the order in which they are used.
#pragma unroll 1
      for (int block = tile.high - 1; block >= tile.low - 1; --block) {
        if (block >= tile.low) {
          mbarrier_wait(barriers.k_empty + 8 * k_ring.stage, k_ring.parity ^ 1);
          load_block(shared + K_OFFSET + k_ring.stage * KV_BYTES, k_map,
                     barriers.k_full + 8 * k_ring.stage, kv_head, block, tile.batch);
          k_ring.advance();
        }
        if (block == tile.high - 1) {
          mbarrier_wait(barriers.q_empty, q_parity ^ 1);
          load_queries(shared, q_map, barriers.q_full, tile);
          q_parity ^= 1;
        } else {
          mbarrier_wait(barriers.v_empty + 8 * v_ring.stage, v_ring.parity ^ 1);
          load_block(shared + V_OFFSET + v_ring.stage * KV_BYTES, v_map,
                     barriers.v_full + 8 * v_ring.stage, kv_head, block + 1, tile.batch);
          v_ring.advance();
        }
      }
    }
    return;
  }

  if constexpr (CONSUMERS > 1) registers_increase<CONSUMER_REGISTERS>();
  const int consumer = warpgroup - 1;
  const bool tells = threadIdx.x % 128 == 0;  // One thread a warpgroup says what has been read.
  if (scale == 0.0f) scale = rsqrtf(static_cast<float>(head_dim));
  const float factor = (capped ? softcap : scale) * LOG2_E;
  const float inner_factor = capped ? scale / softcap : 0.0f;
  const u64 q_descriptor = wgmma_descriptor_128b(shared + consumer * (64 * 128), 16, 1024);
  const u64 k_descriptors = wgmma_descriptor_128b(shared + K_OFFSET, 16, 1024);
  const u64 v_descriptors = wgmma_descriptor_128b(shared + V_OFFSET, BN * 128, 1024);
  RingPosition<STAGES> k_ring, v_ring;
  u32 q_parity = 0;
  if constexpr (PINGPONG) {
    if (consumer == CONSUMERS - 1) named_barrier_arrive(1, 256);  // The first one's first turn.
  }

  for (int index = walk.next(); index < work; index = walk.next()) {
    const Tile tile(index, sizes);
    Rows rows(tile.first_position, sizes);
    float sums[OUT_DIM / 2];
#pragma unroll
    for (float& sum : sums) sum = 0.0f;
    if (tile.low < tile.high) {
      float scores[BN / 2];
      Probabilities p;
      int block = tile.high - 1;

      const auto issue_scores = [&] {
        wgmma_pin(scores);
        multiply_scores(scores, q_descriptor,
                        wgmma_advance(k_descriptors, k_ring.stage * KV_BYTES));
      };
      const auto issue_values = [&] {
        mbarrier_wait(barriers.v_full + 8 * v_ring.stage, v_ring.parity);
        wgmma_pin(sums);
        multiply_values(sums, p, wgmma_advance(v_descriptors, v_ring.stage * KV_BYTES));
      };
      const auto wait_k = [&] { mbarrier_wait(barriers.k_full + 8 * k_ring.stage, k_ring.parity); };
      const auto release_k = [&] {
        if (tells) mbarrier_arrive(barriers.k_empty + 8 * k_ring.stage);
        k_ring.advance();
      };
      const auto release_v = [&] {
        if (tells) mbarrier_arrive(barriers.v_empty + 8 * v_ring.stage);
        v_ring.advance();
      };
      const auto finish_values = [&] {
        wgmma_wait_group<0>();
        wgmma_pin(sums);
        release_v();
      };

      // A block's scores and exponentials; with OVERLAP, the last one's values meanwhile.
      const auto step = [&](auto masked) {
        if constexpr (!OVERLAP) wait_k();
        if constexpr (PINGPONG) named_barrier_sync(1 + consumer, 256);
        wgmma_fence();
        issue_scores();
        if constexpr (OVERLAP) issue_values();
        if constexpr (PINGPONG) named_barrier_arrive(1 + (consumer + 1) % CONSUMERS, 256);
        wgmma_wait_group<OVERLAP ? 1 : 0>();
        wgmma_pin(scores);
        release_k();
        rows.template softmax<masked.value != 0>(scores, block, factor, inner_factor);
        if constexpr (OVERLAP) {
          // Here, so that this wait's loop stands between the exponentials and the next wait, which the
          // assembler would move in front of them otherwise.
          if (block > tile.low) wait_k();
          finish_values();
        }
        shrink_sums(sums, rows.shrink);
        round_probabilities(p, scores);
        if constexpr (!OVERLAP) {
          wgmma_fence();
          issue_values();
          finish_values();
        }
      };

      mbarrier_wait(barriers.q_full, q_parity);
      wait_k();
      wgmma_fence();
      issue_scores();
      wgmma_wait_group<0>();
      wgmma_pin(scores);
      release_k();
      rows.template softmax<true>(scores, block, factor, inner_factor);
      round_probabilities(p, scores);
      if constexpr (!OVERLAP) {
        wgmma_fence();
        issue_values();
        finish_values();
      }

      // Blocks that all 64 rows see all of lie between.
      const int position = tile.first_position + consumer * 64 / GROUP;
      const int last_position = tile.first_position + (consumer * 64 + 63) / GROUP;
      const int seen_high = max(0, sizes.high_key(position)) / BN;
      const int seen_low = windowed ? ceil_div(sizes.low_key(last_position), BN) : 0;
      if (OVERLAP && block > tile.low) wait_k();
      --block;
      if constexpr (causal || windowed) {
#pragma unroll 1
        for (; block >= max(tile.low, seen_high); --block) step(constant<1>());
      }
#pragma unroll 1
      for (; block >= max(tile.low, seen_low); --block) step(constant<0>());
      if constexpr (windowed) {
#pragma unroll 1
        for (; block >= tile.low; --block) step(constant<1>());
      }

      if (tells) mbarrier_arrive(barriers.q_empty);
      q_parity ^= 1;
      if constexpr (OVERLAP) {
        wgmma_fence();
        issue_values();
        finish_values();
      }
    }

    rows.add_columns();
    dtype* starts[2];  // Where the rows lie in the output; null where they do not exist.
    i64 lse_at[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = first_row() + i * 8;
      const int query = tile.first_query + row / GROUP;
      const int head = tile.group * GROUP + row % GROUP;
      const bool exists = row < QUERIES * GROUP && query < query_length;
      starts[i] = exists ? out + tile.batch * batch_stride_out + query * sequence_stride_out +
                               head * head_stride_out
                         : nullptr;
      lse_at[i] = (static_cast<i64>(tile.batch) * heads + head) * query_length + query;
    }
    if constexpr (SPLIT > 1) {
      const bool exist[2] = {starts[0] != nullptr, starts[1] != nullptr};
      if (!combine_parts(rows, sums, exist, factor, partials, counters, tile.index, tile.part)) {
        continue;
      }
    }
    float factors[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float total = rows.total[i];
      factors[i] = total > 0.0f ? 1.0f / total : 0.0f;
      if constexpr (has_lse) {
        if (starts[i] != nullptr && lane_index() % 4 == 0) {
          lse[lse_at[i]] = total > 0.0f ? fmaf(rows.largest[i], factor * LN_2, logf(total))
                                        : __uint_as_float(0xff800000u);
        }
      }
    }
    store_rows(starts[0], starts[1], sums, factors);
  }
}
