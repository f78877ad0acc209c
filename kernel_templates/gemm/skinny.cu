// c = epilogue(a · b) for few rows of a, in the time that it takes to read b: a layer that decodes a
// few tokens, where b is its weights and a the tokens.
//
// mma.sync with its roles exchanged: 16 columns of c are the 16 rows of an instruction, 8 tokens its 8
// columns. Weights and tokens go from global memory to registers, not through shared memory. The
// instruction does not care in which order products are added along k as long as both operands agree, so
// a lane takes 16 consecutive bytes of k from a row of each, where the fragment layout by itself would
// make it gather 4 bytes at a time.
//
//   ROWS: how many columns of c, rows of weights, a block computes. More of them share what is read of
//     the tokens; fewer make more blocks.
//   TOKENS: how many rows of a one block computes. Weights are read again for every TOKENS rows.
//   WARPS: of a block; they take turns along k, and their sums are added in shared memory.
//   UNROLL: how many runs of 64 bytes of k a warp loads at once, from every row.
//   PREFETCH: whether a warp loads the next runs before it multiplies the present ones.
//   SPLIT_K: how many blocks share a range of k; the last one adds their sums in a fixed order.
//
// Factors of blocks (scaling "block"): the products of 128 of k, or of a step where that is less, are added
// up on their own and go into the sums times the two factors.
#include "gemm/epilogue.cuh"
#include "ptx/mma.cuh"
#include "ptx/split_k.cuh"

namespace {

constexpr bool WEIGHTS_ALONG_K = layout_b == layout_b_kind::nk;
constexpr int CHUNK = per_16_bytes<dtype>;  // Elements in 16 bytes.
constexpr int SPAN = 4 * CHUNK;             // Of k in one run: a chunk for each of 4 lanes.
constexpr int STEP = UNROLL * SPAN;
constexpr int STEPS = ceil_div(k, STEP);
constexpr int PART_STEPS = ceil_div(STEPS, SPLIT_K);
constexpr int ROW_TILES = ROWS / 16;
constexpr int TOKEN_TILES = TOKENS / 8;
constexpr int THREADS = 32 * WARPS;
// The sums of EXCHANGED tiles pass through shared memory at a time; then each of as many warps has the
// total of one. A warp ends with QUADS of the block's TILES.
static_assert(TILES == ROW_TILES * TOKEN_TILES);
static_assert(k % CHUNK == 0, "16-byte loads along k");
static_assert(WEIGHTS_ALONG_K || (sizeof(dtype) == 2 && ROWS % 64 == 0 && n % 8 == 0));
static_assert(EXCHANGED * WARPS * 32 * 16 == SHARED_BYTES, "the manifest's shared memory");

constexpr bool BLOCK_SCALED = scaling == scaling_kind::block;
constexpr int SCALED = 128;  // Elements along k, and rows of weights, that share a factor.
constexpr int SCALED_RUNS = BLOCK_SCALED ? minimum(UNROLL, SCALED / SPAN) : UNROLL;  // Of a step.
constexpr int FACTORS = UNROLL / SCALED_RUNS;  // That a sum needs in a step.
static_assert(SCALED % ROWS == 0, "one factor for all weights of a block at a time");

using Sums = float[TILES][4];

__device__ __forceinline__ u32 word(const uint4& four, int index) {
  return index == 0 ? four.x : index == 1 ? four.y : index == 2 ? four.z : four.w;
}

__device__ __forceinline__ uint4 zero_16() { return make_uint4(0, 0, 0, 0); }

// The column of c, from the block's first, that row `lane / 4 + 8 * half` of a tile computes.
__device__ __forceinline__ int column_of(int row_tile, int half) {
  const int group = lane_index() / 4;
  if constexpr (WEIGHTS_ALONG_K) return row_tile * 16 + half * 8 + group;
  return row_tile / 4 * 64 + group * 8 + row_tile % 4 * 2 + half;
}

// What a warp loads at once. weights: along k, those of tile i's upper rows at [2i] and of its lower
// rows at [2i + 1]; otherwise [8i + j] is row j of 8 of k, of 64 columns.
struct Operands {
  uint4 weights[UNROLL][2 * ROW_TILES];
  uint4 tokens[UNROLL][TOKEN_TILES];
  float factors[BLOCK_SCALED ? FACTORS : 1][TOKEN_TILES][2];  // Of the tokens of the lane's sums.

