// Element types, conversions, vectors and the calling convention of every host kernel template.
//
// This file is always the first part of a specialization's source, before the generated prelude of
// constants. It includes nothing: a specialization is compiled while somebody waits, and <cmath>
// alone would cost more than most templates. It is written for GCC (10 or newer) and Clang (13 or
// newer), with their vector extensions and builtins, for any instruction set.
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

// 16-bit floats are plain bits: arithmetic on them is always done in f32 or f64.
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

// Where a call stands in its launch. A launch calls the entry once for every block of its grid, in
// any order and on several threads at once.
struct Block {
  int x, y, z;
  int grid_x, grid_y, grid_z;
  void* scratch;  // the launch's shared_memory bytes, 64-byte aligned, private to the calling
                  // thread and not initialised
  int worker;     // the calling thread, 0 to workers - 1
  int workers;
};

// ---------------------------------------------------------------------------------------------
// Types and small integer helpers

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

template <typename T>
constexpr T minimum(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
constexpr T maximum(T a, T b) {
  return a < b ? b : a;
}
constexpr int ceil_div(int a, int b) { return a / b + (a % b > 0 ? 1 : 0); }
constexpr int round_up(int a, int b) { return ceil_div(a, b) * b; }

// Unrolls the loop that follows completely, or by `count`. Register tiles depend on it: an array
// indexed by a loop variable lives in memory.
#define CUDADENT_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define CUDADENT_UNROLL_ALL CUDADENT_PRAGMA(clang loop unroll(full))
#define CUDADENT_UNROLL(count) CUDADENT_PRAGMA(clang loop unroll_count(count))
#else
#define CUDADENT_UNROLL_ALL CUDADENT_PRAGMA(GCC unroll 32)
#define CUDADENT_UNROLL(count) CUDADENT_PRAGMA(GCC unroll count)
#endif

// ---------------------------------------------------------------------------------------------
// Vectors: simd<16>::f32 is sixteen floats. Any power of two compiles; the machine is fast at
// device.simd_bytes / 4. Operators work element by element, `condition ? a : b` selects.

template <int lanes>
struct simd {
  typedef float f32 __attribute__((vector_size(lanes * sizeof(float))));
  typedef int i32 __attribute__((vector_size(lanes * sizeof(int))));
  typedef unsigned u32 __attribute__((vector_size(lanes * sizeof(unsigned))));
  typedef unsigned short u16 __attribute__((vector_size(lanes * sizeof(unsigned short))));
  typedef unsigned char u8 __attribute__((vector_size(lanes)));
};

namespace detail {

template <typename To, typename From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// 16-bit float bits in the low halves of `word` → f32. The exponent is rebiased by multiplying,
// which normalises subnormals on the way; infinities and NaNs need their exponent put back.
template <typename F, typename U>
inline F f16_bits_to_f32(U word) {
  const U magnitude = word & 0x7fffu;
  const F scaled = bit_cast<F>(U(magnitude << 13)) * 0x1p112f;
  const U special = magnitude > 0x7bffu ? U(magnitude ^ magnitude) + 0x7f800000u : U(word ^ word);
  return bit_cast<F>(U(bit_cast<U>(scaled) | special | ((word & 0x8000u) << 16)));
}

// f32 → 16-bit float bits, rounded to nearest even.
template <typename F, typename U>
inline U f32_to_f16_bits(F x) {
  const U word = bit_cast<U>(x);
  const U zero = word ^ word;
  const U magnitude = word & 0x7fffffffu;
  // Normal results: rebias the exponent and round at bit 13; overflow carries into infinity.
  const U normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 the addition itself rounds, to multiples of 2^-24, the f16 subnormals.
  const U subnormal = bit_cast<U>(F(bit_cast<F>(magnitude) + 0.5f)) - 0x3f000000u;
  const U special = magnitude > 0x7f800000u ? zero + 0x7e00u : zero + 0x7c00u;
  const U finite = magnitude < 0x38800000u ? subnormal : normal;
  const U result = magnitude > 0x477fffffu ? special : finite;
  return result | ((word >> 16) & 0x8000u);
}

// f32 → bf16 bits, rounded to nearest even; a NaN becomes a quiet NaN.
template <typename F, typename U>
inline U f32_to_bf16_bits(F x) {
  const U word = bit_cast<U>(x);
  const U rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
  return (word & 0x7fffffffu) > 0x7f800000u ? (word >> 16) | 0x40u : rounded;
}

// e4m3 bits in the low quarters of `word` → f32: as f16, with an exponent rebiased by 120.
template <typename F, typename U>
inline F e4m3_bits_to_f32(U word) {
  const U magnitude = word & 0x7fu;
  const F scaled = bit_cast<F>(U(magnitude << 20)) * 0x1p120f;
  const U nan = magnitude == 0x7fu ? U(magnitude ^ magnitude) + 0x7fc00000u : U(word ^ word);
  return bit_cast<F>(U(bit_cast<U>(scaled) | nan | ((word & 0x80u) << 24)));
}

// f32 → the bits of a float of `exponent_bits` and 7 − exponent_bits of fraction, rounded to nearest
// even. What lies beyond the largest finite value, whose code is given, becomes it, infinities too; a
// NaN becomes 0x7f or 0xff.
template <int exponent_bits, typename F, typename U>
inline U f32_to_f8_bits(F x, unsigned largest) {
  constexpr unsigned fraction_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  constexpr unsigned shift = 23 - fraction_bits;
  constexpr unsigned smallest_normal = (128 - bias) << 23;
  constexpr unsigned anchor = (127 + 24 - bias - fraction_bits) << 23;
  const U word = bit_cast<U>(x);
  const U zero = word ^ word;
  const U magnitude = word & 0x7fffffffu;
  const U normal = (magnitude - ((127 - bias) << 23) + ((1u << (shift - 1)) - 1) +
                    ((magnitude >> shift) & 1u)) >>
                   shift;
  // Added to a float whose last bit is worth the smallest subnormal, the sum is rounded to that.
  const U subnormal = bit_cast<U>(F(bit_cast<F>(magnitude) + bit_cast<float>(anchor))) - anchor;
  const U finite = magnitude < smallest_normal ? subnormal : normal;
  const U saturated = finite > largest ? zero + largest : finite;
  const U result = magnitude > 0x7f800000u ? zero + 0x7fu : saturated;
  return result | ((word >> 24) & 0x80u);
}

template <typename T>
struct element;
template <>
struct element<f32> {
  static float to(f32 x) { return x; }
  static f32 from(float x) { return x; }
  template <int lanes>
  static typename simd<lanes>::f32 load(const f32* p) {
    typename simd<lanes>::f32 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  template <int lanes>
  static void store(f32* p, typename simd<lanes>::f32 v) {
    __builtin_memcpy(p, &v, sizeof v);
  }
};

// What bf16 and f16 share: loads widen 16-bit words, stores narrow them.
template <int lanes>
inline typename simd<lanes>::u32 load_u16(const void* p) {
  typename simd<lanes>::u16 v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, typename simd<lanes>::u32);
}
template <int lanes>
inline void store_u16(void* p, typename simd<lanes>::u32 v) {
  const auto narrow = __builtin_convertvector(v, typename simd<lanes>::u16);
  __builtin_memcpy(p, &narrow, sizeof narrow);
}
template <>
struct element<bf16> {
  static float to(bf16 x) { return bit_cast<float>(u32(x.bits) << 16); }
  static bf16 from(float x) { return bf16{u16(f32_to_bf16_bits<float, u32>(x))}; }
  template <int lanes>
  static typename simd<lanes>::f32 load(const bf16* p) {
    using U = typename simd<lanes>::u32;
    return bit_cast<typename simd<lanes>::f32>(U(load_u16<lanes>(p) << 16));
  }
  template <int lanes>
  static void store(bf16* p, typename simd<lanes>::f32 v) {
    store_u16<lanes>(p, f32_to_bf16_bits<typename simd<lanes>::f32, typename simd<lanes>::u32>(v));
  }
};
template <>
struct element<f16> {
#if defined(__FLT16_MANT_DIG__)  // the compiler has _Float16 for this instruction set
  static float to(f16 x) { return float(bit_cast<_Float16>(x)); }
  static f16 from(float x) { return bit_cast<f16>(_Float16(x)); }
#else
  static float to(f16 x) { return f16_bits_to_f32<float, u32>(x.bits); }
  static f16 from(float x) { return f16{u16(f32_to_f16_bits<float, u32>(x))}; }
#endif
  template <int lanes>
  static typename simd<lanes>::f32 load(const f16* p) {
    using F = typename simd<lanes>::f32;
    return f16_bits_to_f32<F, typename simd<lanes>::u32>(load_u16<lanes>(p));
  }
  template <int lanes>
  static void store(f16* p, typename simd<lanes>::f32 v) {
    store_u16<lanes>(p, f32_to_f16_bits<typename simd<lanes>::f32, typename simd<lanes>::u32>(v));
  }
};

template <int lanes>
inline typename simd<lanes>::u32 load_u8(const void* p) {
  typename simd<lanes>::u8 v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, typename simd<lanes>::u32);
}
template <int lanes>
inline void store_u8(void* p, typename simd<lanes>::u32 v) {
  const auto narrow = __builtin_convertvector(v, typename simd<lanes>::u8);
  __builtin_memcpy(p, &narrow, sizeof narrow);
}
template <>
struct element<e4m3> {
  static constexpr unsigned largest = 0x7e;
  static float to(e4m3 x) { return e4m3_bits_to_f32<float, u32>(x.bits); }
  static e4m3 from(float x) { return e4m3{u8(f32_to_f8_bits<4, float, u32>(x, largest))}; }
  template <int lanes>
  static typename simd<lanes>::f32 load(const e4m3* p) {
    using F = typename simd<lanes>::f32;
    return e4m3_bits_to_f32<F, typename simd<lanes>::u32>(load_u8<lanes>(p));
  }
  template <int lanes>
  static void store(e4m3* p, typename simd<lanes>::f32 v) {
    using F = typename simd<lanes>::f32;
    store_u8<lanes>(p, f32_to_f8_bits<4, F, typename simd<lanes>::u32>(v, largest));
  }
};
template <>
struct element<e5m2> {
  static constexpr unsigned largest = 0x7b;
  static float to(e5m2 x) { return f16_bits_to_f32<float, u32>(u32(x.bits) << 8); }
  static e5m2 from(float x) { return e5m2{u8(f32_to_f8_bits<5, float, u32>(x, largest))}; }
  template <int lanes>
  static typename simd<lanes>::f32 load(const e5m2* p) {
    using U = typename simd<lanes>::u32;
    return f16_bits_to_f32<typename simd<lanes>::f32, U>(load_u8<lanes>(p) << 8);
  }
  template <int lanes>
  static void store(e5m2* p, typename simd<lanes>::f32 v) {
    using F = typename simd<lanes>::f32;
    store_u8<lanes>(p, f32_to_f8_bits<5, F, typename simd<lanes>::u32>(v, largest));
  }
};

}  // namespace detail

