// GEMM, slow and plainly right: what every other template is verified against.
//
// One thread computes one element of c. Sums of 32 products are accumulated in f32 and added up in
// f64, so the error does not grow with k: about 2e-7 of the result's norm for f32 inputs, and less
// than that for narrower ones, whose products are exact in f32. With precision tf32 it is just as
// exact. 32 products have one pair of block scales.
#include "ptx/math.cuh"

constexpr int TILE = 32;
constexpr int SCALED = 128;  // elements that share a block scale, along k, and of b along n too
constexpr bool block_scaled = scaling == scaling_kind::block;
constexpr bool a_is_mk = layout_a == layout_a_kind::mk;
constexpr bool b_is_nk = layout_b == layout_b_kind::nk;

// Element [k][outer] of a matrix that holds k along its rows, or down its columns; zero outside.
template <bool K_CONTIGUOUS, typename T>
__device__ float element(const T* matrix, i64 stride, int outer, int outer_size, int at_k, int k) {
  if (outer >= outer_size || at_k >= k) return 0.0f;
  return to_f32(matrix[K_CONTIGUOUS ? outer * stride + at_k : at_k * stride + outer]);
}

extern "C" __global__ void __launch_bounds__(TILE* TILE)
    gemm(const dtype* a, const b_dtype* b, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, out_dtype* c, int m, int n, int k,
         i64 batch_stride_a, i64 row_stride_a, i64 batch_stride_b, i64 row_stride_b,
         i64 batch_stride_scale_a, i64 row_stride_scale_a, i64 batch_stride_scale_b,
         i64 row_stride_scale_b, i64 batch_stride_residual, i64 row_stride_residual,
         i64 batch_stride_c, i64 row_stride_c) {
  __shared__ float a_tile[TILE][TILE + 1];  // [row][k]; padded against bank conflicts
  __shared__ float b_tile[TILE][TILE + 1];  // [k][column]
  const int x = static_cast<int>(threadIdx.x) % TILE;
  const int y = static_cast<int>(threadIdx.x) / TILE;
  const int tiles_n = ceil_div(n, TILE);
  const int tiles = ceil_div(m, TILE) * tiles_n;
  const int index = static_cast<int>(blockIdx.x) / tiles;  // in the batch
  const int tile = static_cast<int>(blockIdx.x) % tiles;
  const int first_row = tile / tiles_n * TILE;
  const int first_column = tile % tiles_n * TILE;
  const int row = first_row + y;
  const int column = first_column + x;
  a += index * batch_stride_a;
  b += index * batch_stride_b;

  double total = 0.0;
  for (int first_k = 0; first_k < k; first_k += TILE) {
    // Neighbouring threads, along x, read neighbouring addresses.
    (a_is_mk ? a_tile[y][x] : a_tile[x][y]) = element<a_is_mk>(
        a, row_stride_a, first_row + (a_is_mk ? y : x), m, first_k + (a_is_mk ? x : y), k);
    (b_is_nk ? b_tile[x][y] : b_tile[y][x]) = element<b_is_nk>(
        b, row_stride_b, first_column + (b_is_nk ? y : x), n, first_k + (b_is_nk ? x : y), k);
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < TILE; ++i) sum = fmaf(a_tile[y][i], b_tile[i][x], sum);
    __syncthreads();
    double scaled = static_cast<double>(sum);
    if constexpr (block_scaled && has_scale_a) {
      const i64 at = index * batch_stride_scale_a + row * row_stride_scale_a + first_k / SCALED;
      if (row < m) scaled *= static_cast<double>(scale_a[at]);
    }
    if constexpr (block_scaled && has_scale_b) {
      const i64 at =
          index * batch_stride_scale_b + column / SCALED * row_stride_scale_b + first_k / SCALED;
      if (column < n) scaled *= static_cast<double>(scale_b[at]);
    }
    total += scaled;
  }

  if (row >= m || column >= n) return;
  if constexpr (!block_scaled && has_scale_a) total *= static_cast<double>(scale_a[0]);
  if constexpr (!block_scaled && has_scale_b) total *= static_cast<double>(scale_b[0]);
  if constexpr (has_bias) total += static_cast<double>(to_f32(bias[column]));
  float result = activate(activation, static_cast<float>(total));
  if constexpr (has_residual) {
    result += to_f32(residual[index * batch_stride_residual + row * row_stride_residual + column]);
  }
  c[index * batch_stride_c + row * row_stride_c + column] = from_f32<out_dtype>(result);
}