  // The first operand of an instruction: half `half` of a run, for a tile.
  __device__ __forceinline__ void fragment(u32 (&a)[4], int run, int row_tile, int half) const {
    if constexpr (WEIGHTS_ALONG_K) {
      const uint4& upper = weights[run][2 * row_tile];
      const uint4& lower = weights[run][2 * row_tile + 1];
      a[0] = word(upper, 2 * half);
      a[1] = word(lower, 2 * half);
      a[2] = word(upper, 2 * half + 1);
      a[3] = word(lower, 2 * half + 1);
    } else {
      // Two rows of k hold a column's two elements that belong into one register.
      const uint4* const rows = weights[run] + row_tile / 4 * 8 + half * 4;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const u32 even = word(rows[2 * i], row_tile % 4);
        const u32 odd = word(rows[2 * i + 1], row_tile % 4);
        a[2 * i] = __byte_perm(even, odd, 0x5410);
        a[2 * i + 1] = __byte_perm(even, odd, 0x7632);
      }
    }
  }
};

// Where a lane reads.
struct Source {
  const b_dtype* weights;
  const dtype* tokens;
  i64 weights_stride, tokens_stride;  // Elements.
  int k_index;                        // Of the lane's chunk of step 0.
  int columns;                        // Of c that are left from the lane's first on.
  int tokens_left;                    // From the lane's first on.
  // Factors of blocks of k: of the first token of the lane's sums, and of all weights of this block.
  const float* token_scales;
  const float* weight_scales;
  i64 token_scales_stride;
  int scaled_tokens_left;  // From that token on.

  __device__ __forceinline__ void load(Operands& operands, int step) const {
    const i64 first_k = k_index + static_cast<i64>(step) * STEP;
#pragma unroll
    for (int run = 0; run < UNROLL; ++run) {
      const i64 at = first_k + run * SPAN;
      const bool inside = k % STEP == 0 || at < k;
#pragma unroll
      for (int i = 0; i < 2 * ROW_TILES; ++i) {
        // Rows of weights and of k lie i * 8, and i % 8, further; see Operands.
        const int column = WEIGHTS_ALONG_K ? i * 8 : i / 8 * 64;
        const b_dtype* const address = WEIGHTS_ALONG_K
                                           ? weights + column * weights_stride + at
                                           : weights + (at + i % 8) * weights_stride + column;
        const bool valid = inside && (n % ROWS == 0 || column < columns);
        operands.weights[run][i] = valid ? load_16_streaming(address) : zero_16();
      }
#pragma unroll
      for (int i = 0; i < TOKEN_TILES; ++i) {
        operands.tokens[run][i] = inside && i * 8 < tokens_left
                                      ? load_16(tokens + i * 8 * tokens_stride + at)
                                      : zero_16();
      }
    }
    if constexpr (BLOCK_SCALED) load_factors(operands.factors, step);
  }

  __device__ __forceinline__ void load_factors(float (&factors)[FACTORS][TOKEN_TILES][2],
                                               int step) const {
#pragma unroll
    for (int part = 0; part < FACTORS; ++part) {
      const i64 first_k = static_cast<i64>(step) * STEP + part * (SCALED_RUNS * SPAN);
      const bool inside = k % STEP == 0 || first_k < k;
      float of_weights = 1.0f;
      if constexpr (has_scale_b) of_weights = inside ? weight_scales[first_k / SCALED] : 0.0f;
#pragma unroll
      for (int i = 0; i < 2 * TOKEN_TILES; ++i) {
        const int token = i / 2 * 8 + i % 2;
        float& factor = factors[part][i / 2][i % 2];
        factor = of_weights;
        if constexpr (has_scale_a) {
          const bool exists = inside && token < scaled_tokens_left;
          factor *= exists ? token_scales[token * token_scales_stride + first_k / SCALED] : 0.0f;
        }
      }
    }
  }
};

