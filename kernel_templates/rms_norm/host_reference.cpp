// The reference of rms_norm on CPU cores: h and its statistics in f64, rounded once at the end.

inline double sum_at(const dtype* x, const dtype* residual, long long at) {
  double h = to_f32(x[at]);
  if constexpr (has_residual) h += to_f32(residual[at]);
  return h;
}

void rms_norm_reference(const Block& block, const dtype* x, const dtype* weight,
                        const dtype* residual, dtype* residual_out, dtype* y, int rows, float eps) {
  const int last = minimum(rows, (block.x + 1) * ROWS);
  for (int row = block.x * ROWS; row < last; ++row) {
    const long long start = row * (long long)columns;
    double squares = 0;
    for (int i = 0; i < columns; ++i) {
      const double h = sum_at(x, residual, start + i);
      squares += h * h;
    }
    const double scale = 1 / __builtin_sqrt(squares / maximum(columns, 1) + eps);
    for (int i = 0; i < columns; ++i) {
      const double h = sum_at(x, residual, start + i);
      y[start + i] = from_f32<dtype>(static_cast<float>(h * scale * to_f32(weight[i])));
      // Last: residual_out may be the same memory as x or residual.
      if constexpr (has_residual_out)
        residual_out[start + i] = from_f32<dtype>(static_cast<float>(h));
    }
  }
}
