// Warpgroup matrix instructions (wgmma, sm_90a): 128 threads (4 consecutive warps, the first one's
// index divisible by 4) multiply a 64×K by a K×N matrix and accumulate in f32; a row of K is 32 bytes.
// Operands are read asynchronously: from shared memory through descriptors, or a from registers.
//
// The accumulator of thread t of the warpgroup (warp w = t / 32, lane l = t % 32): d[4 j + 2 i + e]
// is row 16 w + 8 i + l / 4, column 8 j + 2 (l % 4) + e. Source: PTX ISA, "Asynchronous Warpgroup
// Level Matrix Instructions".
#pragma once

// A descriptor of a 128-byte swizzled operand whose 1024-byte atoms (8 rows of 128 bytes) start at
// `address`, a multiple of 1024. Distances in bytes, multiples of 16.
//   k innermost ("K-major"): rows are m or n, 128 bytes of k long; stride_bytes from one group of
//     8 rows to the next (1024 when dense); leading_bytes is not used. A step along k is 32 bytes on.
//   m or n innermost ("MN-major"), of 16-bit elements: rows are k, 64 elements of m or n long; stride_bytes from one
//     group of 8 rows of k to the next, leading_bytes from one run of 64 columns to the next. A
//     step of 16 along k is two groups on.
__device__ __forceinline__ u64 wgmma_descriptor_128b(u32 address, int leading_bytes,
                                                     int stride_bytes) {
  constexpr u64 swizzle_128b = 1ull << 62;
  return swizzle_128b | (static_cast<u64>(stride_bytes >> 4) << 32) |
         (static_cast<u64>(leading_bytes >> 4) << 16) | ((address & 0x3ffff) >> 4);
}
// The same descriptor, `bytes` further on (within the 256 KB that an address field spans).
__device__ __forceinline__ u64 wgmma_advance(u64 descriptor, int bytes) {
  return descriptor + static_cast<u64>(bytes >> 4);
}

// Before the first wgmma, and whenever a thread touched the accumulators since the last.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most PENDING groups are unfinished.
template <int PENDING>
__device__ __forceinline__ void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Keeps the compiler from moving reads or writes of accumulators across this point.
template <int COUNT>
__device__ __forceinline__ void wgmma_pin(float (&d)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Hands registers back to the multiprocessor, or takes them: REGISTERS a thread from here on, a
// multiple of 8 from 24 to 256. Every warp of a warpgroup must do the same, and the kernel needs a
// register cap at entry (__launch_bounds__ with both numbers).
template <int REGISTERS>
__device__ __forceinline__ void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
__device__ __forceinline__ void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// Stores four 8×8 matrices of 16-bit values to shared memory: lane l gives the address of row l % 8
// of matrix l / 8, and holds two neighbouring values of each matrix, as an mma accumulator does.
__device__ __forceinline__ void stmatrix_x4(u32 address, u32 v0, u32 v1, u32 v2, u32 v3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(v0), "r"(v1), "r"(v2), "r"(v3)
               : "memory");
}
// The same with each matrix transposed: the addresses are those of its columns.
__device__ __forceinline__ void stmatrix_x4_transposed(u32 address, u32 v0, u32 v1, u32 v2,
                                                       u32 v3) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
      "r"(v0), "r"(v1), "r"(v2), "r"(v3)
      : "memory");
}

