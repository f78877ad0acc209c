// Copies of tma.cuh for clusters, of four dimensions.
#pragma once
#include "ptx/tma.cuh"

// As tma_load_3d_multicast.
__device__ __forceinline__ void tma_load_4d_multicast(u32 destination, const TensorMap* map,
                                                      u32 barrier, int x, int y, int z, int w,
                                                      u16 blocks) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6, %7}], [%2], %3;" ::"r"(destination),
      "l"(map), "r"(barrier), "h"(blocks), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}
