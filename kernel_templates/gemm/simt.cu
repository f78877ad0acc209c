// GEMM on the ordinary arithmetic units: any type, any size, any alignment, true f32 products.
//
// A block computes a BM x BN tile of c. BK-deep tiles of a and b are fetched to registers while the
// previous ones are multiplied, converted to f32 and stored in shared memory k-major, twice buffered,
// one barrier a step. A thread keeps TM x TN sums. Its rows and columns come in groups of four (or
// fewer) consecutive ones, with the groups of neighbouring threads side by side, so that fragments
// are read by conflict-free 16-byte loads; the 32 threads of a warp form a 4 x 8 patch.
#include "gemm/epilogue.cuh"
#include "ptx/split_k.cuh"

constexpr bool a_is_mk = layout_a == layout_a_kind::mk;
constexpr bool b_is_nk = layout_b == layout_b_kind::nk;
constexpr int THREADS_M = BM / TM;
constexpr int THREADS_N = BN / TN;
constexpr int ROW_GROUP = minimum(TM, 4);
constexpr int COLUMN_GROUP = minimum(TN, 4);
constexpr int K_BLOCKS = ceil_div(k, BK);
constexpr int SPLIT_K_BLOCKS = ceil_div(K_BLOCKS, SPLIT_K);
constexpr int TILES_N = ceil_div(n, BN);
// Four floats of padding keep 16-byte alignment and spread the transposing stores over the banks.
constexpr int A_PITCH = BM + (a_is_mk ? 4 : 0);
constexpr int B_PITCH = BN + (b_is_nk ? 4 : 0);

// Factors of blocks of an operand: of SHARE by 128 elements, along rows or columns of c and along k.
constexpr int SCALED = 128;
template <bool PRESENT, int SHARE>
struct BlockScales {
  static constexpr bool present = PRESENT;
  static constexpr int share = SHARE;
  const float* scales;
  i64 stride;
  __device__ __forceinline__ float at(int outer, int at_k) const {
    return scales[outer / SHARE * stride + at_k / SCALED];
  }
};
constexpr bool block_scaled = scaling == scaling_kind::block;
using AScales = BlockScales<block_scaled && has_scale_a, 1>;
using BScales = BlockScales<block_scaled && has_scale_b, SCALED>;

// One thread's share of moving a BK x OUTER tile: registers first, shared memory later. The matrix
// holds k along its rows (K_CONTIGUOUS) or down its columns. VECTOR elements move at a time.
template <typename T, bool K_CONTIGUOUS, int OUTER, int PITCH, int VECTOR, typename SCALES>
struct TileMover {
  static constexpr int ROW_VECTORS = (K_CONTIGUOUS ? BK : OUTER) / VECTOR;
  static constexpr int TOTAL = BK * OUTER / VECTOR;
  static constexpr int PASSES = ceil_div(TOTAL, THREADS);
  // One for a whole vector, unless it goes along rows of c that each have their own.
  static constexpr int FACTORS = K_CONTIGUOUS || SCALES::share > 1 ? 1 : VECTOR;
  Vector<T, VECTOR> registers[PASSES];
  float factors[SCALES::present ? PASSES : 1][FACTORS];