namespace detail {

// The instruction names every accumulator register, and inline assembly has no loops: these macros
// spell the operands of 8, 16, … 128 registers, for N = 16, 32, … 256.
// clang-format off
#define CUDADENT_NAMES_1 "%0, %1, %2, %3, %4, %5, %6, %7"
#define CUDADENT_NAMES_2 CUDADENT_NAMES_1 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define CUDADENT_NAMES_3 CUDADENT_NAMES_2 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define CUDADENT_NAMES_4 CUDADENT_NAMES_3 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define CUDADENT_NAMES_5 CUDADENT_NAMES_4 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define CUDADENT_NAMES_6 CUDADENT_NAMES_5 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define CUDADENT_NAMES_7 CUDADENT_NAMES_6 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define CUDADENT_NAMES_8 CUDADENT_NAMES_7 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define CUDADENT_NAMES_9 CUDADENT_NAMES_8 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define CUDADENT_NAMES_10 CUDADENT_NAMES_9 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define CUDADENT_NAMES_11 CUDADENT_NAMES_10 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define CUDADENT_NAMES_12 CUDADENT_NAMES_11 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define CUDADENT_NAMES_13 CUDADENT_NAMES_12 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define CUDADENT_NAMES_14 CUDADENT_NAMES_13 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define CUDADENT_NAMES_15 CUDADENT_NAMES_14 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define CUDADENT_NAMES_16 CUDADENT_NAMES_15 ", %120, %121, %122, %123, %124, %125, %126, %127"
// clang-format on
#define CUDADENT_EIGHT(i)                                                                     \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define CUDADENT_REGISTERS_1 CUDADENT_EIGHT(0)
#define CUDADENT_REGISTERS_2 CUDADENT_REGISTERS_1, CUDADENT_EIGHT(8)
#define CUDADENT_REGISTERS_3 CUDADENT_REGISTERS_2, CUDADENT_EIGHT(16)
#define CUDADENT_REGISTERS_4 CUDADENT_REGISTERS_3, CUDADENT_EIGHT(24)
#define CUDADENT_REGISTERS_5 CUDADENT_REGISTERS_4, CUDADENT_EIGHT(32)
#define CUDADENT_REGISTERS_6 CUDADENT_REGISTERS_5, CUDADENT_EIGHT(40)
#define CUDADENT_REGISTERS_7 CUDADENT_REGISTERS_6, CUDADENT_EIGHT(48)
#define CUDADENT_REGISTERS_8 CUDADENT_REGISTERS_7, CUDADENT_EIGHT(56)
#define CUDADENT_REGISTERS_9 CUDADENT_REGISTERS_8, CUDADENT_EIGHT(64)
#define CUDADENT_REGISTERS_10 CUDADENT_REGISTERS_9, CUDADENT_EIGHT(72)
#define CUDADENT_REGISTERS_11 CUDADENT_REGISTERS_10, CUDADENT_EIGHT(80)
#define CUDADENT_REGISTERS_12 CUDADENT_REGISTERS_11, CUDADENT_EIGHT(88)
#define CUDADENT_REGISTERS_13 CUDADENT_REGISTERS_12, CUDADENT_EIGHT(96)
#define CUDADENT_REGISTERS_14 CUDADENT_REGISTERS_13, CUDADENT_EIGHT(104)
#define CUDADENT_REGISTERS_15 CUDADENT_REGISTERS_14, CUDADENT_EIGHT(112)
#define CUDADENT_REGISTERS_16 CUDADENT_REGISTERS_15, CUDADENT_EIGHT(120)

template <int N>
struct wgmma_instruction;

// A, B, S, TA and TB are the numbers of the operands after the registers. Only 16-bit types can be
// transposed: the others have no such operands.
#define CUDADENT_WGMMA_16BIT(N, EIGHTS, TYPE, A, B, S, TA, TB)                             \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #S                   \
               ", 0;\n"                                                                    \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE             \
               " {" CUDADENT_NAMES_##EIGHTS "}, %" #A ", %" #B ", accumulate, 1, 1, %" #TA \
                                            ", %" #TB ";\n}\n"                             \
               : CUDADENT_REGISTERS_##EIGHTS                                               \
               : "l"(a), "l"(b), "r"(accumulate), "n"(TRANSPOSE_A), "n"(TRANSPOSE_B))
