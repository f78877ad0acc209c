// RMS normalisation, slow and plainly right: one block a row, sums in f64, one element at a time.

constexpr int THREADS = 256;

__device__ float hidden(const dtype* x, const dtype* residual, i64 position) {
  const float value = to_f32(x[position]);
  if constexpr (has_residual) return value + to_f32(residual[position]);
  return value;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    rms_norm(const dtype* x, const dtype* weight, const dtype* residual, dtype* residual_out,
             dtype* y, float eps, int columns) {
  __shared__ double sums[THREADS];
  const int thread = static_cast<int>(threadIdx.x);
  const i64 start = static_cast<i64>(blockIdx.x) * columns;

  double sum = 0.0;
  for (int column = thread; column < columns; column += THREADS) {
    const double h = hidden(x, residual, start + column);
    sum += h * h;
  }
  sums[thread] = sum;
  for (int half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  __syncthreads();

  const double scale = 1.0 / sqrt(sums[0] / columns + static_cast<double>(eps));
  for (int column = thread; column < columns; column += THREADS) {
    const float h = hidden(x, residual, start + column);
    if constexpr (has_residual_out) residual_out[start + column] = from_f32<dtype>(h);
    const double normalised = h * scale * static_cast<double>(to_f32(weight[column]));
    y[start + column] = from_f32<dtype>(static_cast<float>(normalised));
  }
}
