// The reference of gemm on CPU cores: every product and sum in f64, rounded once at the end. A
// block computes ROWS × COLUMNS elements of c, and converts its operands to f64 tiles of DEPTH
// along k first, so that all layouts share one loop that a compiler can vectorise. Block scales are
// multiplied into the tiles.

constexpr int SCALED = 128;  // elements that share a block scale, along k, and of b along n too
constexpr bool block_scaled = scaling == scaling_kind::block;

inline double activate(double x) {
  if constexpr (activation == activation_kind::relu) return x < 0 ? 0 : x;
  if constexpr (activation == activation_kind::gelu) {
    return 0.5 * x * __builtin_erfc(x * -0.70710678118654752);
  }
  if constexpr (activation == activation_kind::silu) return x / (1 + __builtin_exp(-x));
  return x;
}

// tile[i][kk] = rows `outer` + i of a matrix, from column k0, zero beyond `depth` columns. The
// matrix holds k along its rows, or down its columns.
template <bool k_contiguous, typename T>
void fill_tile(double (*tile)[DEPTH], const T* matrix, i64 stride, int outer, int count, int k0,
               int depth) {
  for (int i = 0; i < count; ++i) {
    for (int kk = 0; kk < DEPTH; ++kk) {
      const i64 at = k_contiguous ? (outer + i) * stride + k0 + kk : (k0 + kk) * stride + outer + i;
      tile[i][kk] = kk < depth ? to_f32(matrix[at]) : 0;
    }
  }
}

// `share` rows have one row of scales.
inline void scale_tile(double (*tile)[DEPTH], const float* scales, i64 stride, int share, int outer,
                       int count, int k0, int depth) {
  for (int i = 0; i < count; ++i) {
    const float* row = scales + (outer + i) / share * stride;
    for (int kk = 0; kk < depth; ++kk) tile[i][kk] *= row[(k0 + kk) / SCALED];
  }
}

void gemm_reference(const Block& block, const dtype* a, const b_dtype* b, const bias_dtype* bias,
                    const float* scale_a, const float* scale_b, const out_dtype* residual,
                    out_dtype* c, int m, i64 batch_stride_a, i64 row_stride_a, i64 batch_stride_b,
                    i64 row_stride_b, i64 batch_stride_scale_a, i64 row_stride_scale_a,
                    i64 batch_stride_scale_b, i64 row_stride_scale_b, i64 batch_stride_residual,
                    i64 row_stride_residual, i64 batch_stride_c, i64 row_stride_c) {
  constexpr int parts = 8;  // partial sums of a dot product, one vector of doubles
  auto* tile_a = static_cast<double(*)[DEPTH]>(block.scratch);
  auto* tile_b = tile_a + ROWS;
  double* sums = tile_b[COLUMNS];
  const int row = block.y * ROWS, rows = minimum(ROWS, m - row);
  const int column = block.x * COLUMNS, columns = minimum(COLUMNS, n - column);
  const int index = block.z;  // in the batch

  for (int i = 0; i < ROWS * COLUMNS; ++i) sums[i] = 0;
  for (int k0 = 0; k0 < k; k0 += DEPTH) {
    const int depth = minimum(DEPTH, k - k0);
    fill_tile<layout_a == layout_a_kind::mk>(tile_a, a + index * batch_stride_a, row_stride_a, row,
                                             rows, k0, depth);
    fill_tile<layout_b == layout_b_kind::nk>(tile_b, b + index * batch_stride_b, row_stride_b,
                                             column, columns, k0, depth);
    if constexpr (block_scaled && has_scale_a) {
      scale_tile(tile_a, scale_a + index * batch_stride_scale_a, row_stride_scale_a, 1, row, rows,
                 k0, depth);
    }
    if constexpr (block_scaled && has_scale_b) {
      scale_tile(tile_b, scale_b + index * batch_stride_scale_b, row_stride_scale_b, SCALED, column,
                 columns, k0, depth);
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

  double scale = 1;
  if constexpr (!block_scaled && has_scale_a) scale *= scale_a[0];
  if constexpr (!block_scaled && has_scale_b) scale *= scale_b[0];
  residual += index * batch_stride_residual;
  c += index * batch_stride_c;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) {
      double result = scale * sums[i * COLUMNS + j];
      if constexpr (has_bias) result += to_f32(bias[column + j]);
      result = activate(result);
      if constexpr (has_residual) {
        result += to_f32(residual[(row + i) * row_stride_residual + column + j]);
      }
      c[(row + i) * row_stride_c + column + j] = from_f32<out_dtype>(static_cast<float>(result));
    }
  }
}