#define CUDADENT_WGMMA_OTHER(N, EIGHTS, K, TYPES, A, B, S)                                \
  asm volatile("{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #S                  \
               ", 0;\n"                                                                   \
               "wgmma.mma_async.sync.aligned.m64n" #N "k" #K ".f32." TYPES                \
               " {" CUDADENT_NAMES_##EIGHTS "}, %" #A ", %" #B ", accumulate, 1, 1;\n}\n" \
               : CUDADENT_REGISTERS_##EIGHTS                                              \
               : "l"(a), "l"(b), "r"(accumulate))
// The same with a in registers: the operands after those of d are four of a, b, S and TB.
#define CUDADENT_WGMMA_REGISTERS(N, EIGHTS, TYPE, A0, A1, A2, A3, B, S, TB)                        \
  asm volatile(                                                                                    \
      "{\n.reg .pred accumulate;\nsetp.ne.b32 accumulate, %" #S                                    \
      ", 0;\n"                                                                                     \
      "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" CUDADENT_NAMES_##EIGHTS \
      "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", accumulate, 1, 1, %" #TB ";\n}\n"     \
      : CUDADENT_REGISTERS_##EIGHTS                                                                \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TRANSPOSE_B))
#define CUDADENT_WGMMA(N, EIGHTS, A, B, S, TA, TB, C, D)                                         \
  template <>                                                                                    \
  struct wgmma_instruction<N> {                                                                  \
    template <typename TYPE_A, typename TYPE_B, int TRANSPOSE_A, int TRANSPOSE_B>                \
    static __device__ __forceinline__ void issue(float (&d)[N / 2], u64 a, u64 b,                \
                                                 int accumulate) {                               \
      if constexpr (same_type<TYPE_A, bf16>) {                                                   \
        CUDADENT_WGMMA_16BIT(N, EIGHTS, "bf16", A, B, S, TA, TB);                                \
      } else if constexpr (same_type<TYPE_A, f16>) {                                             \
        CUDADENT_WGMMA_16BIT(N, EIGHTS, "f16", A, B, S, TA, TB);                                 \
      } else if constexpr (same_type<TYPE_A, f32>) {                                             \
        CUDADENT_WGMMA_OTHER(N, EIGHTS, 8, "tf32.tf32", A, B, S);                                \
      } else if constexpr (same_type<TYPE_A, e4m3> && same_type<TYPE_B, e4m3>) {                 \
        CUDADENT_WGMMA_OTHER(N, EIGHTS, 32, "e4m3.e4m3", A, B, S);                               \
      } else if constexpr (same_type<TYPE_A, e4m3>) {                                            \
        CUDADENT_WGMMA_OTHER(N, EIGHTS, 32, "e4m3.e5m2", A, B, S);                               \
      } else if constexpr (same_type<TYPE_B, e4m3>) {                                            \
        CUDADENT_WGMMA_OTHER(N, EIGHTS, 32, "e5m2.e4m3", A, B, S);                               \
      } else {                                                                                   \
        CUDADENT_WGMMA_OTHER(N, EIGHTS, 32, "e5m2.e5m2", A, B, S);                               \
      }                                                                                          \
    }                                                                                            \
    template <typename TYPE, int TRANSPOSE_B>                                                    \
    static __device__ __forceinline__ void issue_registers(float (&d)[N / 2], const u32 (&a)[4], \
                                                           u64 b, int accumulate) {              \
      if constexpr (same_type<TYPE, bf16>) {                                                     \
        CUDADENT_WGMMA_REGISTERS(N, EIGHTS, "bf16", A, B, S, TA, TB, C, D);                      \
      } else {                                                                                   \
        CUDADENT_WGMMA_REGISTERS(N, EIGHTS, "f16", A, B, S, TA, TB, C, D);                       \
      }                                                                                          \
    }                                                                                            \
  }
