// See op.json.

extern "C" __global__ void __launch_bounds__(256)
    repeat(const dtype* pattern, dtype* data, i64 period, i64 count) {
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    data[i] = pattern[i % period];
  }
}
