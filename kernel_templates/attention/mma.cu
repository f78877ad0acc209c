// Attention on the warp-level tensor instruction mma.sync, for sm_75 and later.
//
// A block has a tile of BM queries of one head, 16 · ROW_TILES of each of WARPS warps, and walks over the
// keys from the last to the first, BN at a time. Values are copied to shared memory while scores are
// multiplied, and the next keys during the softmax and the second product (cp.async; on sm_75 copies pass
// through registers and are waited for). Rows are 16-byte chunks, swizzled so that ldmatrix has no bank
// conflicts. Scores and probabilities stay in registers.
//
//   HOLD_Q: the queries' fragments stay in registers too, instead of being read for every block.
//   PACK, SPLIT, SECTION: as in wgmma.cu; see tiles.cuh.
#include "attention/rows.cuh"
#include "attention/tiles.cuh"
#include "ptx/async_copy.cuh"
#include "ptx/mma.cuh"
#include "ptx/split_k.cuh"

namespace {

// Where 16-byte chunk `chunk` of a row of CHUNKS lies, in chunks: so that eight rows read at once, and a
// row's neighbours written at once, are in different banks.
template <int CHUNKS>
__device__ __forceinline__ constexpr int swizzled_chunk(int row, int chunk) {
  static_assert(CHUNKS % 4 == 0);
  return row * CHUNKS + (chunk ^ (CHUNKS % 8 == 0 ? row & 7 : row >> 1 & 3));
}

constexpr bool has_async_copy = device_sm >= 80;
constexpr int CHUNKS = SHARED_DIM / 8;  // 16 bytes each, of a row in shared memory
constexpr int STEPS = OUT_DIM / 16;
constexpr int K_OFFSET = BM * CHUNKS * 16;
constexpr int V_OFFSET = K_OFFSET + BN * CHUNKS * 16;
static_assert(V_OFFSET + BN * CHUNKS * 16 <= shared_bytes, "the manifest's shared memory");

// Copies a chunk, or 16 zeros.
__device__ __forceinline__ void copy_chunk(u8* to, const dtype* from, bool valid) {
  if constexpr (has_async_copy) {
    copy_async_16(shared_address(to), from, valid);
  } else {
    store_16(to, valid ? load_16(from) : make_uint4(0, 0, 0, 0));
  }
}
__device__ __forceinline__ void end_of_copies() {
  if constexpr (has_async_copy) copy_async_commit();
}
__device__ __forceinline__ void wait_for_copies() {
  if constexpr (has_async_copy) copy_async_wait<0>();
  __syncthreads();
}

// Copies ROWS rows; `row_at(row)` is where one lies, null where there is none.
template <int ROWS, typename RowAt>
__device__ __forceinline__ void copy_rows(u8* to, RowAt&& row_at) {
#pragma unroll 4
  for (int first = 0; first < ROWS * CHUNKS; first += THREADS) {
    const int index = first + static_cast<int>(threadIdx.x);
    if (ROWS * CHUNKS % THREADS != 0 && index >= ROWS * CHUNKS) break;
    const int row = index / CHUNKS, chunk = index % CHUNKS;
    const dtype* const from = row_at(row);
    const bool valid = from != nullptr && chunk * 8 < head_dim;
    copy_chunk(to + swizzled_chunk<CHUNKS>(row, chunk) * 16, from + (valid ? chunk * 8 : 0), valid);
  }
}

// Two products beside each other: b is 16 by 16.
__device__ __forceinline__ void multiply_pair(float* d, const u32 (&a)[4], const u32 (&b)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 half[2] = {b[2 * i], b[2 * i + 1]};
    float(&sums)[4] = *reinterpret_cast<float(*)[4]>(d + 4 * i);
    if constexpr (device_sm >= 80) {
      mma_16x8x16<dtype>(sums, a, half);
    } else {
      mma_16x8x16_turing(sums, a, half);
    }
  }
}

