// Softmax and output of rows whose scores and sums lie in the registers of a warp as tensor instructions
// leave them: thread l of the warp has of 16 rows l / 4 and 8 further down, and of 8 columns 2 (l % 4) and
// the next. Element [4 j + 2 i + e] of an array is of row 8 i, column 8 j + e of these. Shared by the CUDA
// templates, whose manifests say FMA_EXP2: one of so many exponentials is a polynomial (0: none is).
#pragma once
#include "attention/tiles.cuh"
#include "ptx/math.cuh"

constexpr int OUT_DIM = round_up(head_dim, 16);  // columns that are multiplied
constexpr float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

// What scores are multiplied by.
struct Factors {
  float inner;  // before the tanh of a soft cap
  float outer;  // in front of a power of 2

  __device__ __forceinline__ Factors(float scale, float softcap) {
    inner = capped ? scale / softcap : 1.0f;
    // Not zero: the score of a key that is not seen, -infinity, times it must stay -infinity.
    outer = fmaxf((capped ? softcap : scale) * LOG2_E, 1e-30f);
  }
};

// 2^x of the column with this number of those of a thread.
template <bool MASKED>
__device__ __forceinline__ float exponential(float x, int column) {
  // -infinity is for the special-function unit; a NaN stays one.
  if (!MASKED && FMA_EXP2 > 0 && column % maximum(1, FMA_EXP2) == 1) {
    return x == x ? exp2_by_fma(x) : x;
  }
  return exp2_approx(x);
}

// The largest score before the first: -2^100. It is finite, also times any factor, so that scores of -infinity
// less it are -infinity and not NaN: a row may not have seen any key yet. As a power of 2 it is exact times a
// factor, so that less itself it is 0. Scores below it count as -infinity.
constexpr float LOWEST = -1.2676506e30f;

// Two rows of a thread, 8 apart.
struct Rows {
  float largest[2];     // of the scores so far
  float total[2];       // of the exponentials in this thread's columns
  float shrink[2];      // what totals and sums of earlier blocks are multiplied by
  int low[2], high[2];  // Keys seen, relative to this thread's first column of block 0.

