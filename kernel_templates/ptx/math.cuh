// Activations and reductions in f32.
#pragma once

__device__ __forceinline__ float relu(float x) { return fmaxf(x, 0.0f); }

// x times the normal distribution function: the exact form, which is also PyTorch's default.
__device__ __forceinline__ float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// x / (1 + e^-x). For x below -88, e^-x is infinite and the quotient is -0, which is right.
__device__ __forceinline__ float silu(float x) { return x / (1.0f + __expf(-x)); }

// `Kind` is the enum that the generated prelude makes of an operator's option "activation", so a
// call is `activate(activation, x)`; with a constant `kind` only one branch survives.
template <typename Kind>
__device__ __forceinline__ float activate(Kind kind, float x) {
  if (kind == Kind::relu) return relu(x);
  if (kind == Kind::gelu) return gelu(x);
  if (kind == Kind::silu) return silu(x);
  return x;
}

// 1 / sqrt(x) by the special-function unit: within 2 units in the last place.
__device__ __forceinline__ float reciprocal_sqrt(float x) { return rsqrtf(x); }

// 2^x by the special-function unit.
__device__ __forceinline__ float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float reciprocal_approx(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The sum, or maximum, over groups of WIDTH consecutive lanes (a power of two up to 32); every lane
// of a group gets it. All 32 lanes of the warp must take part.
template <int WIDTH = 32>
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = WIDTH / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}
template <int WIDTH = 32>
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int offset = WIDTH / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  return x;
}
