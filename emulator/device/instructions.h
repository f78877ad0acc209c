// What kernel_templates/ptx/ has inline assembly for. A function of a specialization's source that
// contains assembly, or has the name of one of these, becomes a call of the one of its name here, with
// its template arguments and parameters (translate.h). So these have the names and parameters of
// those, and no other functions may be in this namespace.
#pragma once

#include "cuda.h"

struct bf16;
struct f16;
struct e4m3;
struct e5m2;

namespace emulated_detail {

template <typename A, typename B>
constexpr bool same = false;
template <typename A>
constexpr bool same<A, A> = true;

using U16 = unsigned short;

inline float f16_to_f32(U16 bits) {
  const U32 sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const U32 raised = exponent == 31 ? 255u : exponent + 112u;
  return __uint_as_float(sign | raised << 23 | fraction << 13);
}
// To nearest even; too large becomes infinite.
inline U16 f32_to_f16(float x) {
  const U32 word = __float_as_uint(x);
  const U32 sign = word >> 16 & 0x8000u;
  const U32 magnitude = word & 0x7fffffffu;
  U32 half;
  if (magnitude > 0x7f800000u) {
    return 0x7fff;
  } else if (magnitude >= 0x47800000u) {
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: let an addition round
    half = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  }
  return static_cast<U16>(sign | half);
}
inline U16 f32_to_bf16(float x) {
  const U32 word = __float_as_uint(x);
  if ((word & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
  return static_cast<U16>((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
}

// 8-bit floats: e4m3 has 4 bits of exponent, no infinities and a NaN of all ones; e5m2 is an f16 cut
// short. All values of both are values of f16.
inline float e4m3_to_f32(unsigned char bits) {
  const U32 sign = (bits & 0x80u) << 24, exponent = bits >> 3 & 15u, fraction = bits & 7u;
  if (exponent == 15 && fraction == 7) return __uint_as_float(0x7fffffffu);
  const float magnitude = exponent == 0 ? static_cast<float>(fraction) * 0x1p-9f
                                        : __uint_as_float((exponent + 120) << 23 | fraction << 20);
  return __uint_as_float(sign | __float_as_uint(magnitude));
}
inline float e5m2_to_f32(unsigned char bits) { return f16_to_f32(static_cast<U16>(bits << 8)); }
// To nearest even; what is too large becomes the largest (cvt.rn.satfinite).
template <int FRACTION_BITS, int BIAS>
unsigned char f32_to_8_bits(float x, U32 largest) {
  const U32 word = __float_as_uint(x), sign = word >> 24 & 0x80u;
  if (x != x) return static_cast<unsigned char>(sign | 0x7fu);
  const float magnitude = __uint_as_float(word & 0x7fffffffu);
  int exponent = static_cast<int>(word >> 23 & 255u) - 127;
  if (exponent < 1 - BIAS) exponent = 1 - BIAS;
  // In units of the last place; a carry into the exponent is right as it is.
  const float units = rintf(ldexpf(magnitude, FRACTION_BITS - exponent));
  const U32 hidden = 1u << FRACTION_BITS;
  if (!(units < 4.0f * hidden)) return static_cast<unsigned char>(sign | largest);
  const U32 code = static_cast<U32>(units) + static_cast<U32>(exponent + BIAS - 1) * hidden;
  return static_cast<unsigned char>(sign | (code > largest ? largest : code));
}
inline unsigned char f32_to_e4m3(float x) { return f32_to_8_bits<3, 7>(x, 0x7eu); }
inline unsigned char f32_to_e5m2(float x) { return f32_to_8_bits<2, 15>(x, 0x7bu); }

template <typename T>
constexpr Element element = same<T, bf16>   ? Element::bf16
                            : same<T, f16>  ? Element::f16
                            : same<T, e4m3> ? Element::e4m3
                            : same<T, e5m2> ? Element::e5m2
                                            : Element::tf32;
// How many elements 32 bytes hold: what the warpgroup's instructions take of k.
template <typename T>
constexpr int elements_of_32_bytes = same<T, bf16> || same<T, f16>    ? 16
                                     : same<T, e4m3> || same<T, e5m2> ? 32
                                                                      : 8;

}  // namespace emulated_detail

namespace emulated {

using namespace emulated_detail;

// ------------------------------------------------------------------------------- types.cuh

inline int opaque(int value) { return value; }
inline U16 f32_to_bf16_bits(float x) { return f32_to_bf16(x); }
template <typename T>
float to_f32(T x) {
  if constexpr (same<T, f16>) {
    return f16_to_f32(x.bits);
  } else if constexpr (same<T, bf16>) {
    return __uint_as_float(static_cast<U32>(x.bits) << 16);
  } else if constexpr (same<T, e4m3>) {
    return e4m3_to_f32(x.bits);
  } else if constexpr (same<T, e5m2>) {
    return e5m2_to_f32(x.bits);
  } else {
    return static_cast<float>(x);
  }
}
template <typename T>
T from_f32(float x) {
  if constexpr (same<T, f16>) {
    return T{f32_to_f16(x)};
  } else if constexpr (same<T, bf16>) {
    return T{f32_to_bf16(x)};
  } else if constexpr (same<T, e4m3>) {
    return T{f32_to_e4m3(x)};
  } else if constexpr (same<T, e5m2>) {
    return T{f32_to_e5m2(x)};
  } else {
    return static_cast<T>(x);
  }
}
// Two of them, the first in the low bits.
template <typename T>
U16 f32x2_to_f8x2(float low, float high) {
  return static_cast<U16>(from_f32<T>(low).bits | from_f32<T>(high).bits << 8);
}
template <typename T>
U32 f8_to_f16x2(U32 codes) {
  const T low{static_cast<unsigned char>(codes)}, high{static_cast<unsigned char>(codes >> 8)};
  return f32_to_f16(to_f32(low)) | static_cast<U32>(f32_to_f16(to_f32(high))) << 16;
}
template <typename T>
U32 pack2(float low, float high) {
  return same<T, bf16> ? f32_to_bf16(low) | static_cast<U32>(f32_to_bf16(high)) << 16
                       : f32_to_f16(low) | static_cast<U32>(f32_to_f16(high)) << 16;
}
inline uint4 load_16(const void* address) {
  return checked_load(static_cast<const uint4*>(address), "load_16");
}
inline uint4 load_polled(const uint4* address) {
  machine().yield("load_polled");
  return checked_load(address, "load_polled");
}
inline void store_16(void* address, uint4 value) {
  checked_store(static_cast<uint4*>(address), value, "store_16");
}
inline uint4 load_16_streaming(const void* address) {
  return checked_load(static_cast<const uint4*>(address), "load_16_streaming");
}
inline void store_16_streaming(void* address, uint4 value) {
  checked_store(static_cast<uint4*>(address), value, "store_16_streaming");
}

// ------------------------------------------------------------------------------- math.cuh

inline float exp2_approx(float x) { return exp2f(x); }
inline float reciprocal_approx(float x) { return 1.0f / x; }

// ------------------------------------------------------------------------------- async_copy.cuh

inline void copy_async_16(U32 shared, const void* global) {
  machine().copy_async(shared, global, 16, 16);
}
inline void copy_async_16(U32 shared, const void* global, bool valid) {
  machine().copy_async(shared, global, 16, valid ? 16 : 0);
}
template <int BYTES>
void copy_async_small(U32 shared, const void* global, bool valid) {
  machine().copy_async(shared, global, BYTES, valid ? BYTES : 0);
}
template <int BYTES>
void copy_async_part(U32 shared, const void* global, int source_bytes) {
  machine().copy_async(shared, global, BYTES, source_bytes);
}
inline void copy_async_commit() { machine().copy_async_commit(); }
template <int PENDING>
void copy_async_wait() {
  machine().copy_async_wait(PENDING);
}

// ------------------------------------------------------------------------------- cluster.cuh

inline int cluster_rank() { return machine().cluster_rank(); }
inline void cluster_arrive() { machine().cluster_arrive(); }
inline void cluster_arrive_relaxed() { machine().cluster_arrive(); }
inline void cluster_wait() { machine().cluster_wait(); }
inline U32 cluster_address(U32 address, int rank) {
  return machine().cluster_address(address, rank);
}
inline float4 cluster_load_f32x4(U32 address) {
  return *static_cast<const float4*>(
      machine().shared_pointer(address, 16, 16, "ld.shared::cluster.v4.f32"));
}
inline void shared_store_f32x4(U32 address, float x, float y, float z, float w) {
  *static_cast<float4*>(machine().shared_pointer(address, 16, 16, "st.shared.v4.f32")) =
      make_float4(x, y, z, w);
  machine().shared_written(address, 16);
}

// ------------------------------------------------------------------------------- mbarrier.cuh

inline void mbarrier_init(U32 barrier, int arrivals) { machine().mbarrier_init(barrier, arrivals); }
inline void mbarrier_init_fence() { machine().mbarrier_init_fence(); }
inline void mbarrier_arrive(U32 barrier) {
  machine().mbarrier_arrive(barrier, 1, 0, "mbarrier.arrive");
}
inline void mbarrier_arrive_cluster(U32 barrier) {
  machine().mbarrier_arrive(barrier, 1, 0, "mbarrier.arrive.cluster");
}
inline void mbarrier_arrive_expect_bytes(U32 barrier, int bytes) {
  machine().mbarrier_arrive(barrier, 1, bytes, "mbarrier.arrive.expect_tx");
}
inline void mbarrier_wait(U32 barrier, U32 parity) { machine().mbarrier_wait(barrier, parity); }
inline void named_barrier_sync(int index, int threads) {
  machine().barrier_sync(index, threads, "bar.sync");
}
inline void named_barrier_arrive(int index, int threads) {
  machine().barrier_arrive(index, threads);
}
inline bool named_barrier_any(int index, int threads, bool predicate) {
  return machine().barrier_count(index, threads, predicate, "barrier.red.or").holds > 0;
}

// ------------------------------------------------------------------------------- mma.cuh

template <typename T>
void mma_16x8x16(float (&d)[4], const U32 (&a)[4], const U32 (&b)[2]) {
  machine().multiply({element<T>, element<T>, 16}, d, a, b);
}
inline void mma_16x8x16_turing(float (&d)[4], const U32 (&a)[4], const U32 (&b)[2]) {
  for (int half = 0; half < 2; ++half)
    machine().multiply({Element::f16, Element::f16, 8}, d, a + 2 * half, b + half);
}
inline void mma_16x8x8_tf32(float (&d)[4], const U32 (&a)[4], const U32 (&b)[2]) {
  machine().multiply({Element::tf32, Element::tf32, 8}, d, a, b);
}
template <typename A, typename B>
void mma_16x8x32(float (&d)[4], const U32 (&a)[4], const U32 (&b)[2]) {
  machine().multiply({element<A>, element<B>, 32}, d, a, b);
}
template <typename T>
void widen_to_f16(U32 word, U32& low, U32& high) {
  U32 halves[4];
  for (int i = 0; i < 4; ++i) {
    const auto bits = static_cast<unsigned char>(word >> (8 * i));
    halves[i] = f32_to_f16(same<T, e4m3> ? e4m3_to_f32(bits) : e5m2_to_f32(bits));
  }
  low = halves[0] | halves[1] << 16;
  high = halves[2] | halves[3] << 16;
}
inline U32 load_shared_word(U32 address) {
  return *static_cast<const U32*>(machine().shared_pointer(address, 4, 4, "ld.shared.u32"));
}
inline void load_matrix_x4(U32 (&out)[4], U32 row_address) {
  machine().load_matrix(out, 4, false, row_address);
}
inline void load_matrix_x2(U32 (&out)[2], U32 row_address) {
  machine().load_matrix(out, 2, false, row_address);
}
inline void load_matrix_transposed_x4(U32 (&out)[4], U32 row_address) {
  machine().load_matrix(out, 4, true, row_address);
}
inline void load_matrix_transposed_x2(U32 (&out)[2], U32 row_address) {
  machine().load_matrix(out, 2, true, row_address);
}

// ------------------------------------------------------------------------------- tma.cuh

inline void tma_prefetch_map(const void* map) { machine().tensor_prefetch(map); }
inline void tma_load_2d(U32 destination, const void* map, U32 barrier, int x, int y) {
  machine().tensor_load({map, destination, 2, {x, y}, barrier, 0, false, "tma_load_2d"});
}
inline void tma_load_2d_multicast(U32 destination, const void* map, U32 barrier, int x, int y,
                                  U16 blocks) {
  machine().tensor_load(
      {map, destination, 2, {x, y}, barrier, blocks, false, "tma_load_2d_multicast"});
}
inline void tma_store_2d(const void* map, U32 source, int x, int y) {
  machine().tensor_store({map, source, 2, {x, y}, 0, 0, false, "tma_store_2d"});
}
inline void tma_reduce_add_2d(const void* map, U32 source, int x, int y) {
  machine().tensor_store({map, source, 2, {x, y}, 0, 0, true, "tma_reduce_add_2d"});
}
inline void tma_load_3d(U32 destination, const void* map, U32 barrier, int x, int y, int z) {
  machine().tensor_load({map, destination, 3, {x, y, z}, barrier, 0, false, "tma_load_3d"});
}
inline void tma_load_3d_multicast(U32 destination, const void* map, U32 barrier, int x, int y,
                                  int z, U16 blocks) {
  machine().tensor_load(
      {map, destination, 3, {x, y, z}, barrier, blocks, false, "tma_load_3d_multicast"});
}
inline void tma_store_3d(const void* map, U32 source, int x, int y, int z) {
  machine().tensor_store({map, source, 3, {x, y, z}, 0, 0, false, "tma_store_3d"});
}
inline void tma_reduce_add_3d(const void* map, U32 source, int x, int y, int z) {
  machine().tensor_store({map, source, 3, {x, y, z}, 0, 0, true, "tma_reduce_add_3d"});
}
inline void tma_load_4d(U32 destination, const void* map, U32 barrier, int x, int y, int z, int w) {
  machine().tensor_load({map, destination, 4, {x, y, z, w}, barrier, 0, false, "tma_load_4d"});
}
inline void tma_load_4d_multicast(U32 destination, const void* map, U32 barrier, int x, int y,
                                  int z, int w, U16 blocks) {
  machine().tensor_load(
      {map, destination, 4, {x, y, z, w}, barrier, blocks, false, "tma_load_4d_multicast"});
}
inline unsigned long long l2_policy_normal() { return 0; }
inline unsigned long long l2_policy_evict_first() { return 1; }
inline void tma_load_4d_policy(U32 destination, const void* map, U32 barrier, int x, int y, int z,
                               int w, unsigned long long /*policy*/) {
  tma_load_4d(destination, map, barrier, x, y, z, w);
}
inline void tma_load_5d(U32 destination, const void* map, U32 barrier, int x, int y, int z, int w,
                        int v) {
  machine().tensor_load({map, destination, 5, {x, y, z, w, v}, barrier, 0, false, "tma_load_5d"});
}
inline void tma_commit_group() { machine().bulk_commit(); }
template <int PENDING>
void tma_wait_group() {
  machine().bulk_wait(PENDING, false);
}
template <int PENDING>
void tma_wait_group_read() {
  machine().bulk_wait(PENDING, true);
}
inline void async_proxy_fence() { machine().async_proxy_fence(); }

// ------------------------------------------------------------------------------- wgmma.cuh

inline void wgmma_fence() { machine().wgmma_fence(); }
inline void wgmma_commit_group() { machine().wgmma_commit(); }
template <int PENDING>
void wgmma_wait_group() {
  machine().wgmma_wait(PENDING);
}
template <int COUNT>
void wgmma_pin(float (&)[COUNT]) {}
template <int REGISTERS>
void registers_decrease() {
  machine().registers(REGISTERS, false);
}
template <int REGISTERS>
void registers_increase() {
  machine().registers(REGISTERS, true);
}
inline void stmatrix_x4(U32 address, U32 v0, U32 v1, U32 v2, U32 v3) {
  const U32 values[4] = {v0, v1, v2, v3};
  machine().store_matrix(address, values, 4, false);
}
inline void stmatrix_x4_transposed(U32 address, U32 v0, U32 v1, U32 v2, U32 v3) {
  const U32 values[4] = {v0, v1, v2, v3};
  machine().store_matrix(address, values, 4, true);
}
template <typename TYPE_A, typename TYPE_B, int N, int TRANSPOSE_A, int TRANSPOSE_B>
void wgmma(float (&d)[N / 2], U64 a, U64 b, int accumulate) {
  machine().wgmma({element<TYPE_A>, element<TYPE_B>, N, elements_of_32_bytes<TYPE_A>,
                   accumulate != 0, TRANSPOSE_A != 0, TRANSPOSE_B != 0, a, b, nullptr, d});
}
template <typename ELEMENT, int N, int TRANSPOSE_B>
void wgmma(float (&d)[N / 2], U64 a, U64 b, int accumulate) {
  wgmma<ELEMENT, ELEMENT, N, 0, TRANSPOSE_B>(d, a, b, accumulate);
}
template <typename TYPE, int N, int TRANSPOSE_B>
void wgmma_registers(float (&d)[N / 2], const U32 (&a)[4], U64 b, int accumulate) {
  machine().wgmma({element<TYPE>, element<TYPE>, N, elements_of_32_bytes<TYPE>, accumulate != 0,
                   false, TRANSPOSE_B != 0, 0, b, a, d});
}
template <int COUNT>
void wgmma_pin_operand(U32 (&)[COUNT]) {}

}  // namespace emulated
