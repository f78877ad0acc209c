// Element types, conversions and small helpers of every CUDA kernel template.
//
// This file is always the first part of a specialization's source, before the generated prelude of
// constants. It includes nothing: NVRTC compiles a template without headers about ten times faster
// than one with cuda_fp16.h and friends. Everything used below (threadIdx, uint4, fmaf, bit casts)
// is built into NVRTC and nvcc.
#pragma once

using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using i64 = long long;
using u64 = unsigned long long;
using f32 = float;
using f64 = double;

// 16-bit floats are plain bits: arithmetic on them is always done in f32.
struct bf16 {
  u16 bits;
};
struct f16 {
  u16 bits;
};
// So are 8-bit floats (OCP 8-bit Floating Point Specification 1.0). e4m3: four bits of exponent, no
// infinities, largest 448, NaN 0x7f and 0xff. e5m2: as f16 with eight bits less, largest 57344.
struct e4m3 {
  u8 bits;
};
struct e5m2 {
  u8 bits;
};

// ---------------------------------------------------------------------------------------------
// Types

template <typename A, typename B>
struct is_same_type {
  static constexpr bool value = false;
};
template <typename A>
struct is_same_type<A, A> {
  static constexpr bool value = true;
};
template <typename A, typename B>
constexpr bool same_type = is_same_type<A, B>::value;

template <typename T>
constexpr bool is_16bit_float = same_type<T, bf16> || same_type<T, f16>;
template <typename T>
constexpr bool is_8bit_float = same_type<T, e4m3> || same_type<T, e5m2>;

// ---------------------------------------------------------------------------------------------
// Small integer helpers, usable in constant expressions

template <typename T>
__host__ __device__ constexpr T minimum(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
__host__ __device__ constexpr T maximum(T a, T b) {
  return a < b ? b : a;
}
__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }
__host__ __device__ constexpr bool is_pow2(int a) { return a > 0 && (a & (a - 1)) == 0; }
// Floor of the base-2 logarithm of a positive integer.
__host__ __device__ constexpr int log2_floor(int a) { return a <= 1 ? 0 : 1 + log2_floor(a / 2); }

// Calls f(constant<0>()), f(constant<1>()), ... up to COUNT - 1: a loop whose index is a compile-time
// constant from the start, for arrays that must stay in registers.
template <int VALUE>
struct constant {
  static constexpr int value = VALUE;
};
template <int COUNT, int FIRST = 0, typename F>
__device__ __forceinline__ void static_for(F&& f) {
  if constexpr (FIRST < COUNT) {
    f(constant<FIRST>());
    static_for<COUNT, FIRST + 1>(f);
  }
}

// The same value, which the compiler cannot see through. NVRTC 13.0 was seen to unroll a loop over a
// constant number of tiles, all 128 of them, in spite of `#pragma unroll 1`.
__device__ __forceinline__ int opaque(int value) {
  int result;
  asm volatile("mov.s32 %0, %1;" : "=r"(result) : "r"(value));
  return result;
}

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) & 31; }
// The index of the warp in its block, broadcast so that the compiler keeps it in a uniform
// register.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) >> 5, 0);
}

// ---------------------------------------------------------------------------------------------
// Conversions

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(double x) { return static_cast<float>(x); }
__device__ __forceinline__ float to_f32(int x) { return static_cast<float>(x); }
__device__ __forceinline__ float to_f32(bf16 x) {
  return __uint_as_float(static_cast<u32>(x.bits) << 16);
}
__device__ __forceinline__ float to_f32(f16 x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
}

