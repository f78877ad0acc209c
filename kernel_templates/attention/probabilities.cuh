// Where the probabilities of a block of keys wait for their product with its values.
#pragma once
#include "attention/rows.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"

constexpr int P_BOXES = ceil_div(BN, 64);      // of 64 keys, 128 bytes
constexpr int P_BYTES = P_BOXES * (64 * 128);  // of a warpgroup's 64 rows

// In registers: BN / 4 of each thread.
class ProbabilitiesInRegisters {
 public:
  // Rounds them. The product with those before must have ended.
  __device__ __forceinline__ void keep(const float (&exponentials)[BN / 2]) {
    round_probabilities(p_, exponentials);
  }
  // Issues their products with values, added to the sums, as a group.
  __device__ __forceinline__ void multiply(float (&sums)[OUT_DIM / 2], u64 v_descriptor) const {
#pragma unroll
    for (int step = 0; step < BN / 16; ++step) {
      wgmma_registers<dtype, OUT_DIM, 1>(sums, p_[step], wgmma_advance(v_descriptor, step * 2048),
                                         1);
    }
    wgmma_commit_group();
  }

 private:
  Probabilities p_;
};

// In P_BYTES of shared memory, a multiple of 1024: as the swizzled first operand of a product.
class ProbabilitiesInShared {
 public:
  // BARRIER: a named barrier of the warpgroup's own.
  __device__ __forceinline__ ProbabilitiesInShared(u32 address, int barrier)
      : descriptor_(wgmma_descriptor_128b(address, 16, 1024)), barrier_(barrier) {
    // A lane addresses row l % 8 of one of the four 8 × 8 matrices of 16 rows and 16 keys.
    const int lane = lane_index(), row = warp_index() % 4 * 16 + lane / 8 % 2 * 8 + lane % 8;
    row_address_ = address + row * 128;
    column_ = lane / 16;
    exchange_ = lane % 8;
  }
  // As of ProbabilitiesInRegisters.
  __device__ __forceinline__ void keep(const float (&exponentials)[BN / 2]) const {
#pragma unroll
    for (int step = 0; step < BN / 16; ++step) {
      u32 packed[4];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        packed[pair] =
            pack2<dtype>(exponentials[8 * step + 2 * pair], exponentials[8 * step + 2 * pair + 1]);
      }
      stmatrix_x4(
          row_address_ + step / 4 * (64 * 128) + ((step % 4 * 2 + column_) ^ exchange_) * 16,
          packed[0], packed[1], packed[2], packed[3]);
    }
    async_proxy_fence();
    named_barrier_sync(barrier_, 128);
  }
  __device__ __forceinline__ void multiply(float (&sums)[OUT_DIM / 2], u64 v_descriptor) const {
#pragma unroll
    for (int step = 0; step < BN / 16; ++step) {
      wgmma<dtype, dtype, OUT_DIM, 0, 1>(
          sums, wgmma_advance(descriptor_, step / 4 * (64 * 128) + step % 4 * 32),
          wgmma_advance(v_descriptor, step * 2048), 1);
    }
    wgmma_commit_group();
  }

 private:
  u64 descriptor_;
  int barrier_;
  u32 row_address_;
  int column_, exchange_;
};