// Fragments of 16 queries and 16 columns of q, of which `step` is the number.
__device__ __forceinline__ void load_queries(u32 (&fragments)[4], u32 q_tile, int first_row,
                                             int step) {
  const int lane = lane_index();
  const int row = first_row + lane % 16, chunk = 2 * step + lane / 16;
  load_matrix_x4(fragments, q_tile + swizzled_chunk<CHUNKS>(row, chunk) * 16);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS)
    attention(const dtype* q, const dtype* k, const dtype* v, dtype* out, float* lse,
              float* partials, u32* counters, int batches, int heads, int heads_a_kv_head,
              int query_length, int kv_length, int part_rows, float scale, float softcap,
              int window, i64 batch_stride_q, i64 sequence_stride_q, i64 head_stride_q,
              i64 batch_stride_k, i64 sequence_stride_k, i64 head_stride_k, i64 batch_stride_v,
              i64 sequence_stride_v, i64 head_stride_v, i64 batch_stride_out,
              i64 sequence_stride_out, i64 head_stride_out, const int* cu_queries,
              const int* cu_keys, const int* block_table, const int* kv_lengths,
              int pages_a_sequence, int queries) {
  extern __shared__ __align__(128) u8 shared_memory[];
  const u32 q_tile = shared_address(shared_memory);
  const u32 k_tile = q_tile + K_OFFSET, v_tile = q_tile + V_OFFSET;
  const Sequences sequences{cu_queries, cu_keys,          block_table,
                            kv_lengths, pages_a_sequence, queries};
  Sizes sizes{batches, heads, heads_a_kv_head, query_length, kv_length, window, sequences};
  const Tile tile(static_cast<int>(blockIdx.x), sizes);
  const Factors factors(scale, softcap);
  const int lane = lane_index();
  const int warp_row = warp_index() * (16 * ROW_TILES);
  const int thread_row = warp_row + lane / 4;

  q += tile.batch * batch_stride_q + tile.group * GROUP * head_stride_q;
  if constexpr (has_cu_queries) q += sizes.query_start * sequence_stride_q;
  const KeyRows k_rows(k + tile.kv_head(sizes) * head_stride_k, batch_stride_k, sequence_stride_k,
                       sequences, tile.batch);
  const KeyRows v_rows(v + tile.kv_head(sizes) * head_stride_v, batch_stride_v, sequence_stride_v,
                       sequences, tile.batch);
  // Zeros for keys that no query of the tile sees: pages in front of a window may not be there, and a value
  // of a key that is not seen is multiplied by zero, which makes no zero of a NaN.
  const auto copy_block = [&](int offset, const KeyRows& from, int block) {
    // Relative to the block: so they take fewer registers than the keys themselves, which some problems lack.
    const int low = tile.low_key - block * BN, high = tile.high_key - block * BN;
    copy_rows<BN>(shared_memory + offset, [&](int row) {
      const bool seen = row < high && (!windowed || row >= low);
      return seen ? from(block * BN + row) : nullptr;
    });
    end_of_copies();
  };
  if (tile.low < tile.high) {
    copy_rows<BM>(shared_memory, [&](int row) {
      const int query = tile.first_query + row / GROUP;
      return row < QUERIES * GROUP && query < sizes.query_length
                 ? q + query * sequence_stride_q + row % GROUP * head_stride_q
                 : nullptr;
    });
    copy_block(K_OFFSET, k_rows, tile.high - 1);
  }

  Rows rows[ROW_TILES];
  float sums[ROW_TILES][OUT_DIM / 2];
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    rows[t] = Rows(tile.first_position, thread_row + t * 16, sizes);
#pragma unroll
    for (float& sum : sums[t]) sum = 0.0f;
  }
  // Blocks that all of the warp's rows see all of lie between.
  const int position = tile.first_position + warp_row / GROUP;
  const int last_position = tile.first_position + (warp_row + 16 * ROW_TILES - 1) / GROUP;
  const int seen_high = max(0, sizes.high_key(position)) / BN;
  const int seen_low = windowed ? ceil_div(sizes.low_key(last_position), BN) : 0;

  u32 held[HOLD_Q ? ROW_TILES : 1][HOLD_Q ? STEPS : 1][4];
