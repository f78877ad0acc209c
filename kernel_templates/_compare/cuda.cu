// Sums, and the maximum, that verification needs; see op.json.

__device__ __forceinline__ double to_f64(double x) { return x; }
__device__ __forceinline__ double to_f64(i64 x) { return static_cast<double>(x); }
__device__ __forceinline__ double to_f64(i32 x) { return x; }
__device__ __forceinline__ double to_f64(i8 x) { return x; }
__device__ __forceinline__ double to_f64(u8 x) { return x; }
__device__ __forceinline__ double to_f64(f32 x) { return x; }
__device__ __forceinline__ double to_f64(bf16 x) { return to_f32(x); }
__device__ __forceinline__ double to_f64(f16 x) { return to_f32(x); }
__device__ __forceinline__ double to_f64(e4m3 x) { return to_f32(x); }
__device__ __forceinline__ double to_f64(e5m2 x) { return to_f32(x); }

// False for NaN and infinities.
__device__ __forceinline__ bool is_finite(double x) { return x - x == 0.0; }

__device__ __forceinline__ double from_lane(double x, int offset) {
  const u64 bits = __shfl_xor_sync(0xffffffffu, static_cast<u64>(__double_as_longlong(x)), offset);
  return __longlong_as_double(static_cast<i64>(bits));
}

extern "C" __global__ void __launch_bounds__(256)
    compare(const dtype* actual, const dtype* expected, double* result, i64 count, float slack) {
  double difference = 0, magnitude = 0, excess = 0, broken = 0, missing = 0;
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const double a = to_f64(actual[i]), e = to_f64(expected[i]);
    if (is_finite(a) && is_finite(e)) {
      const double d = a - e;
      difference += d * d;
      magnitude += e * e;
      excess = fmax(excess, fabs(d) - slack * fabs(e));
    } else if (a != a && e != e) {
      missing += 1;
    } else if (!(a == e)) {
      broken += 1;
    }
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    difference += from_lane(difference, offset);
    magnitude += from_lane(magnitude, offset);
    excess = fmax(excess, from_lane(excess, offset));
    broken += from_lane(broken, offset);
    missing += from_lane(missing, offset);
  }
  if (lane_index() != 0) return;
  atomicAdd(result + 0, difference);
  atomicAdd(result + 1, magnitude);
  // Non-negative doubles order as their bits do.
  atomicMax(reinterpret_cast<long long*>(result + 2), __double_as_longlong(excess));
  atomicAdd(result + 3, broken);
  atomicAdd(result + 4, missing);
}
