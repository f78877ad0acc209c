// Attention on Hopper (sm_90a): a block has tiles of BM queries of one head. One warp feeds q, and k
// and v in two rings of STAGES blocks of BN keys, through the copy engine (TMA). Each of CONSUMERS
// warpgroups has 64 queries; it multiplies q · kᵀ into registers, makes probabilities of the scores
// there, and multiplies them by v. Keys are walked from the last to the first.
//
//   OVERLAP: the next block's scores and the last block's share of the output are multiplied while the
//     softmax of a block runs in between.
//   PINGPONG: consumers take turns in issuing products, so that one multiplies while another computes
//     exponentials.
//   PROBABILITIES: they stay in registers, or pass through shared memory, which leaves registers for more keys.
//   CLUSTER: so many blocks take neighbouring tiles of a head; each copies a share of the keys and values that
//     they have in common to all of them.
//   SCHEDULE persistent: as many blocks as multiprocessors walk over all tiles, each (cluster) over its own;
//     dynamic: whoever is done takes the next, which evens out what tiles, and multiprocessors, differ;
//     single: a block a tile.
//   QUERY_STAGES: with 2 the queries of the next tile are there before those of a tile are done with.
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
#include "attention/probabilities.cuh"
#include "attention/rows.cuh"
#include "attention/tiles.cuh"
#include "attention/walk.cuh"
#include "ptx/cluster.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/ring.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

namespace {

constexpr int THREADS = 128 * (CONSUMERS + 1);
constexpr int BOXES = SHARED_DIM / 64;  // of 64 columns, 128 bytes
constexpr int PRODUCER_REGISTERS = CONSUMERS == 2 ? 24 : 32;
constexpr int CONSUMER_REGISTERS = CONSUMERS == 2 ? 240 : 160;

constexpr bool DYNAMIC = SCHEDULE == SCHEDULE_kind::dynamic;
constexpr bool P_IN_SHARED = PROBABILITIES == PROBABILITIES_kind::shared;
// Warps beside the producer put the parts of tiles together where a block has several, so that the consumer goes on
// meanwhile: to count the parts that are done takes two trips through memory. With more consumers they lack the
// registers.
constexpr bool COMBINE_ASIDE = SPLIT > 1 && CONSUMERS == 1;
constexpr int COMBINING_WARPS = 3;
using CombiningWarps = NamedGroup<7, 32, 32 * COMBINING_WARPS>;
// Parts that the consumer may have left and those warps not counted.
constexpr int LEFT = 2;

constexpr int K_OFFSET = QUERY_STAGES * Q_BYTES;
constexpr int V_OFFSET = K_OFFSET + STAGES * KV_BYTES;
constexpr int P_OFFSET = V_OFFSET + STAGES * KV_BYTES;
constexpr int BARRIER_OFFSET = P_OFFSET + (P_IN_SHARED ? CONSUMERS * P_BYTES : 0);
constexpr int BARRIERS = 2 * QUERY_STAGES + 4 * STAGES + 2 * DRAWN + 2 * LEFT;
constexpr int DRAWN_OFFSET = BARRIER_OFFSET + 8 * BARRIERS;
static_assert(DRAWN_OFFSET + 4 * DRAWN <= shared_bytes, "the manifest's shared memory");
static_assert(BN % 16 == 0 && BM == 64 * CONSUMERS);
static_assert(!PINGPONG || (OVERLAP && CONSUMERS > 1));
// Rows of k and v that one copy brings: those of a block, a share of them, or as many as lie in one page.
static_assert(BN % BOX_KEYS == 0 && (!has_block_table || PAGE % BOX_KEYS == 0) &&
              BOX_KEYS % 8 == 0);
static_assert(CLUSTER == 1 || (BOX_KEYS * CLUSTER == BN && !has_block_table && !DYNAMIC));
// Behind a sequence's keys lie others, or whatever was in memory.
constexpr bool OTHERS_BEHIND = has_cu_keys || has_kv_lengths;

// Barriers, as addresses of shared memory.
struct Barriers {
  u32 q_full, q_empty, k_full, k_empty, v_full, v_empty, drawn_full, drawn_empty, left_full,
      left_empty;