namespace detail {

// What devices before sm_89 have no instructions for.
__device__ __forceinline__ float e4m3_to_f32_by_integers(e4m3 x) {
  const u32 magnitude = x.bits & 0x7fu, sign = (x.bits & 0x80u) << 24;
  const u32 normal = (magnitude << 20) + (120u << 23);
  const u32 subnormal = __float_as_uint(static_cast<float>(magnitude) * 0x1p-9f);
  const u32 word = magnitude == 0x7fu ? 0x7fffffffu : magnitude < 8 ? subnormal : normal;
  return __uint_as_float(word | sign);
}

// The bits of an 8-bit float T, rounded to nearest even; the largest finite value for all that lies
// beyond, infinities too; a NaN becomes a NaN.
template <typename T>
__device__ __forceinline__ u32 f32_to_f8_by_integers(float x) {
  constexpr u32 exponent_bits = same_type<T, e4m3> ? 4 : 5, fraction_bits = 7 - exponent_bits;
  constexpr u32 bias = (1u << (exponent_bits - 1)) - 1, shift = 23 - fraction_bits;
  constexpr u32 largest = same_type<T, e4m3> ? 0x7e : 0x7b;
  constexpr u32 smallest_normal = (128 - bias) << 23;
  // A float whose last bit is worth the smallest subnormal: added to it, a sum is rounded to that.
  constexpr u32 anchor = (127 + 24 - bias - fraction_bits) << 23;
  const u32 word = __float_as_uint(x), magnitude = word & 0x7fffffffu;
  const u32 odd = (magnitude >> shift) & 1u;
  const u32 normal = (magnitude - ((127 - bias) << 23) + ((1u << (shift - 1)) - 1) + odd) >> shift;
  const u32 subnormal =
      __float_as_uint(__uint_as_float(magnitude) + __uint_as_float(anchor)) - anchor;
  const u32 finite = minimum(magnitude < smallest_normal ? subnormal : normal, largest);
  return (magnitude > 0x7f800000u ? 0x7fu : finite) | ((word >> 24) & 0x80u);
}

// Two f32 as 8-bit floats, `low` in bits 0-7, rounded as above.
template <typename T>
__device__ __forceinline__ u16 f32x2_to_f8x2(float low, float high) {
#if __CUDA_ARCH__ >= 890
  u16 pair;
  if constexpr (same_type<T, e4m3>)
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  else
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return static_cast<u16>(f32_to_f8_by_integers<T>(low) | f32_to_f8_by_integers<T>(high) << 8);
#endif
}

}  // namespace detail

// e5m2 is the upper half of an f16.
__device__ __forceinline__ float to_f32(e5m2 x) {
  return to_f32(f16{static_cast<u16>(x.bits << 8)});
}
__device__ __forceinline__ float to_f32(e4m3 x) {
#if __CUDA_ARCH__ >= 890
  u32 pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<u16>(x.bits)));
  return to_f32(f16{static_cast<u16>(pair)});
#else
  return detail::e4m3_to_f32_by_integers(x);
#endif
}

namespace detail {

// Round to nearest even; a NaN stays a NaN. Devices before sm_80 have no bf16 conversion.
__device__ __forceinline__ u16 f32_to_bf16_bits(float x) {
#if __CUDA_ARCH__ >= 800
  u16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  const u32 word = __float_as_uint(x);
  if ((word & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<u16>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
#endif
}

template <typename T>
struct convert {
  static __device__ __forceinline__ T from(float x) { return static_cast<T>(x); }
};
template <>
struct convert<bf16> {
  static __device__ __forceinline__ bf16 from(float x) { return bf16{f32_to_bf16_bits(x)}; }
};
template <>
struct convert<f16> {
  static __device__ __forceinline__ f16 from(float x) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
    return result;
  }
};
template <>
struct convert<e4m3> {
  static __device__ __forceinline__ e4m3 from(float x) {
    return e4m3{static_cast<u8>(f32x2_to_f8x2<e4m3>(x, 0.0f))};
  }
};
template <>
struct convert<e5m2> {
  static __device__ __forceinline__ e5m2 from(float x) {
    return e5m2{static_cast<u8>(f32x2_to_f8x2<e5m2>(x, 0.0f))};
  }
};

}  // namespace detail

// Rounds to nearest even; 8-bit floats take their largest finite value for all that lies beyond.
// from_f32<bf16>(x), from_f32<f16>(x), from_f32<e4m3>(x), from_f32<e5m2>(x), from_f32<f32>(x).
template <typename T>
__device__ __forceinline__ T from_f32(float x) {
  return detail::convert<T>::from(x);
}

// Two f32 as two 16-bit floats in one register; `low` goes to bits 0-15 (the lower address).
template <typename T>
__device__ __forceinline__ u32 pack2(float low, float high) {
  static_assert(is_16bit_float<T>, "pack2 packs bf16 or f16");
  u32 result;
  if constexpr (same_type<T, bf16>) {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
#else
    result =
        detail::f32_to_bf16_bits(low) | (static_cast<u32>(detail::f32_to_bf16_bits(high)) << 16);
#endif
  } else {
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
#else
    result = from_f32<f16>(low).bits | (static_cast<u32>(from_f32<f16>(high).bits) << 16);
#endif
  }
  return result;
}

// The inverse of pack2.
template <typename T>
__device__ __forceinline__ float unpack_low(u32 packed) {
  static_assert(is_16bit_float<T>, "unpack_low unpacks bf16 or f16");
  if constexpr (same_type<T, bf16>) {
    return __uint_as_float(packed << 16);
  } else {
    return to_f32(f16{static_cast<u16>(packed & 0xffffu)});
  }
}
template <typename T>
__device__ __forceinline__ float unpack_high(u32 packed) {
  static_assert(is_16bit_float<T>, "unpack_high unpacks bf16 or f16");
  if constexpr (same_type<T, bf16>) {
    return __uint_as_float(packed & 0xffff0000u);
  } else {
    return to_f32(f16{static_cast<u16>(packed >> 16)});
  }
}

// Four f32 as 8-bit floats in one register, `a` in bits 0-7 (the lowest address).
template <typename T>
__device__ __forceinline__ u32 pack4(float a, float b, float c, float d) {
  static_assert(is_8bit_float<T>, "pack4 packs e4m3 or e5m2");
  return detail::f32x2_to_f8x2<T>(a, b) | static_cast<u32>(detail::f32x2_to_f8x2<T>(c, d)) << 16;
}

// Two 8-bit floats in bits 0-15 as two f16 in one register, exactly.
template <typename T>
__device__ __forceinline__ u32 f8_to_f16x2(u32 codes) {
  static_assert(is_8bit_float<T>, "f8_to_f16x2 takes e4m3 or e5m2");
  if constexpr (same_type<T, e5m2>) {
    return ((codes & 0xffu) << 8) | ((codes & 0xff00u) << 16);
  } else {
#if __CUDA_ARCH__ >= 890
    u32 pair;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<u16>(codes)));
    return pair;
#else
    return pack2<f16>(to_f32(e4m3{static_cast<u8>(codes)}),
                      to_f32(e4m3{static_cast<u8>(codes >> 8)}));
#endif
  }
}