// sum += a · b of one instruction, from 32 bytes of k.
__device__ __forceinline__ void multiply_tile(float (&sum)[4], const u32 (&a)[4],
                                              const u32 (&b)[2]) {
  if constexpr (sizeof(dtype) == 4) {
    const u32 rounded_a[4] = {round_to_tf32(a[0]), round_to_tf32(a[1]), round_to_tf32(a[2]),
                              round_to_tf32(a[3])};
    const u32 rounded_b[2] = {round_to_tf32(b[0]), round_to_tf32(b[1])};
    mma_16x8x8_tf32(sum, rounded_a, rounded_b);
  } else if constexpr (sizeof(dtype) == 1 && device_sm >= 90 && device_sm < 120) {
    mma_16x8x32_as_f16<b_dtype, dtype>(sum, a, b);
  } else if constexpr (sizeof(dtype) == 1) {
    mma_16x8x32<b_dtype, dtype>(sum, a, b);
  } else if constexpr (device_sm >= 80) {
    mma_16x8x16<dtype>(sum, a, b);
  } else {
    mma_16x8x16_turing(sum, a, b);
  }
}

// sums += the products of the runs that share factors.
__device__ __forceinline__ void multiply_runs(Sums& sums, const Operands& operands, int first_run) {
#pragma unroll
  for (int run = first_run; run < first_run + SCALED_RUNS; ++run) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < ROW_TILES; ++i) {
        u32 a[4];
        operands.fragment(a, run, i, half);
#pragma unroll
        for (int j = 0; j < TOKEN_TILES; ++j) {
          const uint4& chunk = operands.tokens[run][j];
          const u32 b[2] = {word(chunk, 2 * half), word(chunk, 2 * half + 1)};
          multiply_tile(sums[i * TOKEN_TILES + j], a, b);
        }
      }
    }
  }
}

__device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
  for (auto& tile : sums) {
#pragma unroll
    for (float& sum : tile) sum = 0.0f;
  }
}

__device__ __forceinline__ void multiply(Sums& sums, const Operands& operands) {
  if constexpr (BLOCK_SCALED) {
#pragma unroll
    for (int part = 0; part < FACTORS; ++part) {
      Sums products;
      clear(products);
      multiply_runs(products, operands, part * SCALED_RUNS);
#pragma unroll
      for (int i = 0; i < 4 * TILES; ++i) {
        const float factor = operands.factors[part][i / 4 % TOKEN_TILES][i % 2];
        sums[i / 4][i % 4] = fmaf(products[i / 4][i % 4], factor, sums[i / 4][i % 4]);
      }
    }
  } else {
    multiply_runs(sums, operands, 0);
  }
}