// Conversions of one element. from_f32 rounds to nearest even; 8-bit floats take their largest finite
// value for all that lies beyond.
template <typename T>
inline float to_f32(T x) {
  return detail::element<T>::to(x);
}
template <typename T>
inline T from_f32(float x) {
  return detail::element<T>::from(x);
}

// `lanes` elements as f32, and back. Any alignment.
template <int lanes, typename T>
inline typename simd<lanes>::f32 load(const T* from) {
  return detail::element<T>::template load<lanes>(from);
}
template <int lanes, typename T>
inline void store(T* to, typename simd<lanes>::f32 value) {
  detail::element<T>::template store<lanes>(to, value);
}

// The same for the first `count` of the lanes, 0 ≤ count ≤ lanes; the others load as zero, and
// memory beyond `count` elements is not touched.
template <int lanes, typename T>
inline typename simd<lanes>::f32 load_partial(const T* from, int count) {
  if (count == lanes) return load<lanes>(from);
  T buffer[lanes] = {};
  for (int i = 0; i < count; ++i) buffer[i] = from[i];
  return load<lanes>(buffer);
}
template <int lanes, typename T>
inline void store_partial(T* to, typename simd<lanes>::f32 value, int count) {
  if (count == lanes) return store<lanes>(to, value);
  T buffer[lanes];
  store<lanes>(buffer, value);
  for (int i = 0; i < count; ++i) to[i] = buffer[i];
}