// The inverse of pack4.
template <typename T>
__device__ __forceinline__ void unpack4(u32 packed, float (&out)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 pair = f8_to_f16x2<T>(packed >> (16 * i));
    out[2 * i] = unpack_low<f16>(pair);
    out[2 * i + 1] = unpack_high<f16>(pair);
  }
}

// ---------------------------------------------------------------------------------------------
// Wide memory access. Every address must be aligned to the width of the access.

// How many elements of T fit in one 16-byte access.
template <typename T>
constexpr int per_16_bytes = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ uint4 load_16(const void* address) {
  return *static_cast<const uint4*>(address);
}
__device__ __forceinline__ void store_16(void* address, uint4 value) {
  *static_cast<uint4*>(address) = value;
}
// Global memory that is read once: not kept in L1. Not through the read-only path, so that an output
// may lie where the input did.
__device__ __forceinline__ uint4 load_16_streaming(const void* address) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}
// What another block may just be writing, whole words of it at a time. Not __ldcv, which the compiler moves out
// of a loop that waits (NVRTC 13.0): its assembly is not volatile.
__device__ __forceinline__ uint4 load_polled(const uint4* address) {
  uint4 value;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}
// Global memory that nobody reads soon: evicted from the L2 cache first.
__device__ __forceinline__ void store_16_streaming(void* address, uint4 value) {
  asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// 16 bytes of T as f32, lowest address first.
template <typename T>
__device__ __forceinline__ void unpack_16(uint4 packed, float (&out)[per_16_bytes<T>]) {
  const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (is_16bit_float<T>) {
      out[2 * i] = unpack_low<T>(words[i]);
      out[2 * i + 1] = unpack_high<T>(words[i]);
    } else if constexpr (is_8bit_float<T>) {
      float four[4];
      unpack4<T>(words[i], four);
#pragma unroll
      for (int j = 0; j < 4; ++j) out[4 * i + j] = four[j];
    } else {
      static_assert(same_type<T, f32>, "unpack_16 unpacks 8-bit floats, bf16, f16 or f32");
      out[i] = __uint_as_float(words[i]);
    }
  }
}
template <typename T>
__device__ __forceinline__ uint4 pack_16(const float (&in)[per_16_bytes<T>]) {
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (is_16bit_float<T>) {
      words[i] = pack2<T>(in[2 * i], in[2 * i + 1]);
    } else if constexpr (is_8bit_float<T>) {
      words[i] = pack4<T>(in[4 * i], in[4 * i + 1], in[4 * i + 2], in[4 * i + 3]);
    } else {
      static_assert(same_type<T, f32>, "pack_16 packs 8-bit floats, bf16, f16 or f32");
      words[i] = __float_as_uint(in[i]);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// N consecutive elements of T (N a power of two, N * sizeof(T) at most 16), kept packed in registers
// and moved by one access as wide as all of them.
template <typename T, int N>
struct Vector {
  static constexpr int BYTES = N * static_cast<int>(sizeof(T));
  static_assert(is_pow2(N) && BYTES <= 16, "a vector is at most 16 bytes");
  u32 words[maximum(1, BYTES / 4)];

  __device__ __forceinline__ void load(const T* address) {
    if constexpr (BYTES == 16) {
      const uint4 value = *reinterpret_cast<const uint4*>(address);
      words[0] = value.x;
      words[1] = value.y;
      words[2] = value.z;
      words[3] = value.w;
    } else if constexpr (BYTES == 8) {
      const uint2 value = *reinterpret_cast<const uint2*>(address);
      words[0] = value.x;
      words[1] = value.y;
    } else if constexpr (BYTES == 4) {
      words[0] = *reinterpret_cast<const u32*>(address);
    } else if constexpr (BYTES == 2) {
      words[0] = *reinterpret_cast<const u16*>(address);
    } else {
      words[0] = *reinterpret_cast<const u8*>(address);
    }
  }
  // The first `count` elements, zeros behind them.
  __device__ __forceinline__ void load_part(const T* address, int count) {
    constexpr int SIZE = static_cast<int>(sizeof(T));
    clear();
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i >= count) break;
      u32 bits;
      if constexpr (SIZE == 1) {
        bits = *reinterpret_cast<const u8*>(address + i);
      } else if constexpr (SIZE == 2) {
        bits = *reinterpret_cast<const u16*>(address + i);
      } else {
        bits = *reinterpret_cast<const u32*>(address + i);
      }
      words[i * SIZE / 4] |= bits << i * SIZE % 4 * 8;
    }
  }
  // As load_16_streaming where the vector is that wide.
  __device__ __forceinline__ void load_streaming(const T* address) {
    if constexpr (BYTES == 16) {
      const uint4 value = load_16_streaming(address);
      words[0] = value.x;
      words[1] = value.y;
      words[2] = value.z;
      words[3] = value.w;
    } else {
      load(address);
    }
  }
  __device__ __forceinline__ void store(T* address) const {
    if constexpr (BYTES == 16) {
      *reinterpret_cast<uint4*>(address) = make_uint4(words[0], words[1], words[2], words[3]);
    } else if constexpr (BYTES == 8) {
      *reinterpret_cast<uint2*>(address) = make_uint2(words[0], words[1]);
    } else if constexpr (BYTES == 4) {
      *reinterpret_cast<u32*>(address) = words[0];
    } else if constexpr (BYTES == 2) {
      *reinterpret_cast<u16*>(address) = static_cast<u16>(words[0]);
    } else {
      *reinterpret_cast<u8*>(address) = static_cast<u8>(words[0]);
    }
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (u32& word : words) word = 0;
  }
  // `index` must be a compile-time constant after unrolling.
  __device__ __forceinline__ float get(int index) const {
    if constexpr (is_16bit_float<T>) {
      return index % 2 == 0 ? unpack_low<T>(words[index / 2]) : unpack_high<T>(words[index / 2]);
    } else if constexpr (is_8bit_float<T>) {
      const u32 pair = f8_to_f16x2<T>(words[index / 4] >> (index % 4 / 2 * 16));
      return index % 2 == 0 ? unpack_low<f16>(pair) : unpack_high<f16>(pair);
    } else {
      static_assert(same_type<T, f32>, "a vector holds 8-bit floats, bf16, f16 or f32");
      return __uint_as_float(words[index]);
    }
  }
  __device__ __forceinline__ void set(const float (&values)[N]) {
    if constexpr (is_16bit_float<T> && N == 1) {
      words[0] = from_f32<T>(values[0]).bits;
    } else if constexpr (is_16bit_float<T>) {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) words[i] = pack2<T>(values[2 * i], values[2 * i + 1]);
    } else if constexpr (is_8bit_float<T> && N <= 2) {
      words[0] = detail::f32x2_to_f8x2<T>(values[0], N == 2 ? values[N - 1] : 0.0f);
    } else if constexpr (is_8bit_float<T>) {
#pragma unroll
      for (int i = 0; i < N / 4; ++i)
        words[i] = pack4<T>(values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) words[i] = __float_as_uint(values[i]);
    }
  }
};

// The 32-bit address of shared memory that PTX instructions take.
__device__ __forceinline__ u32 shared_address(const void* pointer) {
  return static_cast<u32>(__cvta_generic_to_shared(pointer));
}
