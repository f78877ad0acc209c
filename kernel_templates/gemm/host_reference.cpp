// The reference of gemm on CPU cores: every product and sum in f64, rounded once at the end. A
// block computes ROWS × COLUMNS elements of c, and converts its operands to f64 tiles of DEPTH
// along k first, so that both layouts of b share one loop that a compiler can vectorise.

inline double activate(double x) {
  if constexpr (activation == activation_kind::relu) return x < 0 ? 0 : x;
  if constexpr (activation == activation_kind::gelu) {
    return 0.5 * x * __builtin_erfc(x * -0.70710678118654752);
  }
  if constexpr (activation == activation_kind::silu) return x / (1 + __builtin_exp(-x));
  return x;
}

void gemm_reference(const Block& block, const dtype* a, const dtype* b, const dtype* bias,
                    out_dtype* c, int m) {
  constexpr int parts = 8;  // partial sums of a dot product, one vector of doubles
  auto* tile_a = static_cast<double(*)[DEPTH]>(block.scratch);
  auto* tile_b = tile_a + ROWS;
  double* sums = tile_b[COLUMNS];
  const int row = block.y * ROWS, rows = minimum(ROWS, m - row);
  const int column = block.x * COLUMNS, columns = minimum(COLUMNS, n - column);

  for (int i = 0; i < ROWS * COLUMNS; ++i) sums[i] = 0;
  for (int k0 = 0; k0 < k; k0 += DEPTH) {
    const int depth = minimum(DEPTH, k - k0);
    for (int i = 0; i < rows; ++i) {
      for (int kk = 0; kk < DEPTH; ++kk) {
        tile_a[i][kk] = kk < depth ? to_f32(a[(row + i) * (long long)k + k0 + kk]) : 0;
      }
    }
    for (int j = 0; j < columns; ++j) {
      for (int kk = 0; kk < DEPTH; ++kk) {
        const long long at = layout_b == layout_b_kind::nk ? (column + j) * (long long)k + k0 + kk
                                                           : (k0 + kk) * (long long)n + column + j;
        tile_b[j][kk] = kk < depth ? to_f32(b[at]) : 0;
      }
    }
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        double partial[parts] = {};
        for (int kk = 0; kk < DEPTH; kk += parts) {
          for (int p = 0; p < parts; ++p) partial[p] += tile_a[i][kk + p] * tile_b[j][kk + p];
        }
        for (int p = 0; p < parts; ++p) sums[i * COLUMNS + j] += partial[p];
      }
    }
  }

  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      double sum = sums[i * COLUMNS + j];
      if constexpr (has_bias) sum += to_f32(bias[column + j]);
      const float result = static_cast<float>(activate(sum));
      c[(row + i) * (long long)n + column + j] = from_f32<out_dtype>(result);
    }
  }
}