  __device__ __forceinline__ explicit Barriers(u32 first)
      : q_full(first),
        q_empty(q_full + 8 * QUERY_STAGES),
        k_full(q_empty + 8 * QUERY_STAGES),
        k_empty(k_full + 8 * STAGES),
        v_full(k_empty + 8 * STAGES),
        v_empty(v_full + 8 * STAGES),
        drawn_full(v_empty + 8 * STAGES),
        drawn_empty(drawn_full + 8 * DRAWN),
        left_full(drawn_empty + 8 * DRAWN),
        left_empty(left_full + 8 * LEFT) {}
  __device__ __forceinline__ void init() const {
    for (int i = 0; i < QUERY_STAGES; ++i) {
      mbarrier_init(q_full + 8 * i, 1);
      mbarrier_init(q_empty + 8 * i, CONSUMERS);
    }
    for (int i = 0; DYNAMIC && i < DRAWN; ++i) {
      mbarrier_init(drawn_full + 8 * i, 1);
      mbarrier_init(drawn_empty + 8 * i, 4 * CONSUMERS + (COMBINE_ASIDE ? COMBINING_WARPS : 0));
    }
    for (int i = 0; COMBINE_ASIDE && i < LEFT; ++i) {
      mbarrier_init(left_full + 8 * i, 4);
      mbarrier_init(left_empty + 8 * i, COMBINING_WARPS);
    }
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(k_full + 8 * i, 1);
      mbarrier_init(v_full + 8 * i, 1);
      // Empty when its readers in every block of the cluster are done.
      mbarrier_init(k_empty + 8 * i, CLUSTER * CONSUMERS);
      mbarrier_init(v_empty + 8 * i, CLUSTER * CONSUMERS);
    }
    mbarrier_init_fence();
  }
};

__device__ __forceinline__ auto producer_walk(const DrawnRing& ring, u32* counter, int work) {
  if constexpr (DYNAMIC) {
    return Draw(counter, work, ring);
  } else {
    return Walk{};
  }
}
__device__ __forceinline__ auto follower_walk(const DrawnRing& ring) {
  if constexpr (DYNAMIC) {
    return Drawn{ring};
  } else {
    return Walk{};
  }
}

// Copies the rows of q, or of a block of k or v, to shared memory, 64 columns a box. Those of q that a tile
// lacks where there are few queries are not written: what lies there ends in rows that are not stored.
__device__ __forceinline__ void load_queries(u32 destination, const TensorMap& map, u32 full,
                                             const Tile& tile, int first_row, int box_queries) {
  mbarrier_arrive_expect_bytes(full, box_queries * (GROUP * SHARED_DIM * 2));
#pragma unroll
  for (int box = 0; box < BOXES; ++box) {
    tma_load_5d(destination + box * (BM * 128), &map, full, box * 64, 0,
                has_cu_queries ? first_row + tile.first_query : tile.first_query, tile.group,
                has_cu_queries ? 0 : tile.batch);
  }
}

// Where the keys of a sequence lie.
struct KeyPlace {
  int batch,
      start;  // the index of the sequence, 0 where they lie one behind the other from `start` on
  int keys, low_key;  // how many, and the first that the tile's queries see
  const int* pages;

  __device__ __forceinline__ KeyPlace(const Tile& tile, const Sizes& sizes)
      : batch(has_cu_keys ? 0 : tile.batch),
        start(sizes.sequences.key_start(tile.batch)),
        keys(sizes.kv_length),
        low_key(tile.low_key),
        pages(sizes.sequences.pages_of(tile.batch)) {}
};