// Adds up the warps' sums, in the order of the warps: warp w ends with the totals of tiles w,
// w + EXCHANGED, …
__device__ __forceinline__ void add_warps(const Sums& sums, float (&totals)[QUADS][4],
                                          float4* shared) {
  const int lane = lane_index();
  const int warp = warp_index();
#pragma unroll
  for (int quad = 0; quad < QUADS; ++quad) {
#pragma unroll
    for (int i = 0; i < EXCHANGED; ++i) {
      if (quad * EXCHANGED + i >= TILES) break;
      const float(&tile)[4] = sums[quad * EXCHANGED + i];
      shared[(i * WARPS + warp) * 32 + lane] = make_float4(tile[0], tile[1], tile[2], tile[3]);
    }
    __syncthreads();
#pragma unroll
    for (float& total : totals[quad]) total = 0.0f;
    if (warp < EXCHANGED && quad * EXCHANGED + warp < TILES) {
#pragma unroll
      for (int other = 0; other < WARPS; ++other) {
        const float4 part = shared[(warp * WARPS + other) * 32 + lane];
        totals[quad][0] += part.x;
        totals[quad][1] += part.y;
        totals[quad][2] += part.z;
        totals[quad][3] += part.w;
      }
    }
    if (quad + 1 < QUADS) __syncthreads();
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    gemm(const dtype* a, const b_dtype* b, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, i64 row_stride_residual,
         i64 batch_stride_residual, out_dtype* c, i64 row_stride_c, i64 batch_stride_c,
         float* partials, u32* counters, int m, i64 row_stride_a, i64 batch_stride_a,
         i64 row_stride_b, i64 batch_stride_b, i64 row_stride_scale_a, i64 batch_stride_scale_a,
         i64 row_stride_scale_b, i64 batch_stride_scale_b) {
  extern __shared__ __align__(16) unsigned char shared_memory[];
  const int warp = warp_index();
  const int lane = lane_index();
  const int group = lane / 4;
  const int first_column = static_cast<int>(blockIdx.x) * ROWS;
  const int token_groups = ceil_div(m, TOKENS);
  const int batch = static_cast<int>(blockIdx.z) / token_groups;
  const int first_token = (static_cast<int>(blockIdx.z) - batch * token_groups) * TOKENS;
  const int part = static_cast<int>(blockIdx.y);

  const int partial_tile =
      static_cast<int>(blockIdx.z) * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  const PartTicket<SPLIT_K, WholeBlock<THREADS>> ticket(counters, partial_tile);
  Sums sums;
  clear(sums);

  {
    Source source;
    source.weights_stride = row_stride_b;
    source.tokens_stride = row_stride_a;
    const int lane_column = first_column + (WEIGHTS_ALONG_K ? group : group * 8);
    source.columns = n - lane_column;
    source.tokens_left = m - first_token - group;
    source.k_index = lane % 4 * CHUNK;
    source.weights =
        b + batch * batch_stride_b + lane_column * (WEIGHTS_ALONG_K ? row_stride_b : 1);
    source.tokens = a + batch * batch_stride_a + (first_token + group) * row_stride_a;
    if constexpr (BLOCK_SCALED) {
      const int token = first_token + lane % 4 * 2;
      source.token_scales = scale_a + batch * batch_stride_scale_a + token * row_stride_scale_a;
      source.token_scales_stride = row_stride_scale_a;
      source.scaled_tokens_left = m - token;
      source.weight_scales =
          scale_b + batch * batch_stride_scale_b + first_column / SCALED * row_stride_scale_b;
    }

    int step = part * PART_STEPS + warp;
    const int end = opaque(minimum((part + 1) * PART_STEPS, STEPS));
    if constexpr (PREFETCH) {
      Operands operands;
      if (step < end) source.load(operands, step);
#pragma unroll 2
      for (; step < end; step += WARPS) {
        Operands next;
        if (step + WARPS < end) source.load(next, step + WARPS);
        multiply(sums, operands);
        operands = next;
      }
    } else {
#pragma unroll 1
      for (; step < end; step += WARPS) {
        Operands operands;
        source.load(operands, step);
        multiply(sums, operands);
      }
    }
  }

  float totals[QUADS][4];
  add_warps(sums, totals, reinterpret_cast<float4*>(shared_memory));
  if constexpr (SPLIT_K > 1) {
    if (!combine_parts(totals, partials, ticket, partial_tile, part)) return;
  }
  if (warp >= EXCHANGED) return;

  const Epilogue epilogue(bias, has_residual ? residual + batch * batch_stride_residual : nullptr,
                          row_stride_residual, scale_a, scale_b);
  out_dtype* const result = c + batch * batch_stride_c;
#pragma unroll
  for (int quad = 0; quad < QUADS; ++quad) {
    const int tile = quad * EXCHANGED + warp;
    if (tile >= TILES) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = first_column + column_of(tile / TOKEN_TILES, i / 2);
      const int row = first_token + tile % TOKEN_TILES * 8 + lane % 4 * 2 + i % 2;
      if (row >= m || column >= n) continue;
      result[row * row_stride_c + column] =
          from_f32<out_dtype>(epilogue(totals[quad][i], row, column));
    }
  }
}