  // `outer` and `first_k` are where the tile begins; elements outside the matrix become zeros.
  __device__ __forceinline__ void fetch(const T* matrix, i64 stride, const SCALES& scales,
                                        int outer, int outer_size, int first_k) {
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      const int index = pass * THREADS + static_cast<int>(threadIdx.x);
      const int row = index / ROW_VECTORS;
      const int column = index % ROW_VECTORS * VECTOR;
      const int outer_index = outer + (K_CONTIGUOUS ? row : column);
      const int k_index = first_k + (K_CONTIGUOUS ? column : row);
      const bool valid = (TOTAL % THREADS == 0 || index < TOTAL) && outer_index < outer_size &&
                         (k % BK == 0 || k_index < k);
      registers[pass].clear();
      if (valid) {
        registers[pass].load(matrix + (K_CONTIGUOUS ? outer_index * stride + k_index
                                                    : k_index * stride + outer_index));
      }
      if constexpr (SCALES::present) {
#pragma unroll
        for (int i = 0; i < FACTORS; ++i) {
          factors[pass][i] = valid ? scales.at(outer_index + i, k_index) : 0.0f;
        }
      }
    }
  }

  // Element i of a pass, times its factor.
  __device__ __forceinline__ float element(int pass, int i) const {
    if constexpr (SCALES::present) {
      return registers[pass].get(i) * factors[pass][FACTORS == 1 ? 0 : i];
    } else {
      return registers[pass].get(i);
    }
  }

  __device__ __forceinline__ void put(float* tile) const {
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      const int index = pass * THREADS + static_cast<int>(threadIdx.x);
      if (TOTAL % THREADS != 0 && index >= TOTAL) continue;
      const int row = index / ROW_VECTORS;
      const int column = index % ROW_VECTORS * VECTOR;
      if constexpr (K_CONTIGUOUS) {
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) tile[(column + i) * PITCH + row] = element(pass, i);
      } else {
        Vector<f32, VECTOR> values;
        float unpacked[VECTOR];
#pragma unroll
        for (int i = 0; i < VECTOR; ++i) unpacked[i] = element(pass, i);
        values.set(unpacked);
        values.store(tile + row * PITCH + column);
      }
    }
  }
};

using AMover = TileMover<dtype, a_is_mk, BM, A_PITCH, A_VECTOR, AScales>;
using BMover = TileMover<b_dtype, b_is_nk, BN, B_PITCH, B_VECTOR, BScales>;
static_assert(COLUMN_GROUP % C_VECTOR == 0, "groups of columns are stored whole");