__device__ __forceinline__ void load_block(u32 destination, const TensorMap& map, u32 full,
                                           int kv_head, int block, const KeyPlace& place,
                                           u64 policy, int rank) {
  if constexpr (has_block_table) {
    // Pages that have no key of the sequence are not in its table, and those in front of the window need not be:
    // page −1 is outside of the tensor, so that zeros come.
    const int boxes = min(BN / BOX_KEYS, ceil_div(place.keys - block * BN, BOX_KEYS));
    mbarrier_arrive_expect_bytes(full, boxes * (BOX_KEYS * SHARED_DIM * 2));
#pragma unroll 4
    for (int i = 0; i < boxes; ++i) {
      const int key = block * BN + i * BOX_KEYS;
      const bool seen = !windowed || key + BOX_KEYS > place.low_key;
      const int page = seen ? place.pages[key / PAGE] : -1;
#pragma unroll
      for (int box = 0; box < BOXES; ++box) {
        tma_load_4d_policy(destination + box * (BN * 128) + i * (BOX_KEYS * 128), &map, full,
                           box * 64, kv_head, key % PAGE, page, policy);
      }
    }
    return;
  }
  mbarrier_arrive_expect_bytes(full, KV_BYTES);
  const int share = rank * BOX_KEYS;
  const int first = (has_cu_keys ? place.start : 0) + block * BN + share;
#pragma unroll
  for (int box = 0; box < BOXES; ++box) {
    const u32 to = destination + box * (BN * 128) + share * 128;
    if constexpr (CLUSTER > 1) {
      constexpr u16 ALL_BLOCKS = (1 << CLUSTER) - 1;
      tma_load_4d_multicast(to, &map, full, box * 64, kv_head, first, place.batch, ALL_BLOCKS);
    } else {
      tma_load_4d_policy(to, &map, full, box * 64, kv_head, first, place.batch, policy);
    }
  }
}

// The row of a tile that a thread's first accumulators belong to.
__device__ __forceinline__ int first_row() { return (warp_index() - 4) * 16 + lane_index() / 4; }

// A warpgroup that counts for itself where keys are split: see is_last_part.
template <int FIRST_BARRIER>
struct Consumer {
  int index;

  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x) % 128; }
  __device__ __forceinline__ void sync() const { named_barrier_sync(FIRST_BARRIER + index, 128); }
  __device__ __forceinline__ bool any(bool predicate) const {
    return named_barrier_any(FIRST_BARRIER + index, 128, predicate);
  }
};

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

__device__ __forceinline__ auto place_of_probabilities(u32 shared, int consumer) {
  if constexpr (P_IN_SHARED) {
    return ProbabilitiesInShared(shared + P_OFFSET + consumer * P_BYTES, 8 + consumer);
  } else {
    return ProbabilitiesInRegisters();
  }
}