// Stores that bypass the caches, for results nobody reads soon. The address must pass can_stream;
// the stores are ordered before what other threads do next by streaming_fence. Where the
// instruction set has none, can_stream says so.
template <int lanes, typename T>
inline bool can_stream([[maybe_unused]] const T* to) {
#if defined(__x86_64__)
  constexpr unsigned long long bytes = lanes * sizeof(T);
  return bytes >= 16 && reinterpret_cast<unsigned long long>(to) % bytes == 0;
#else
  return false;
#endif
}
template <int lanes, typename T>
inline void store_streaming(T* to, typename simd<lanes>::f32 value) {
#if defined(__x86_64__)
  constexpr int bytes = lanes * sizeof(T);
  T buffer[lanes];
  store<lanes>(buffer, value);
  typedef long long pair __attribute__((vector_size(16)));
  [[maybe_unused]] pair parts[bytes < 16 ? 1 : bytes / 16];
  if constexpr (bytes >= 16) {
    __builtin_memcpy(parts, buffer, bytes);
    CUDADENT_UNROLL_ALL
    for (int i = 0; i < bytes / 16; ++i) {
#if defined(__clang__)
      __builtin_nontemporal_store(parts[i], reinterpret_cast<pair*>(to) + i);
#else
      __builtin_ia32_movntdq(reinterpret_cast<pair*>(to) + i, parts[i]);
#endif
    }
  }
#else
  store<lanes>(to, value);
#endif
}
inline void streaming_fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// Pairwise, so the rounding error stays that of log2(lanes) additions.
template <int lanes>
inline float sum_of_lanes(typename simd<lanes>::f32 v) {
  if constexpr (lanes == 1) {
    return v[0];
  } else {
    typename simd<lanes / 2>::f32 halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return sum_of_lanes<lanes / 2>(halves[0] + halves[1]);
  }
}