// COUNT values of a row of a k-major tile: groups of GROUP, STRIDE apart.
template <int COUNT, int GROUP, int STRIDE>
__device__ __forceinline__ void load_fragment(float (&fragment)[COUNT], const float* row) {
#pragma unroll
  for (int group = 0; group < COUNT / GROUP; ++group) {
    Vector<f32, GROUP> values;
    values.load(row + group * STRIDE);
#pragma unroll
    for (int i = 0; i < GROUP; ++i) fragment[group * GROUP + i] = values.get(i);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    gemm(const dtype* a, const b_dtype* b, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, out_dtype* c, float* partials,
         u32* counters, int m, i64 batch_stride_a, i64 row_stride_a, i64 batch_stride_b,
         i64 row_stride_b, i64 batch_stride_scale_a, i64 row_stride_scale_a,
         i64 batch_stride_scale_b, i64 row_stride_scale_b, i64 batch_stride_residual,
         i64 row_stride_residual, i64 batch_stride_c, i64 row_stride_c) {
  __shared__ __align__(16) float a_tiles[2][BK * A_PITCH];
  __shared__ __align__(16) float b_tiles[2][BK * B_PITCH];

  // Blocks go down RASTER tiles of m before they step along n, for reuse in the L2 cache.
  int tile = static_cast<int>(blockIdx.x);
  const int tiles_m = ceil_div(m, BM);
  if constexpr (BATCHED) {
    const int index = tile / (tiles_m * TILES_N);
    tile -= index * (tiles_m * TILES_N);
    a += index * batch_stride_a;
    b += index * batch_stride_b;
    c += index * batch_stride_c;
    if constexpr (has_residual) residual += index * batch_stride_residual;
    if constexpr (AScales::present) scale_a += index * batch_stride_scale_a;
    if constexpr (BScales::present) scale_b += index * batch_stride_scale_b;
  }
  if constexpr (PACKED) {  // constants are cheaper
    row_stride_a = a_is_mk ? k : m;
    row_stride_b = b_is_nk ? k : n;
    row_stride_residual = n;
    row_stride_c = n;
  }
  const int group = tile / (RASTER * TILES_N);
  const int group_rows = minimum(tiles_m - group * RASTER, RASTER);
  const int in_group = tile - group * (RASTER * TILES_N);
  const int first_row = (group * RASTER + in_group % group_rows) * BM;
  const int first_column = in_group / group_rows * BN;

  const int warp = warp_index();
  const int lane = lane_index();
  constexpr int WARPS_ALONG_N = THREADS_N / 8;
  const int thread_m = warp / WARPS_ALONG_N * 4 + lane / 8;
  const int thread_n = warp % WARPS_ALONG_N * 8 + lane % 8;

  const PartTicket<SPLIT_K, WholeBlock<THREADS>> ticket(counters, static_cast<int>(blockIdx.x));
  // sums[row * TN / 4 + column / 4][column % 4], or the like for narrow TN: quads for combine_parts.
  float sums[TM * TN / 4][4];
#pragma unroll
  for (auto& quad : sums) {
#pragma unroll
    for (float& sum : quad) sum = 0.0f;
  }

  if constexpr (k > 0) {
    const int first_block = SPLIT_K == 1 ? 0 : static_cast<int>(blockIdx.y) * SPLIT_K_BLOCKS;
    const int last_block = opaque(minimum(first_block + SPLIT_K_BLOCKS, K_BLOCKS));
    if (first_block < last_block) {
      const AScales a_scales{scale_a, row_stride_scale_a};
      const BScales b_scales{scale_b, row_stride_scale_b};
      AMover a_mover;
      BMover b_mover;
      a_mover.fetch(a, row_stride_a, a_scales, first_row, m, first_block * BK);
      b_mover.fetch(b, row_stride_b, b_scales, first_column, n, first_block * BK);
      a_mover.put(a_tiles[0]);
      b_mover.put(b_tiles[0]);
      __syncthreads();
      int buffer = 0;
#pragma unroll 1
      for (int block = first_block; block < last_block; ++block) {
        const bool more = block + 1 < last_block;
        if (more) {
          a_mover.fetch(a, row_stride_a, a_scales, first_row, m, (block + 1) * BK);
          b_mover.fetch(b, row_stride_b, b_scales, first_column, n, (block + 1) * BK);
        }
        const float* const a_tile = a_tiles[buffer] + thread_m * ROW_GROUP;
        const float* const b_tile = b_tiles[buffer] + thread_n * COLUMN_GROUP;
// A longer stretch of code makes the compiler fetch fragments far ahead, into too many registers.
#pragma unroll 8
        for (int step = 0; step < BK; ++step) {
          float a_values[TM];
          float b_values[TN];
          load_fragment<TM, ROW_GROUP, THREADS_M * ROW_GROUP>(a_values, a_tile + step * A_PITCH);
          load_fragment<TN, COLUMN_GROUP, THREADS_N * COLUMN_GROUP>(b_values,
                                                                    b_tile + step * B_PITCH);
#pragma unroll
          for (int i = 0; i < TM; ++i) {
#pragma unroll
            for (int j = 0; j < TN; ++j) {
              float& sum = sums[(i * TN + j) / 4][(i * TN + j) % 4];
              sum = fmaf(a_values[i], b_values[j], sum);
            }
          }
        }
        // The other buffer was last read before the previous barrier.
        buffer ^= 1;
        if (more) {
          a_mover.put(a_tiles[buffer]);
          b_mover.put(b_tiles[buffer]);
        }
        __syncthreads();
      }
    }
  }
  if constexpr (SPLIT_K > 1) {
    if (!combine_parts(sums, partials, ticket, blockIdx.x, blockIdx.y)) return;
  }

  const Epilogue epilogue(bias, residual, row_stride_residual, scale_a, scale_b);
#pragma unroll
  for (int j = 0; j < TN; j += C_VECTOR) {
    const int column = first_column + j / COLUMN_GROUP * (THREADS_N * COLUMN_GROUP) +
                       thread_n * COLUMN_GROUP + j % COLUMN_GROUP;
    if (column >= n) continue;
    float bias_values[C_VECTOR];
    epilogue.load_bias<true>(bias_values, column);
#pragma unroll
    for (int i = 0; i < TM; ++i) {
      const int row = first_row + i / ROW_GROUP * (THREADS_M * ROW_GROUP) + thread_m * ROW_GROUP +
                      i % ROW_GROUP;
      if (row >= m) continue;
      float results[C_VECTOR];
#pragma unroll
      for (int x = 0; x < C_VECTOR; ++x) {
        const int index = i * TN + j + x;
        results[x] = sums[index / 4][index % 4];
      }
      epilogue.finish<true>(results, bias_values, row, column);
      Vector<out_dtype, C_VECTOR> packed;
      packed.set(results);
      packed.store(c + row * row_stride_c + column);
    }
  }
}
