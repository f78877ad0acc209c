// Barriers: mbarrier objects in shared memory (sm_90 and later), and named barriers of a block.
//
// An mbarrier counts arrivals and bytes still to come; its phase ends when both counts reach zero.
// A waiter names the parity of the phase it waits for: the n-th phase (from 0) has parity n & 1,
// and a wait for parity 1 on a fresh barrier returns at once. All addresses here are 32-bit
// addresses of shared memory (see shared_address), 8-byte aligned, 8 bytes a barrier. Source: PTX
// ISA, "Parallel Synchronization and Communication Instructions: mbarrier".
#pragma once

__device__ __forceinline__ void mbarrier_init(u32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialised barriers visible to the copy engine and to the other blocks of the cluster.
// A block (or cluster) barrier must follow before anyone else uses them.
__device__ __forceinline__ void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives on a barrier of any block of the cluster; `barrier` is an address from cluster_address.
// Ordinary stores before it are not made visible to the other block. With `.release.cluster` they
// would be, by a fence of the whole device before every arrival: a gemm that released its stages that
// way took 228 instead of 175 µs (4096³, H200). Reads by wgmma that were waited for need no fence.
__device__ __forceinline__ void mbarrier_arrive_cluster(u32 barrier) {
  asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
               : "memory");
}

// Arrives, and lets the current phase wait for `bytes` more bytes of asynchronous copies.
__device__ __forceinline__ void mbarrier_arrive_expect_bytes(u32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Returns once the phase of this parity has ended. try_wait suspends the thread for a time limit
// that the hardware chooses, so the loop rarely spins.
__device__ __forceinline__ void mbarrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Named barriers: `index` 1 to 15 (0 is __syncthreads), `threads` a multiple of 32 that arrive or
// wait in all. Every thread of a warp must take part.
__device__ __forceinline__ void named_barrier_sync(int index, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(index), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int index, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(index), "r"(threads) : "memory");
}
// As named_barrier_sync; every thread learns whether any of them had the predicate.
__device__ __forceinline__ bool named_barrier_any(int index, int threads, bool predicate) {
  u32 any;
  asm volatile(
      "{\n"
      ".reg .pred mine, all;\n"
      "setp.ne.u32 mine, %3, 0;\n"
      "barrier.cta.red.or.pred all, %1, %2, mine;\n"
      "selp.u32 %0, 1, 0, all;\n"
      "}\n"
      : "=r"(any)
      : "r"(index), "r"(threads), "r"(static_cast<u32>(predicate))
      : "memory");
  return any != 0;
}

// THREADS_ threads of a block from FIRST on that meet at a named barrier; see WholeBlock in split_k.cuh.
template <int BARRIER, int FIRST, int THREADS_>
struct NamedGroup {
  static constexpr int THREADS = THREADS_;
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x) - FIRST; }
  static __device__ __forceinline__ void sync() { named_barrier_sync(BARRIER, THREADS); }
  static __device__ __forceinline__ bool any(bool predicate) {
    return named_barrier_any(BARRIER, THREADS, predicate);
  }
};