namespace detail {

template <int... values>
struct indices {};
template <int count, int... values>
struct count_up : count_up<count - 1, count - 1, values...> {};
template <int... values>
struct count_up<0, values...> {
  using type = indices<values...>;
};

// Both rows of a pair, with the blocks of `distance` lanes that lie off the diagonal exchanged.
template <int lanes, int distance, int... i>
inline void exchange(typename simd<lanes>::f32& a, typename simd<lanes>::f32& b, indices<i...>) {
  const typename simd<lanes>::f32 first = a, second = b;
#if defined(__clang__)
  a = __builtin_shufflevector(first, second, (i & distance ? lanes + i - distance : i)...);
  b = __builtin_shufflevector(first, second, (i & distance ? lanes + i : i + distance)...);
#else
  using I = typename simd<lanes>::i32;
  a = __builtin_shuffle(first, second, I{(i & distance ? lanes + i - distance : i)...});
  b = __builtin_shuffle(first, second, I{(i & distance ? lanes + i : i + distance)...});
#endif
}

}  // namespace detail

// Transposes a square of lanes × lanes in registers, halving the blocks it exchanges each time.
template <int lanes, int distance = lanes / 2>
inline void transpose(typename simd<lanes>::f32 (&rows)[lanes]) {
  CUDADENT_UNROLL_ALL
  for (int r = 0; r < lanes; ++r) {
    if ((r & distance) == 0) {
      detail::exchange<lanes, distance>(rows[r], rows[r + distance],
                                        typename detail::count_up<lanes>::type{});
    }
  }
  if constexpr (distance > 1) transpose<lanes, distance / 2>(rows);
}