#pragma unroll 1
  for (int block = tile.high - 1; block >= tile.low; --block) {
    wait_for_copies();  // the keys are there, and nobody reads values any more
    copy_block(V_OFFSET, v_rows, block);
    if constexpr (HOLD_Q) {
      if (block == tile.high - 1) {
#pragma unroll
        for (int i = 0; i < ROW_TILES * STEPS; ++i) {
          load_queries(held[i / STEPS][i % STEPS], q_tile, warp_row + i / STEPS * 16, i % STEPS);
        }
      }
    }

    float scores[ROW_TILES][BN / 2];
#pragma unroll
    for (int i = 0; i < ROW_TILES * BN / 2; ++i) scores[i / (BN / 2)][i % (BN / 2)] = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      u32 queries[ROW_TILES][4];
      if constexpr (!HOLD_Q) {
#pragma unroll
        for (int t = 0; t < ROW_TILES; ++t) {
          load_queries(queries[t], q_tile, warp_row + t * 16, step);
        }
      }
#pragma unroll
      for (int j = 0; j < BN / 16; ++j) {
        // Two times 8 keys, each with the lower and the upper half of 16 columns.
        u32 keys[4];
        const int row = j * 16 + lane / 16 * 8 + lane % 8, chunk = 2 * step + lane / 8 % 2;
        load_matrix_x4(keys, k_tile + swizzled_chunk<CHUNKS>(row, chunk) * 16);
#pragma unroll
        for (int t = 0; t < ROW_TILES; ++t) {
          if constexpr (HOLD_Q) {
            multiply_pair(scores[t] + 8 * j, held[t][step], keys);
          } else {
            multiply_pair(scores[t] + 8 * j, queries[t], keys);
          }
        }
      }
    }
    wait_for_copies();  // the values are there, and nobody reads keys any more
    if (block > tile.low) copy_block(K_OFFSET, k_rows, block - 1);

    Probabilities p[ROW_TILES];
#pragma unroll
    for (int t = 0; t < ROW_TILES; ++t) {
      if (block >= seen_high || block < seen_low) {
        rows[t].softmax<true>(scores[t], block, factors);
      } else {
        rows[t].softmax<false>(scores[t], block, factors);
      }
      shrink_sums(sums[t], rows[t].shrink);
      round_probabilities(p[t], scores[t]);
    }
#pragma unroll
    for (int step = 0; step < BN / 16; ++step) {
#pragma unroll
      for (int j = 0; j < OUT_DIM / 16; ++j) {
        // Two times 8 columns, each with the lower and the upper half of 16 keys.
        u32 values[4];
        const int row = step * 16 + lane % 16, chunk = 2 * j + lane / 16;
        load_matrix_transposed_x4(values, v_tile + swizzled_chunk<CHUNKS>(row, chunk) * 16);
#pragma unroll
        for (int t = 0; t < ROW_TILES; ++t) multiply_pair(sums[t] + 8 * j, p[t][step], values);
      }
    }
  }

  const Destination destination{out, batch_stride_out, sequence_stride_out, head_stride_out};
  const Parts parts(partials, tile.index, part_rows);
#pragma unroll
  for (int t = 0; t < ROW_TILES; ++t) {
    rows[t].add_columns();
    const Output output(destination, thread_row + t * 16, tile, sizes);
    if constexpr (SPLIT > 1) {
      parts.leave(tile.part, thread_row + t * 16, rows[t], sums[t], output);
    } else {
      output.store(rows[t], sums[t], factors, lse);
    }
  }
  if constexpr (SPLIT > 1) {
    if (is_last_part(WholeBlock<THREADS>(), counters + tile.index)) {
      parts.combine<BM, THREADS>(0, static_cast<int>(threadIdx.x), destination, lse, tile, sizes,
                                 factors);
    }
  }
}
