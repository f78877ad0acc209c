// Activations and reductions in f32.
#pragma once

// 2^x by the special-function unit: a relative error of 2^-22 (PTX ISA, ex2.approx).
__device__ __forceinline__ float exp2_approx(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// 2^x for x up to 120 without the special-function unit: a relative error of 3e-6. Below -126 it stays at
// 2^-126, even for -infinity. The integer part is found by adding 1.5 · 2^23, which rounds to nearest, and
// goes into the exponent of a polynomial of what is left.
__device__ __forceinline__ float exp2_by_fma(float x) {
  const float bounded = fmaxf(x, -126.0f);
  const float shifted = bounded + 12582912.0f;
  const float rest = bounded - (shifted - 12582912.0f);
  float power = fmaf(0.00957010169f, rest, 0.0559178603f);
  power = fmaf(power, rest, 0.240247448f);
  power = fmaf(power, rest, 0.693121815f);
  power = fmaf(power, rest, 0.999999261f);
  return __uint_as_float(__float_as_uint(power) + (__float_as_uint(shifted) << 23));
}

// 1 / x by the special-function unit: within 1 unit in the last place (PTX ISA, rcp.approx.ftz).
__device__ __forceinline__ float reciprocal_approx(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The hyperbolic tangent to about 2e-7 absolutely, by two instructions of the special-function unit. (The
// unit's own tanh is right to 5e-4 only.)
__device__ __forceinline__ float tanh_approx(float x) {
  return fmaf(-2.0f, reciprocal_approx(1.0f + exp2_approx(x * 2.88539008f)), 1.0f);
}

// A NaN stays one, which fmaxf would make a zero of.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

// x times the normal distribution function: the exact form, which is also PyTorch's default.
__device__ __forceinline__ float gelu(float x) {
  return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}

// x / (1 + e^-x), without the branches of an exact division: a relative error of 1e-6 for x > -8, and
// of 3e-9 absolutely below, where the result vanishes. The factor is bounded below because e^-x is
// infinite for x under -88, and -inf times its reciprocal, 0, would be a NaN where silu is -0. A NaN
// fails the comparison and stays one.
__device__ __forceinline__ float silu(float x) {
  const float factor = x < -128.0f ? -128.0f : x;
  return factor * reciprocal_approx(1.0f + exp2_approx(x * -1.44269504f));
}

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
