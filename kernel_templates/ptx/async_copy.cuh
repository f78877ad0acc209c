// cp.async: copies from global to shared memory that do not pass through registers (sm_80 and
// later). Copies are collected into groups in order; a thread waits for its own groups only, so
// other threads see the data after a wait and a barrier.
#pragma once

// 16 bytes; both addresses 16-byte aligned. Bypasses L1.
__device__ __forceinline__ void copy_async_16(u32 shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared), "l"(global)
               : "memory");
}
// 16 bytes, or 16 zeros when not `valid`; then `global` is not read and may be any address.
__device__ __forceinline__ void copy_async_16(u32 shared, const void* global, bool valid) {
  const int source_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(source_bytes)
               : "memory");
}
// 4 or 8 bytes, through L1, for data that is not 16-byte aligned.
template <int BYTES>
__device__ __forceinline__ void copy_async_small(u32 shared, const void* global, bool valid) {
  static_assert(BYTES == 4 || BYTES == 8, "cp.async.ca copies 4, 8 or 16 bytes");
  const int source_bytes = valid ? BYTES : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global),
               "n"(BYTES), "r"(source_bytes)
               : "memory");
}
// BYTES bytes, 4, 8 or 16, or as many zeros when not `valid`; both addresses multiples of BYTES.
template <int BYTES>
__device__ __forceinline__ void copy_async(u32 shared, const void* global, bool valid) {
  if constexpr (BYTES == 16) {
    copy_async_16(shared, global, valid);
  } else {
    copy_async_small<BYTES>(shared, global, valid);
  }
}
// The first `source_bytes` bytes, from 0 to BYTES, and zeros behind them; what follows is not read.
// Takes about five instructions more.
template <int BYTES>
__device__ __forceinline__ void copy_async_part(u32 shared, const void* global, int source_bytes) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared),
                 "l"(global), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global),
                 "n"(BYTES), "r"(source_bytes)
                 : "memory");
  }
}
// Closes the group of the copies issued since the last call; it may be empty.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most PENDING of this thread's groups are still under way.
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
