// The bulk tensor copy engine (TMA, sm_90 and later): copies boxes of a tensor between global and
// shared memory, described by a tensor map that the host encodes.
//
// Rules (CUDA driver API, cuTensorMapEncodeTiled; PTX ISA, cp.async.bulk.tensor): the tensor's base
// and strides are multiples of 16 bytes; a box has at most 256 elements along a dimension and, when
// swizzled, at most the swizzle's span of bytes along the innermost. Elements outside the tensor
// read as zero (and count towards the barrier's bytes) and are not written. Coordinates are in
// elements, innermost first. One thread issues a copy.
#pragma once

// What the host's cuTensorMapEncodeTiled fills in; a kernel takes it by value as
// `const __grid_constant__ TensorMap`.
struct alignas(64) TensorMap {
  u64 opaque[16];
};

__device__ __forceinline__ void tma_prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Global to shared memory; the bytes count on `barrier`.
__device__ __forceinline__ void tma_load_2d(u32 destination, const TensorMap* map, u32 barrier,
                                            int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}

// Global memory to the same place in the shared memory of every block of the cluster whose bit is
// set in `blocks`; the bytes count on the same barrier of each.
__device__ __forceinline__ void tma_load_2d_multicast(u32 destination, const TensorMap* map,
                                                      u32 barrier, int x, int y, u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;" ::"r"(destination),
      "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y)
      : "memory");
}

// Shared to global memory. Belongs to the issuing thread's next bulk group. What ordinary stores
// wrote there needs async_proxy_fence by the writers, and a barrier, first.
__device__ __forceinline__ void tma_store_2d(const TensorMap* map, u32 source, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
      "r"(source), "r"(x), "r"(y)
      : "memory");
}

// Adds to what is in global memory instead of overwriting it.
__device__ __forceinline__ void tma_reduce_add_2d(const TensorMap* map, u32 source, int x, int y) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], "
      "[%1];" ::"l"(map),
      "r"(source), "r"(x), "r"(y)
      : "memory");
}

// The same for tensors of three dimensions.
__device__ __forceinline__ void tma_load_3d(u32 destination, const TensorMap* map, u32 barrier,
                                            int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ __forceinline__ void tma_load_3d_multicast(u32 destination, const TensorMap* map,
                                                      u32 barrier, int x, int y, int z,
                                                      u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;" ::"r"(destination),
      "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y), "r"(z)
      : "memory");
}
__device__ __forceinline__ void tma_store_3d(const TensorMap* map, u32 source, int x, int y,
                                             int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(source), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// And of four and five.
__device__ __forceinline__ void tma_load_4d(u32 destination, const TensorMap* map, u32 barrier,
                                            int x, int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}
__device__ __forceinline__ void tma_load_4d_multicast(u32 destination, const TensorMap* map,
                                                      u32 barrier, int x, int y, int z, int w,
                                                      u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(destination),
      "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

// What the L2 cache is to do with what is copied: nothing in particular, or evict it before anything else, for
// what is read once (PTX ISA, createpolicy).
__device__ __forceinline__ u64 l2_policy_normal() {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ u64 l2_policy_evict_first() {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void tma_load_4d_policy(u32 destination, const TensorMap* map,
                                                   u32 barrier, int x, int y, int z, int w,
                                                   u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "l"(policy)
      : "memory");
}

__device__ __forceinline__ void tma_load_5d(u32 destination, const TensorMap* map, u32 barrier,
                                            int x, int y, int z, int w, int v) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(destination),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v)
      : "memory");
}

// Closes the bulk group of the copies that this thread issued since the last one.
__device__ __forceinline__ void tma_commit_group() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until at most PENDING of this thread's bulk groups are unfinished; the `read` form until
// they have read their source, which may then be overwritten.
template <int PENDING>
__device__ __forceinline__ void tma_wait_group() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}
template <int PENDING>
__device__ __forceinline__ void tma_wait_group_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Orders this thread's ordinary accesses to shared memory before later ones of the copy engine and
// of wgmma, which go through another path ("the async proxy").
__device__ __forceinline__ void async_proxy_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
