// A ring of STAGES buffers in shared memory that one part of a block fills and another reads.
#pragma once

// A place in the ring: the stage, and the parity of the trip around it, which is that of the phase of
// the stage's mbarrier.
template <int STAGES>
struct RingPosition {
  int stage = 0;
  u32 parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  // The same as calling advance() COUNT times.
  template <int COUNT>
  __device__ __forceinline__ void skip() {
    stage += COUNT % STAGES;
    parity ^= (COUNT / STAGES) & 1;
    if (stage >= STAGES) {
      stage -= STAGES;
      parity ^= 1;
    }
  }
};
