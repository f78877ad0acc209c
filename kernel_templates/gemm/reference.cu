// GEMM, slow and plainly right: what every other template is verified against.
//
// One thread computes one element of c. Sums of 32 products are accumulated in f32 and added up in
// f64, so the error does not grow with k: about 2e-7 of the result's norm for f32 inputs, and less
// than that for 16-bit ones, whose products are exact in f32.
#include "ptx/math.cuh"

constexpr int TILE = 32;

extern "C" __global__ void __launch_bounds__(TILE* TILE)
    gemm(const dtype* a, const dtype* b, const dtype* bias, out_dtype* c, int m, int n, int k) {
  __shared__ float a_tile[TILE][TILE + 1];  // [row][k]; padded against bank conflicts
  __shared__ float b_tile[TILE][TILE + 1];  // [k][column]
  const int x = static_cast<int>(threadIdx.x) % TILE;
  const int y = static_cast<int>(threadIdx.x) / TILE;
  const int tiles_n = ceil_div(n, TILE);
  const int first_row = static_cast<int>(blockIdx.x) / tiles_n * TILE;
  const int first_column = static_cast<int>(blockIdx.x) % tiles_n * TILE;

  double total = 0.0;
  for (int first_k = 0; first_k < k; first_k += TILE) {
    const int a_row = first_row + y;
    const int a_k = first_k + x;
    a_tile[y][x] = a_row < m && a_k < k ? to_f32(a[static_cast<i64>(a_row) * k + a_k]) : 0.0f;
    if constexpr (layout_b == layout_b_kind::nk) {
      const int column = first_column + y;
      const int b_k = first_k + x;
      b_tile[x][y] = column < n && b_k < k ? to_f32(b[static_cast<i64>(column) * k + b_k]) : 0.0f;
    } else {
      const int column = first_column + x;
      const int b_k = first_k + y;
      b_tile[y][x] = column < n && b_k < k ? to_f32(b[static_cast<i64>(b_k) * n + column]) : 0.0f;
    }
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
  if constexpr (has_bias) total += static_cast<double>(to_f32(bias[column]));
  c[static_cast<i64>(row) * n + column] =
      from_f32<out_dtype>(activate(activation, static_cast<float>(total)));
}
