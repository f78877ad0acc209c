// GEMM, slow and plainly right: what every other template is verified against.
//
// One thread computes one element of c. Sums of 32 products are accumulated in f32 and added up in
// f64, so the error does not grow with k: about 2e-7 of the result's norm for f32 inputs, and less
// than that for 16-bit ones, whose products are exact in f32. With precision tf32 it is just as exact.
#include "ptx/math.cuh"

constexpr int TILE = 32;

// Element [k][outer] of a matrix that holds k along its rows, or down its columns; zero outside.
template <bool K_CONTIGUOUS>
__device__ float element(const dtype* matrix, int outer, int outer_size, int at_k, int k) {
  if (outer >= outer_size || at_k >= k) return 0.0f;
  return to_f32(matrix[K_CONTIGUOUS ? static_cast<i64>(outer) * k + at_k
                                    : static_cast<i64>(at_k) * outer_size + outer]);
}

extern "C" __global__ void __launch_bounds__(TILE* TILE)
    gemm(const dtype* a, const dtype* b, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, out_dtype* c, int m, int n, int k) {
  constexpr bool a_is_mk = layout_a == layout_a_kind::mk;
  constexpr bool b_is_nk = layout_b == layout_b_kind::nk;
  __shared__ float a_tile[TILE][TILE + 1];  // [row][k]; padded against bank conflicts
  __shared__ float b_tile[TILE][TILE + 1];  // [k][column]
  const int x = static_cast<int>(threadIdx.x) % TILE;
  const int y = static_cast<int>(threadIdx.x) / TILE;
  const int tiles_n = ceil_div(n, TILE);
  const int first_row = static_cast<int>(blockIdx.x) / tiles_n * TILE;
  const int first_column = static_cast<int>(blockIdx.x) % tiles_n * TILE;

  double total = 0.0;
  for (int first_k = 0; first_k < k; first_k += TILE) {
    // Neighbouring threads, along x, read neighbouring addresses.
    (a_is_mk ? a_tile[y][x] : a_tile[x][y]) =
        element<a_is_mk>(a, first_row + (a_is_mk ? y : x), m, first_k + (a_is_mk ? x : y), k);
    (b_is_nk ? b_tile[x][y] : b_tile[y][x]) =
        element<b_is_nk>(b, first_column + (b_is_nk ? y : x), n, first_k + (b_is_nk ? x : y), k);
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < TILE; ++i) sum = fmaf(a_tile[y][i], b_tile[i][x], sum);
    total += static_cast<double>(sum);
    __syncthreads();
  }

  const int row = first_row + y;
  const int column = first_column + x;
  if (row >= m || column >= n) return;
  if constexpr (has_scale_a) total *= static_cast<double>(scale_a[0]);
  if constexpr (has_scale_b) total *= static_cast<double>(scale_b[0]);
  if constexpr (has_bias) total += static_cast<double>(to_f32(bias[column]));
  float result = activate(activation, static_cast<float>(total));
  const i64 at = static_cast<i64>(row) * n + column;
  if constexpr (has_residual) result += to_f32(residual[at]);
  c[at] = from_f32<out_dtype>(result);
}