// Zeroes the rows of a block of values from `first` on, by the threads of a warpgroup: they are multiplied by
// zero, which makes no zero of what may be a NaN. Others may do the same at once.
template <typename Group>
__device__ __forceinline__ void clear_rows(u8* block, int first, const Group& group) {
#pragma unroll
  for (int box = 0; box < BOXES; ++box) {
    for (int at = first * 128 + group.thread() * 16; at < BN * 128; at += 128 * 16) {
      store_16(block + box * (BN * 128) + at, make_uint4(0, 0, 0, 0));
    }
  }
  async_proxy_fence();
  group.sync();
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
              const __grid_constant__ TensorMap v_map, dtype* out, i64 batch_stride_out,
              i64 sequence_stride_out, i64 head_stride_out, float* lse, float* partials,
              u32* counters, int batches, int heads, int heads_a_kv_head, int query_length,
              int kv_length, int box_queries, int part_rows, int reads_once, float scale,
              float softcap, int window, const int* cu_queries, const int* cu_keys,
              const int* block_table, const int* kv_lengths, int pages_a_sequence, int queries) {
  extern __shared__ __align__(1024) u8 shared_memory[];
  const u32 shared = shared_address(shared_memory);
  const Barriers barriers(shared + BARRIER_OFFSET);
  const Sequences sequences{cu_queries, cu_keys,          block_table,
                            kv_lengths, pages_a_sequence, queries};
  Sizes sizes{batches, heads, heads_a_kv_head, query_length, kv_length, window, sequences};
  const int warp = warp_index();
  const int warpgroup = warp / 4;
  const int rank = CLUSTER > 1 ? cluster_rank() : 0;

  if (threadIdx.x == 0) {
    if (kv_length > 0) {  // Without elements there are no maps.
      tma_prefetch_map(&q_map);
      tma_prefetch_map(&k_map);
      tma_prefetch_map(&v_map);
    }
    barriers.init();
  }
  if constexpr (CLUSTER > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  } else {
    __syncthreads();
  }
  const int work = sizes.work();
  const bool several = work > static_cast<int>(gridDim.x);  // pieces, for some blocks
  const DrawnRing drawn_ring{reinterpret_cast<volatile int*>(shared_memory + DRAWN_OFFSET),
                             barriers.drawn_full, barriers.drawn_empty};
  u32* const finished_parts = counters + 1;
  const Factors factors(scale, softcap);
  const Destination destination{out, batch_stride_out, sequence_stride_out, head_stride_out};

  if (warpgroup == 0) {
    if constexpr (CONSUMERS > 1) registers_decrease<PRODUCER_REGISTERS>();
    if constexpr (COMBINE_ASIDE) {
      if (warp != 0) {
        if (!several) return;
        auto walk = follower_walk(drawn_ring);
        RingPosition<LEFT> left_ring;
        for (int index = walk.next(); index < work; index = walk.next()) {
          const Tile tile(index, sizes);
          mbarrier_wait(barriers.left_full + 8 * left_ring.stage, left_ring.parity);
          __syncwarp();
          if (lane_index() == 0) mbarrier_arrive(barriers.left_empty + 8 * left_ring.stage);
          left_ring.advance();
          if (!is_last_part(CombiningWarps(), finished_parts + tile.index)) continue;
          Parts(partials, tile.index, part_rows)
              .combine<BM, CombiningWarps::THREADS>(0, CombiningWarps::thread(), destination, lse,
                                                    tile, sizes, factors);
        }
        return;
      }
    }
    if (warp != 0 || lane_index() != 0) return;
    auto walk = producer_walk(drawn_ring, counters, work);
    RingPosition<STAGES> k_ring, v_ring;
    RingPosition<QUERY_STAGES> q_ring;
    const u64 policy = reads_once != 0 ? l2_policy_evict_first() : l2_policy_normal();
    for (int index = walk.next(); index < work; index = walk.next()) {
      const Tile tile(index, sizes, rank);
      if (tile.low == tile.high) continue;
      const int kv_head = tile.kv_head(sizes);
      const KeyPlace place(tile, sizes);
      // Values follow the keys at a distance of one block: that is the order in which they are used.
#pragma unroll 1
      for (int block = tile.high - 1; block >= tile.low - 1; --block) {
        if (block >= tile.low) {
          mbarrier_wait(barriers.k_empty + 8 * k_ring.stage, k_ring.parity ^ 1);
          load_block(shared + K_OFFSET + k_ring.stage * KV_BYTES, k_map,
                     barriers.k_full + 8 * k_ring.stage, kv_head, block, place, policy, rank);
          k_ring.advance();
        }
        if (block == tile.high - 1) {
          mbarrier_wait(barriers.q_empty + 8 * q_ring.stage, q_ring.parity ^ 1);
          load_queries(shared + q_ring.stage * Q_BYTES, q_map, barriers.q_full + 8 * q_ring.stage,
                       tile, sizes.query_start, box_queries);
          q_ring.advance();
        } else {
          mbarrier_wait(barriers.v_empty + 8 * v_ring.stage, v_ring.parity ^ 1);
          load_block(shared + V_OFFSET + v_ring.stage * KV_BYTES, v_map,
                     barriers.v_full + 8 * v_ring.stage, kv_head, block + 1, place, policy, rank);
          v_ring.advance();
        }
      }
    }
    return;
  }

  if constexpr (CONSUMERS > 1) registers_increase<CONSUMER_REGISTERS>();
  const int consumer = warpgroup - 1;
  // One thread a warpgroup says what has been read, to one block of the cluster each.
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const u32 k_empty =
      CLUSTER > 1 ? cluster_address(barriers.k_empty, thread % CLUSTER) : barriers.k_empty;
  const auto release = [&](u32 barrier) {
    if (thread >= CLUSTER) return;
    if constexpr (CLUSTER > 1) {
      mbarrier_arrive_cluster(barrier);
    } else {
      mbarrier_arrive(barrier);
    }
  };
  const u64 q_descriptors = wgmma_descriptor_128b(shared + consumer * (64 * 128), 16, 1024);
  const u64 k_descriptors = wgmma_descriptor_128b(shared + K_OFFSET, 16, 1024);
  const u64 v_descriptors = wgmma_descriptor_128b(shared + V_OFFSET, BN * 128, 1024);
  auto walk = follower_walk(drawn_ring);
  RingPosition<STAGES> k_ring, v_ring;
  RingPosition<QUERY_STAGES> q_ring;
  RingPosition<LEFT> left_ring;
  if constexpr (PINGPONG) {
    if (consumer == CONSUMERS - 1) named_barrier_arrive(1, 256);  // The first one's first turn.
  }

  for (int index = walk.next(); index < work; index = walk.next()) {
    const Tile tile(index, sizes, rank);
    Rows rows(tile.first_position, first_row(), sizes);
    float sums[OUT_DIM / 2];
#pragma unroll
    for (float& sum : sums) sum = 0.0f;
    if (tile.low < tile.high) {
      float scores[BN / 2];
      auto p = place_of_probabilities(shared, consumer);
      int block = tile.high - 1;

      const auto issue_scores = [&] {
        wgmma_pin(scores);
        multiply_scores(scores, wgmma_advance(q_descriptors, q_ring.stage * Q_BYTES),
                        wgmma_advance(k_descriptors, k_ring.stage * KV_BYTES));
      };
      const auto issue_values = [&] {
        mbarrier_wait(barriers.v_full + 8 * v_ring.stage, v_ring.parity);
        wgmma_pin(sums);
        p.multiply(sums, wgmma_advance(v_descriptors, v_ring.stage * KV_BYTES));
      };
      const auto wait_k = [&] { mbarrier_wait(barriers.k_full + 8 * k_ring.stage, k_ring.parity); };
      const auto release_k = [&] {
        release(k_empty + 8 * k_ring.stage);
        k_ring.advance();
      };
      const auto release_v = [&] {
        release(k_empty + (barriers.v_empty - barriers.k_empty) + 8 * v_ring.stage);
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
        rows.template softmax<masked.value != 0>(scores, block, factors);
        if constexpr (OVERLAP) {
          // Here, so that this wait's loop stands between the exponentials and the next wait, which the
          // assembler would move in front of them otherwise.
          if (block > tile.low) wait_k();
          finish_values();
        }
        shrink_sums(sums, rows.shrink);
        p.keep(scores);
        if constexpr (!OVERLAP) {
          wgmma_fence();
          issue_values();
          finish_values();
        }
      };

      mbarrier_wait(barriers.q_full + 8 * q_ring.stage, q_ring.parity);
      wait_k();
      wgmma_fence();
      issue_scores();
      wgmma_wait_group<0>();
      wgmma_pin(scores);
      release_k();
      rows.template softmax<true>(scores, block, factors);
      p.keep(scores);
      if constexpr (OTHERS_BEHIND) {
        if (const int rows_left = sizes.kv_length - block * BN; rows_left < BN) {
          mbarrier_wait(barriers.v_full + 8 * v_ring.stage, v_ring.parity);
          clear_rows(shared_memory + V_OFFSET + v_ring.stage * KV_BYTES, rows_left,
                     Consumer<8>{consumer});
        }
      }
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

      if (thread == 0) mbarrier_arrive(barriers.q_empty + 8 * q_ring.stage);
      q_ring.advance();
      if constexpr (OVERLAP) {
        wgmma_fence();
        issue_values();
        finish_values();
      }
    }

    rows.add_columns();
    const Output output(destination, first_row(), tile, sizes);
    if constexpr (SPLIT > 1) {
      const Parts parts(partials, tile.index, part_rows);
      parts.leave(tile.part, first_row(), rows, sums, output);
      if (COMBINE_ASIDE && several) {
        mbarrier_wait(barriers.left_empty + 8 * left_ring.stage, left_ring.parity ^ 1);
        __syncwarp();
        if (lane_index() == 0) mbarrier_arrive(barriers.left_full + 8 * left_ring.stage);
        left_ring.advance();
        continue;
      }
      const Consumer<8> group{consumer};
      if (is_last_part(group, finished_parts + tile.index * CONSUMERS + consumer)) {
        parts.combine<64, 128>(consumer * 64, group.thread(), destination, lse, tile, sizes,
                               factors);
      }
    } else {
      output.store(rows, sums, factors, lse);
    }
  }
  // The others still say here what they have read.
  if constexpr (CLUSTER > 1) {
    cluster_arrive_relaxed();
    cluster_wait();
  }
}
