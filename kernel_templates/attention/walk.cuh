// How the blocks of a grid share tiles that are more than they are: each, or each cluster of CLUSTER, over its own,
// or whoever is done draws the next from a counter.
#pragma once
#include "ptx/mbarrier.cuh"

// The tiles of a block, one after another, as it knows them by itself.
struct Walk {
  int round = 0;

  // The number of the next piece of work; as many as there are or more when there is none. When causal, tiles
  // become shorter: every other round goes backwards, which evens out what the blocks get.
  __device__ __forceinline__ int next() {
    const int clusters = static_cast<int>(gridDim.x) / CLUSTER;
    const int cluster = static_cast<int>(blockIdx.x) / CLUSTER;
    const int at = causal && round % 2 == 1 ? clusters - 1 - cluster : cluster;
    return round++ * clusters + at;
  }
};

// Pieces of work that a producer may have drawn and others of its block not begun.
constexpr int DRAWN = 2;

// Where the producer leaves the numbers of what it has drawn, `round` after round.
struct DrawnRing {
  volatile int* numbers;  // DRAWN of them, in shared memory
  u32 full_barriers, empty_barriers;
  u32 round = 0;

  __device__ __forceinline__ u32 stage() const { return round % DRAWN; }
  __device__ __forceinline__ u32 parity() const { return round / DRAWN % 2; }
  __device__ __forceinline__ u32 full() const { return full_barriers + 8 * stage(); }
  __device__ __forceinline__ u32 empty() const { return empty_barriers + 8 * stage(); }
};

// The producer's side: draws from a counter that all blocks share, always one ahead, since it lies in memory.
// Each block begins with the piece of its own number and draws until there is none, so that as many tickets
// are drawn as there are pieces: who draws the last leaves the counter zero for the next launch.
class Draw {
 public:
  __device__ __forceinline__ Draw(u32* counter, int work, const DrawnRing& ring)
      : counter_(counter), work_(work), ring_(ring) {}
  // As Walk::next.
  __device__ __forceinline__ int next() {
    int number = static_cast<int>(blockIdx.x);
    if (ring_.round > 0) {
      number = static_cast<int>(gridDim.x + ticket_);
      if (static_cast<int>(ticket_) == work_ - 1) *counter_ = 0;
    }
    if (number < work_) ticket_ = atomicAdd(counter_, 1u);
    mbarrier_wait(ring_.empty(), ring_.parity() ^ 1);
    ring_.numbers[ring_.stage()] = number;
    mbarrier_arrive(ring_.full());
    ++ring_.round;
    return number;
  }

 private:
  u32* counter_;
  int work_;
  DrawnRing ring_;
  u32 ticket_ = 0;
};

// The side of all other warps, of which each arrives once a round.
struct Drawn {
  DrawnRing ring;

  __device__ __forceinline__ int next() {
    mbarrier_wait(ring.full(), ring.parity());
    const int number = ring.numbers[ring.stage()];
    __syncwarp();
    if (lane_index() == 0) mbarrier_arrive(ring.empty());
    ++ring.round;
    return number;
  }
};