CUDADENT_WGMMA(16, 1, 8, 9, 10, 11, 12, 13, 14);
CUDADENT_WGMMA(32, 2, 16, 17, 18, 19, 20, 21, 22);
CUDADENT_WGMMA(48, 3, 24, 25, 26, 27, 28, 29, 30);
CUDADENT_WGMMA(64, 4, 32, 33, 34, 35, 36, 37, 38);
CUDADENT_WGMMA(80, 5, 40, 41, 42, 43, 44, 45, 46);
CUDADENT_WGMMA(96, 6, 48, 49, 50, 51, 52, 53, 54);
CUDADENT_WGMMA(112, 7, 56, 57, 58, 59, 60, 61, 62);
CUDADENT_WGMMA(128, 8, 64, 65, 66, 67, 68, 69, 70);
CUDADENT_WGMMA(144, 9, 72, 73, 74, 75, 76, 77, 78);
CUDADENT_WGMMA(160, 10, 80, 81, 82, 83, 84, 85, 86);
CUDADENT_WGMMA(176, 11, 88, 89, 90, 91, 92, 93, 94);
CUDADENT_WGMMA(192, 12, 96, 97, 98, 99, 100, 101, 102);
CUDADENT_WGMMA(208, 13, 104, 105, 106, 107, 108, 109, 110);
CUDADENT_WGMMA(224, 14, 112, 113, 114, 115, 116, 117, 118);
CUDADENT_WGMMA(240, 15, 120, 121, 122, 123, 124, 125, 126);
CUDADENT_WGMMA(256, 16, 128, 129, 130, 131, 132, 133, 134);
#undef CUDADENT_WGMMA
#undef CUDADENT_WGMMA_16BIT
#undef CUDADENT_WGMMA_OTHER
#undef CUDADENT_WGMMA_REGISTERS

}  // namespace detail

// d = a · b (+ d when `accumulate` is not 0): one 64×N×K step, N a multiple of 16 up to 256, K as many
// elements as 32 bytes hold. TYPE_A and TYPE_B are both bf16, both f16, both f32 (read as tf32: the
// lowest 13 bits are not looked at) or any of e4m3 and e5m2. Operands are K-major; those of 16 bits are
// MN-major where TRANSPOSE_A or TRANSPOSE_B is 1. Runs asynchronously: d must not be touched before
// wgmma_wait_group.
template <typename TYPE_A, typename TYPE_B, int N, int TRANSPOSE_A, int TRANSPOSE_B>
__device__ __forceinline__ void wgmma(float (&d)[N / 2], u64 a, u64 b, int accumulate) {
  static_assert(sizeof(TYPE_A) == sizeof(TYPE_B), "operands of one width");
  static_assert(sizeof(TYPE_A) == 1 || same_type<TYPE_A, TYPE_B>, "only 8-bit types mix");
  static_assert(is_16bit_float<TYPE_A> || (TRANSPOSE_A == 0 && TRANSPOSE_B == 0));
  detail::wgmma_instruction<N>::template issue<TYPE_A, TYPE_B, TRANSPOSE_A, TRANSPOSE_B>(
      d, a, b, accumulate);
}

// The same for 16-bit types with 64×16 elements of a in registers: thread t of the warpgroup (warp w,
// lane l) holds in a[2 h + i] columns 8 h + 2 (l % 4) and the next of row 16 w + 8 i + l / 4. So four
// packed pairs of 16 columns of an accumulator are the a of another product. The registers, too, must not
// be touched before wgmma_wait_group.
template <typename TYPE, int N, int TRANSPOSE_B>
__device__ __forceinline__ void wgmma_registers(float (&d)[N / 2], const u32 (&a)[4], u64 b,
                                                int accumulate) {
  static_assert(is_16bit_float<TYPE>, "a in registers is bf16 or f16");
  detail::wgmma_instruction<N>::template issue_registers<TYPE, TRANSPOSE_B>(d, a, b, accumulate);
}
// As wgmma_pin, for registers of a.
template <int COUNT>
__device__ __forceinline__ void wgmma_pin_operand(u32 (&a)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+r"(a[i])::"memory");
}
