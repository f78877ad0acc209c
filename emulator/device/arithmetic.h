// CUDA's vector types, and its functions of numbers alone.
#pragma once

// ------------------------------------------------------------------------------- vector types

#define CUDADENT_VECTORS(TYPE, NAME, A1, A2, A4)                              \
  struct alignas(A1) NAME##1 { TYPE x; };                                     \
  struct alignas(A2) NAME##2 { TYPE x, y; };                                  \
  struct NAME##3 { TYPE x, y, z; };                                           \
  struct alignas(A4) NAME##4 { TYPE x, y, z, w; };                            \
  inline NAME##1 make_##NAME##1(TYPE x) { return {x}; }                       \
  inline NAME##2 make_##NAME##2(TYPE x, TYPE y) { return {x, y}; }            \
  inline NAME##3 make_##NAME##3(TYPE x, TYPE y, TYPE z) { return {x, y, z}; } \
  inline NAME##4 make_##NAME##4(TYPE x, TYPE y, TYPE z, TYPE w) { return {x, y, z, w}; }
CUDADENT_VECTORS(signed char, char, 1, 2, 4)
CUDADENT_VECTORS(unsigned char, uchar, 1, 2, 4)
CUDADENT_VECTORS(short, short, 2, 4, 8)
CUDADENT_VECTORS(unsigned short, ushort, 2, 4, 8)
CUDADENT_VECTORS(int, int, 4, 8, 16)
CUDADENT_VECTORS(unsigned int, uint, 4, 8, 16)
CUDADENT_VECTORS(long long, longlong, 8, 16, 16)
CUDADENT_VECTORS(unsigned long long, ulonglong, 8, 16, 16)
CUDADENT_VECTORS(float, float, 4, 8, 16)
CUDADENT_VECTORS(double, double, 8, 16, 16)
#undef CUDADENT_VECTORS
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// ------------------------------------------------------------------------------- bits

inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
inline double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }
inline int __double2hiint(double x) {
  return static_cast<int>(__builtin_bit_cast(long long, x) >> 32);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1u) << (31 - i);
  return result;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned nibble = selector >> (4 * i) & 15u;
    unsigned byte = static_cast<unsigned>(both >> (8 * (nibble & 7u))) & 255u;
    if (nibble & 8u) byte = byte & 128u ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both >> (shift & 31u));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  const unsigned long long both = static_cast<unsigned long long>(high) << 32 | low;
  return static_cast<unsigned>(both << (shift & 31u) >> 32);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }

// ------------------------------------------------------------------------------- arithmetic

extern "C" {
float fmaf(float, float, float);
float fmaxf(float, float);
float fminf(float, float);
float fabsf(float);
float sqrtf(float);
float expf(float);
float exp2f(float);
float logf(float);
float log2f(float);
float log1pf(float);
float expm1f(float);
float powf(float, float);
float tanhf(float);
float erff(float);
float floorf(float);
float ceilf(float);
float truncf(float);
float rintf(float);
float roundf(float);
float fmodf(float, float);
float ldexpf(float, int);
float sinf(float);
float cosf(float);
float copysignf(float, float);
double fma(double, double, double);
double fmax(double, double);
double fmin(double, double);
double fabs(double);
double sqrt(double);
double exp(double);
double exp2(double);
double log(double);
double log2(double);
double pow(double, double);
double tanh(double);
double erf(double);
double floor(double);
double ceil(double);
double rint(double);
int printf(const char*, ...);
}
inline float exp(float x) { return expf(x); }
inline float log(float x) { return logf(x); }
inline float sqrt(float x) { return sqrtf(x); }
inline float fabs(float x) { return fabsf(x); }
inline float floor(float x) { return floorf(x); }
inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
inline float fmax(float a, float b) { return fmaxf(a, b); }
inline float fmin(float a, float b) { return fminf(a, b); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __saturatef(float x) { return x > 1.0f ? 1.0f : x > 0.0f ? x : 0.0f; }
inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(rintf(x)); }
inline unsigned __float2uint_rz(float x) { return static_cast<unsigned>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline bool isnan(float x) { return x != x; }
inline bool isnan(double x) { return x != x; }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long llabs(long long x) { return x < 0 ? -x : x; }

#define CUDADENT_LEAST(TYPE)                                   \
  constexpr TYPE min(TYPE a, TYPE b) { return b < a ? b : a; } \
  constexpr TYPE max(TYPE a, TYPE b) { return a < b ? b : a; }
CUDADENT_LEAST(int)
CUDADENT_LEAST(unsigned)
CUDADENT_LEAST(long)
CUDADENT_LEAST(unsigned long)
CUDADENT_LEAST(long long)
CUDADENT_LEAST(unsigned long long)
#undef CUDADENT_LEAST
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
constexpr unsigned min(int a, unsigned b) { return min(static_cast<unsigned>(a), b); }
constexpr unsigned min(unsigned a, int b) { return min(a, static_cast<unsigned>(b)); }
constexpr unsigned max(int a, unsigned b) { return max(static_cast<unsigned>(a), b); }
constexpr unsigned max(unsigned a, int b) { return max(a, static_cast<unsigned>(b)); }
constexpr long long min(int a, long long b) { return min(static_cast<long long>(a), b); }
constexpr long long min(long long a, int b) { return min(a, static_cast<long long>(b)); }
constexpr long long max(int a, long long b) { return max(static_cast<long long>(a), b); }
constexpr long long max(long long a, int b) { return max(a, static_cast<long long>(b)); }
