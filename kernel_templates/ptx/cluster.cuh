// Thread block clusters (sm_90 and later): blocks that run at the same time on neighbouring
// multiprocessors and can address each other's shared memory.
#pragma once

// The rank of this block in its cluster: 0 to the number of blocks in it minus 1.
__device__ __forceinline__ int cluster_rank() {
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return static_cast<int>(rank);
}

// All threads of all blocks of the cluster arrive, then wait. Every thread of a warp must take part.
// What a thread wrote before it arrived, others see after they waited. A block must not exit while
// another one can still touch its shared memory.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
// Publishes nothing, and so needs no fence: after mbarrier_init_fence, or before an exit.
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

// The address, in the cluster's window of shared memory, of what `address` names in this block's
// shared memory, but in the block of that rank.
__device__ __forceinline__ u32 cluster_address(u32 address, int rank) {
  u32 result;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(result) : "r"(address), "r"(rank));
  return result;
}

// 16 bytes of the shared memory of any block of the cluster (an address from cluster_address), and of
// this block's own.
__device__ __forceinline__ float4 cluster_load_f32x4(u32 address) {
  float4 value;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(address)
               : "memory");
  return value;
}
__device__ __forceinline__ void shared_store_f32x4(u32 address, float x, float y, float z,
                                                   float w) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(x), "f"(y), "f"(z),
               "f"(w)
               : "memory");
}
