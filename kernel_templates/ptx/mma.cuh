// Warp-level matrix products (mma.sync) and the loads that feed them (ldmatrix).
//
// Fragment layouts are those of the PTX ISA, "Matrix fragments for mma.m16n8k16": with
// group = lane / 4 and pair = lane % 4, a lane holds
//   a[0] A(group,     2·pair..+1)        a[1] A(group + 8, 2·pair..+1)
//   a[2] A(group,     2·pair + 8..+9)    a[3] A(group + 8, 2·pair + 8..+9)
//   b[0] B(2·pair..+1, group)            b[1] B(2·pair + 8..+9, group)
//   d[0..1] D(group, 2·pair..+1)         d[2..3] D(group + 8, 2·pair..+1)
// The products of other types take the same registers, with the 2 elements of each become 1 of 32 bits
// (k = 8) or 4 of 8 bits (k = 32): always 32 bytes of k.
#pragma once

// d += a · b for a 16x16 tile of A and a 16x8 tile of B, accumulated in f32. sm_80 and later.
template <typename T>
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  static_assert(is_16bit_float<T>, "mma_16x8x16 multiplies bf16 or f16");
  if constexpr (same_type<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// The same product from the same fragments for sm_75, which has f16 with k = 8 only: the left half
// of A is a[0], a[1] and the upper half of B is b[0].
__device__ __forceinline__ void mma_16x8x16_turing(float (&d)[4], const u32 (&a)[4],
                                                   const u32 (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
}

// The same for 8 of k in tf32, the upper 19 bits of f32; the other bits are ignored, so f32 that nobody
// rounded is cut off. sm_80 and later.
__device__ __forceinline__ void mma_16x8x8_tf32(float (&d)[4], const u32 (&a)[4],
                                                const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// f32 bits that mma_16x8x8_tf32 cuts off to the nearest tf32, ties away from zero. What cvt.rna gives,
// in 2 instructions for 3, since that clears the bits nobody reads. Infinities and NaNs stay.
__device__ __forceinline__ u32 round_to_tf32(u32 bits) {
  return fabsf(__uint_as_float(bits)) < __int_as_float(0x7f800000) ? bits + 0x1000u : bits;
}

// The same for 32 of k in 8-bit floats, each operand e4m3 or e5m2. sm_89 and later.
template <typename A, typename B>
__device__ __forceinline__ void mma_16x8x32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#define CUDADENT_MMA(A_TYPE, B_TYPE)                                                  \
  asm volatile("mma.sync.aligned.m16n8k32.row.col.f32." A_TYPE "." B_TYPE             \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
  constexpr bool a_is_e4m3 = same_type<A, e4m3>;
  constexpr bool b_is_e4m3 = same_type<B, e4m3>;
  static_assert(is_8bit_float<A> && is_8bit_float<B>, "mma_16x8x32 multiplies e4m3 or e5m2");
  if constexpr (a_is_e4m3 && b_is_e4m3) {
    CUDADENT_MMA("e4m3", "e4m3");
  } else if constexpr (a_is_e4m3) {
    CUDADENT_MMA("e4m3", "e5m2");
  } else if constexpr (b_is_e4m3) {
    CUDADENT_MMA("e5m2", "e4m3");
  } else {
    CUDADENT_MMA("e5m2", "e5m2");
  }
#undef CUDADENT_MMA
}

// Four 8-bit floats, e4m3 or e5m2, as two times two f16, which hold all their values: one instruction for
// two, where f8_to_f16x2 would shift the upper ones down first. sm_89 and later. Not volatile, so that
// what several products need is converted once.
template <typename T>
__device__ __forceinline__ void widen_to_f16(u32 word, u32& low, u32& high) {
  static_assert(is_8bit_float<T>, "widen_to_f16 takes e4m3 or e5m2");
  if constexpr (same_type<T, e5m2>) {  // the upper byte of an f16
    low = __byte_perm(word, 0, 0x1404);
    high = __byte_perm(word, 0, 0x3424);
  } else {
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\ncvt.rn.f16x2.e4m3x2 %1, high;\n}"
        : "=r"(low), "=r"(high)
        : "r"(word));
  }
}

// The product of mma_16x8x32 by the f16 instruction, for sm_90 and sm_100: there the other is made of
// conversions and f16 products too, but with sums that start at zero and are added up afterwards. That
// k is in another order within each 16 does not matter, as it is in both operands.
template <typename A, typename B>
__device__ __forceinline__ void mma_16x8x32_as_f16(float (&d)[4], const u32 (&a)[4],
                                                   const u32 (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    u32 wide_a[4];
    u32 wide_b[2];
    widen_to_f16<A>(a[2 * half], wide_a[0], wide_a[2]);
    widen_to_f16<A>(a[2 * half + 1], wide_a[1], wide_a[3]);
    widen_to_f16<B>(b[half], wide_b[0], wide_b[1]);
    mma_16x8x16<f16>(d, wide_a, wide_b);
  }
}

// Bytes 0 and 2, or 1 and 3, of two words, those of `low` first.
__device__ __forceinline__ u32 even_bytes(u32 low, u32 high) {
  return __byte_perm(low, high, 0x6420);
}
__device__ __forceinline__ u32 odd_bytes(u32 low, u32 high) {
  return __byte_perm(low, high, 0x7531);
}

// One word from shared memory.
__device__ __forceinline__ u32 load_shared_word(u32 address) {
  u32 word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

// Four 8x8 matrices of 16-bit elements from shared memory: lanes 8·i to 8·i + 7 give the addresses
// of the rows (16 bytes each, 16-byte aligned) of matrix i, which arrives in out[i] with lane l
// holding elements 2·(l % 4) and the next of row l / 4. sm_75 and later.
__device__ __forceinline__ void load_matrix_x4(u32 (&out)[4], u32 row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row_address)
               : "memory");
}
__device__ __forceinline__ void load_matrix_x2(u32 (&out)[2], u32 row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(row_address)
               : "memory");
}
// The same with each matrix transposed on the way.
__device__ __forceinline__ void load_matrix_transposed_x4(u32 (&out)[4], u32 row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row_address)
               : "memory");
}
__device__ __forceinline__ void load_matrix_transposed_x2(u32 (&out)[2], u32 row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(row_address)
               : "memory");
}