  Rows() = default;
  // `row` is the first one's of a tile whose first query stands at `first_position`.
  __device__ __forceinline__ Rows(int first_position, int row, const Sizes& sizes) {
    const int column = lane_index() % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      largest[i] = LOWEST;
      total[i] = 0.0f;
      const int position = first_position + (row + i * 8) / GROUP;
      low[i] = sizes.low_key(position) - column;
      high[i] = sizes.high_key(position) - column;
    }
  }

  // Makes exponentials of the scores of a block, and takes them into the totals.
  template <bool MASKED>
  __device__ __forceinline__ void softmax(float (&scores)[BN / 2], int block,
                                          const Factors& factors) {
    const float factor = factors.outer;
    if constexpr (capped) {
#pragma unroll
      for (float& score : scores) score = tanh_approx(score * factors.inner);
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
      const float subtract = now * factor;
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

// Probabilities of 16 keys each, as the first operand of a product.
using Probabilities = u32[BN / 16][4];

__device__ __forceinline__ void round_probabilities(Probabilities& p, const float (&s)[BN / 2]) {
#pragma unroll
  for (int j = 0; j < BN / 4; ++j) p[j / 4][j % 4] = pack2<dtype>(s[2 * j], s[2 * j + 1]);
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

// Stores two rows of sums, times their factors; a null row does not exist.
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

// The output; strides in elements.
struct Destination {
  dtype* out;
  i64 batch_stride, sequence_stride, head_stride;
};

// Where a row of a tile goes.
struct RowOfOutput {
  int batch, query, head;
  bool exists;
  bool sees_keys;  // whether it sees any
  int line;        // of out
  i64 lse_at;

  __device__ __forceinline__ RowOfOutput(int row, const Tile& tile, const Sizes& sizes)
      : batch(tile.batch),
        query(tile.first_query + row / GROUP),
        head(tile.group * GROUP + row % GROUP),
        exists(row < QUERIES * GROUP && query < sizes.query_length),
        sees_keys(sees_any(query + sizes.kv_length - sizes.query_length, sizes)),
        line(has_cu_queries ? sizes.query_start + query : query),
        lse_at(has_cu_queries
                   ? static_cast<i64>(head) * sizes.sequences.queries + line
                   : (static_cast<i64>(batch) * sizes.heads + head) * sizes.query_length + query) {}
  __device__ __forceinline__ dtype* address(const Destination& to) const {
    return to.out + batch * to.batch_stride + line * to.sequence_stride + head * to.head_stride;
  }
  static __device__ __forceinline__ bool sees_any(int position, const Sizes& sizes) {
    return sizes.low_key(position) < sizes.high_key(position);
  }
};

// The largest score adds about 1 to a total. Of a row that sees no key it is 0; where one of the scores is a NaN
// or +infinity it is a NaN; where all are -infinity it is what exp2_by_fma makes of these at most.
__device__ __forceinline__ bool is_sum(float total) { return total > 1e-30f; }
// What the sums of a row are multiplied by.
__device__ __forceinline__ float factor_of_sums(float total, bool sees_keys) {
  return is_sum(total) ? 1.0f / total : __uint_as_float(sees_keys ? 0x7fffffffu : 0u);
}
__device__ __forceinline__ float log_of_sum(float largest, float total, bool sees_keys,
                                            const Factors& factors) {
  return is_sum(total) ? fmaf(largest, factors.outer * LN_2, logf(total))
                       : __uint_as_float(sees_keys ? 0x7fffffffu : 0xff800000u);
}

// Where two rows of a thread go, 8 apart.
struct Output {
  dtype* rows[2];  // null where a row does not exist
  bool sees_keys[2];
  i64 lse_at[2];

  // `row` is the first one's of the tile.
  __device__ __forceinline__ Output(const Destination& destination, int row, const Tile& tile,
                                    const Sizes& sizes) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const RowOfOutput to(row + 8 * i, tile, sizes);
      rows[i] = to.exists ? to.address(destination) : nullptr;
      sees_keys[i] = to.sees_keys;
      lse_at[i] = to.lse_at;
    }
  }
  __device__ __forceinline__ void store(const Rows& results, const float (&sums)[OUT_DIM / 2],
                                        const Factors& factors, float* lse) const {
    float by[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float total = results.total[i];
      by[i] = factor_of_sums(total, sees_keys[i]);
      if (has_lse && rows[i] != nullptr && lane_index() % 4 == 0) {
        lse[lse_at[i]] = log_of_sum(results.largest[i], total, sees_keys[i], factors);
      }
    }
    store_rows(rows[0], rows[1], sums, by);
  }
};

// What the parts of a tile, whose keys SPLIT blocks share, have of its rows on its way through global memory:
// each has maxima and totals, a pair a row, and its sums, row by row. Only rows that some tile has are there.
struct Parts {
  float* first;
  int rows;  // of a part, even

  __device__ __forceinline__ Parts(float* partials, int tile, int rows_)
      : first(partials + static_cast<i64>(tile) * SPLIT * floats(rows_)), rows(rows_) {}
  static __device__ __forceinline__ int floats(int rows) { return rows * (2 + OUT_DIM); }
  __device__ __forceinline__ float2* statistics(int part, int row) const {
    return reinterpret_cast<float2*>(first + part * floats(rows)) + row;
  }
  __device__ __forceinline__ float* sums(int part, int row) const {
    return first + part * floats(rows) + rows * 2 + row * OUT_DIM;
  }

  // Leaves a thread's results of two rows, of which `row` is the first one's of the tile.
  __device__ __forceinline__ void leave(int part, int row, const Rows& results,
                                        const float (&values)[OUT_DIM / 2],
                                        const Output& output) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (output.rows[i] == nullptr) continue;
      const int at = row + i * 8;
      if (lane_index() % 4 == 0) {
        *statistics(part, at) = make_float2(results.largest[i], results.total[i]);
      }
      float2* const to = reinterpret_cast<float2*>(sums(part, at) + lane_index() % 4 * 2);
#pragma unroll
      for (int j = 0; j < OUT_DIM / 8; ++j) {
        to[4 * j] = make_float2(values[4 * j + 2 * i], values[4 * j + 2 * i + 1]);
      }
    }
  }

  // Puts the results of all parts together and stores them, those of ROWS rows from `first_row` on, by
  // THREADS threads of which this is number `thread`. Parts are taken in their order, so that equal inputs
  // give equal bits.
  template <int ROWS, int THREADS>
  __device__ __forceinline__ void combine(int first_row, int thread, const Destination& destination,
                                          float* lse, const Tile& tile, const Sizes& sizes,
                                          const Factors& factors) const {
    constexpr int FOURS = OUT_DIM / 4;
    const int existing = min(QUERIES, sizes.query_length - tile.first_query) * GROUP - first_row;
#pragma unroll 1
    for (int index = thread; index < min(ROWS, existing) * FOURS; index += THREADS) {
      const int row = first_row + index / FOURS, column = index % FOURS * 4;
      float largest = LOWEST;
#pragma unroll 16
      for (int part = 0; part < SPLIT; ++part) {
        largest = fmaxf(largest, __ldcg(statistics(part, row)).x);
      }
      const float subtract = largest * factors.outer;
      float total = 0.0f, values[4] = {};
#pragma unroll 8
      for (int part = 0; part < SPLIT; ++part) {
        const float2 theirs = __ldcg(statistics(part, row));
        const float4 added = __ldcg(reinterpret_cast<const float4*>(sums(part, row) + column));
        const float weight = exp2_approx(fmaf(theirs.x, factors.outer, -subtract));
        total = fmaf(theirs.y, weight, total);
        values[0] = fmaf(added.x, weight, values[0]);
        values[1] = fmaf(added.y, weight, values[1]);
        values[2] = fmaf(added.z, weight, values[2]);
        values[3] = fmaf(added.w, weight, values[3]);
      }
      const RowOfOutput to(row, tile, sizes);
      const float by = factor_of_sums(total, to.sees_keys);
      if (column < head_dim) {
        *reinterpret_cast<uint2*>(to.address(destination) + column) =
            make_uint2(pack2<dtype>(values[0] * by, values[1] * by),
                       pack2<dtype>(values[2] * by, values[3] * by));
      }
      if (has_lse && column == 0) {
        lse[to.lse_at] = log_of_sum(largest, total, to.sees_keys, factors);
      }
    }
  }
};

// Whether this block is the last of SPLIT that have left what they have. `group` is that of split_k.cuh.
template <typename Group>
__device__ __forceinline__ bool is_last_part(const Group& group, u32* counter) {
  // As there: write, fence, count.
  __threadfence();
  group.sync();
  bool is_last = false;
  if (group.thread() == 0) {
    is_last = atomicAdd(counter, 1u) == SPLIT - 1;
    if (is_last) *counter = 0;
  }
  if (!group.any(is_last)) return false;
  __threadfence();
  return true;
}
