// y = h / sqrt(mean(h²) + eps) · weight on CPU cores, h = x [+ residual].
//
// A block takes ROWS_PER_BLOCK rows. Each row is read twice: for the sum of its squares, and to be
// scaled. CACHE_ROW keeps h as f32 in scratch between the two, otherwise it is read and added
// again, from cache if the row fits there. UNROLL is the number of vectors a step handles, each
// with its own partial sum: the latency of one addition would bound the first pass. STREAM writes
// y past the caches where its address allows that.

using V = simd<LANES>::f32;

constexpr int STEP = UNROLL * LANES;
constexpr int WHOLE = columns / STEP * STEP;  // columns that whole steps cover

inline V load_sum(const dtype* x, const dtype* residual, int column, int count) {
  V h = load_partial<LANES>(x + column, count);
  if constexpr (has_residual) h += load_partial<LANES>(residual + column, count);
  return h;
}

inline void store_result(dtype* y, V value, [[maybe_unused]] bool stream) {
  if constexpr (STREAM) {
    if (stream) return store_streaming<LANES>(y, value);
  }
  store<LANES>(y, value);
}

inline void normalize_row(const dtype* x, const dtype* weight, const dtype* residual,
                          dtype* residual_out, dtype* y, float eps,
                          [[maybe_unused]] float* cached) {
  V squares[UNROLL] = {};
  const auto accumulate = [&](int i, int part, int count) __attribute__((always_inline)) {
    const V h = load_sum(x, residual, i, count);
    squares[part] += h * h;
    if constexpr (CACHE_ROW) store<LANES>(cached + i, h);
  };
  for (int i = 0; i < WHOLE; i += STEP) {
    CUDADENT_UNROLL_ALL
    for (int u = 0; u < UNROLL; ++u) accumulate(i + u * LANES, u, LANES);
  }
  for (int i = WHOLE; i < columns; i += LANES) accumulate(i, 0, minimum(LANES, columns - i));
  for (int u = 1; u < UNROLL; ++u) squares[0] += squares[u];
  const float mean = sum_of_lanes<LANES>(squares[0]) / maximum(columns, 1);
  const float scale = 1.0f / __builtin_sqrtf(mean + eps);

  const auto h_at = [&](int i, [[maybe_unused]] int count) __attribute__((always_inline)) {
    if constexpr (CACHE_ROW) {
      return load<LANES>(cached + i);
    } else {
      return load_sum(x, residual, i, count);
    }
  };
  // The residual is written in this pass, after all reads of its columns: it may share memory with
  // x or residual.
  [[maybe_unused]] const bool stream = can_stream<LANES>(y);
  for (int i = 0; i < WHOLE; i += STEP) {
    CUDADENT_UNROLL_ALL
    for (int u = 0; u < UNROLL; ++u) {
      const int at = i + u * LANES;
      const V h = h_at(at, LANES);
      if constexpr (has_residual_out) store<LANES>(residual_out + at, h);
      store_result(y + at, h * scale * load<LANES>(weight + at), stream);
    }
  }
  for (int i = WHOLE; i < columns; i += LANES) {
    const int count = minimum(LANES, columns - i);
    const V h = h_at(i, count);
    if constexpr (has_residual_out) store_partial<LANES>(residual_out + i, h, count);
    store_partial<LANES>(y + i, h * scale * load_partial<LANES>(weight + i, count), count);
  }
}

void rms_norm(const Block& block, const dtype* x, const dtype* weight, const dtype* residual,
              dtype* residual_out, dtype* y, int rows, float eps) {
  const int last = minimum(rows, (block.x + 1) * ROWS_PER_BLOCK);
  for (int row = block.x * ROWS_PER_BLOCK; row < last; ++row) {
    const long long start = row * (long long)columns;
    normalize_row(x + start, weight, has_residual ? residual + start : nullptr,
                  has_residual_out ? residual_out + start : nullptr, y + start, eps,
                  static_cast<float*>(block.scratch));
  }
  if constexpr (STREAM) streaming_fence();
}