// ---------------------------------------------------------------------------------------------
// Activations of vectors. NaN in, NaN out.

// e^x to about 1 ulp: x = n·ln 2 + r, a polynomial in r (a least-squares fit on |r| ≤ ln 2 / 2,
// relative error 4e-9), and 2^n applied in two halves so that overflow and underflow come out as
// infinity and zero.
template <int lanes>
inline typename simd<lanes>::f32 exponential(typename simd<lanes>::f32 x) {
  using F = typename simd<lanes>::f32;
  using I = typename simd<lanes>::i32;
  const F zero = {};
  x = x < -110.0f ? zero - 110.0f : x;
  x = x > 90.0f ? zero + 90.0f : x;
  // Adding 1.5·2^23 leaves the nearest integer in the low bits of the significand.
  const F shifted = x * 1.44269504f + 12582912.0f;
  const I n = detail::bit_cast<I>(shifted) - 0x4b400000;
  const F rounded = shifted - 12582912.0f;
  F r = x - rounded * 0.693359375f;
  r = r + rounded * 2.12194440e-4f;
  F p = r * 1.3751150e-3f + 8.3689876e-3f;
  p = p * r + 4.1669544e-2f;
  p = p * r + 1.6666518e-1f;
  p = p * r + 4.9999988e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const I half = n >> 1;
  const F first = detail::bit_cast<F>(I((half + 127) << 23));
  const F second = detail::bit_cast<F>(I((n - half + 127) << 23));
  return p * first * second;
}

template <int lanes>
inline typename simd<lanes>::f32 relu(typename simd<lanes>::f32 x) {
  const typename simd<lanes>::f32 zero = {};
  return x < zero ? zero : x;
}

// x / (1 + e^-x)
template <int lanes>
inline typename simd<lanes>::f32 silu(typename simd<lanes>::f32 x) {
  return x / (exponential<lanes>(-x) + 1.0f);
}

// x·Φ(x) = x/2·erfc(-x/√2), the exact gelu. erfc(z)·e^(z²) is smooth in t = 1/(1 + 0.4·z): a
// degree-10 fit on 0 ≤ z ≤ 11 has a relative error of 4e-8.
template <int lanes>
inline typename simd<lanes>::f32 gelu(typename simd<lanes>::f32 x) {
  using F = typename simd<lanes>::f32;
  const F zero = {};
  const F z = (x < zero ? -x : x) * 0.707106781f;
  const F t = (zero + 1.0f) / (z * 0.4f + 1.0f);
  F p = t * -3.71431224e-2f + 2.41377294e-1f;
  p = p * t - 6.07891381e-1f;
  p = p * t + 7.05360711e-1f;
  p = p * t - 4.29829568e-1f;
  p = p * t + 3.60974342e-1f;
  p = p * t + 9.32203978e-2f;
  p = p * t + 2.24810794e-1f;
  p = p * t + 2.23254383e-1f;
  p = p * t + 2.25873262e-1f;
  p = p * t - 7.06804030e-6f;
  const F tail = p * exponential<lanes>(-z * z) * 0.5f;
  return x * (x < zero ? tail : 1.0f - tail);
}

// ---------------------------------------------------------------------------------------------
// The exported entry points

namespace detail {

template <typename P>
inline P next_argument(void* const*& args) {
  return *static_cast<P*>(*args++);
}
struct call {
  template <typename... P>
  call(void (*function)(const Block&, P...), const Block& block, P... arguments) {
    function(block, arguments...);
  }
};

}  // namespace detail

// Calls `function(block, …)` with the values that args[0], args[1], … point to, as CUDA's
// kernelParams do. Braces guarantee that they are read from left to right.
template <typename... P>
inline void cudadent_invoke(void (*function)(const Block&, P...), const Block& block,
                            [[maybe_unused]] void* const* args) {
  detail::call{function, block, detail::next_argument<P>(args)...};
}
