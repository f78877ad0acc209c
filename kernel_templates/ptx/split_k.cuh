// Adding up one output tile whose k range was split over several blocks, inside the same launch.
#pragma once

// The threads of a block that add up together: all of them.
template <int THREADS_A_BLOCK>
struct WholeBlock {
  static constexpr int THREADS = THREADS_A_BLOCK;
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ void sync() { __syncthreads(); }
  static __device__ __forceinline__ bool any(bool predicate) {
    return __syncthreads_or(predicate) != 0;
  }
};

// Every block of a tile calls this with its own sums. It leaves them in `partials` and counts itself;
// in the block that is last it replaces the sums by the total of all PARTS and returns true. The
// total is always added in the order of the parts, so that equal inputs give equal bits whatever
// the timing. Only a thread with the same index reads what a thread wrote, so the order of values in
// a tile does not matter, and accesses are 16 bytes wide and coalesced.
//
// Group: which threads of a block take part, as WholeBlock has it. partials: PARTS * Group::THREADS *
// QUADS * 4 floats for each tile. counters: one u32 a tile, zero before the first launch; it is left
// zero.
template <int PARTS, typename Group, int QUADS>
__device__ __forceinline__ bool combine_parts_of_group(float (&sums)[QUADS][4], float* partials,
                                                       u32* counters, int tile, int part) {
  constexpr int PART_QUADS = Group::THREADS * QUADS;
  const int thread = Group::thread();
  float4* const parts =
      reinterpret_cast<float4*>(partials) + static_cast<i64>(tile) * PARTS * PART_QUADS + thread;
#pragma unroll
  for (int quad = 0; quad < QUADS; ++quad) {
    parts[part * PART_QUADS + quad * Group::THREADS] =
        make_float4(sums[quad][0], sums[quad][1], sums[quad][2], sums[quad][3]);
  }

  // The pattern of the CUDA programming guide's threadFenceReduction: write, fence, count. The vote
  // tells all threads without a word of shared memory, which would add to the dynamic part.
  __threadfence();
  Group::sync();
  bool is_last = false;
  if (thread == 0) {
    is_last = atomicAdd(counters + tile, 1u) == PARTS - 1;
    if (is_last) counters[tile] = 0;
  }
  if (!Group::any(is_last)) return false;
  __threadfence();

#pragma unroll
  for (auto& quad : sums) {
#pragma unroll
    for (float& sum : quad) sum = 0.0f;
  }
  // The loads of several parts at once, as far as registers go: each costs the latency of the L2 cache.
  constexpr int AT_ONCE = QUADS <= 4 ? 32 / QUADS : QUADS <= 8 ? 2 : 1;
#pragma unroll AT_ONCE
  for (int other = 0; other < PARTS; ++other) {
#pragma unroll
    for (int quad = 0; quad < QUADS; ++quad) {
      const float4 value = __ldcg(parts + other * PART_QUADS + quad * Group::THREADS);
      sums[quad][0] += value.x;
      sums[quad][1] += value.y;
      sums[quad][2] += value.z;
      sums[quad][3] += value.w;
    }
  }
  return true;
}
template <int PARTS, int THREADS_A_BLOCK, int QUADS>
__device__ __forceinline__ bool combine_parts(float (&sums)[QUADS][4], float* partials,
                                              u32* counters, int tile, int part) {
  return combine_parts_of_group<PARTS, WholeBlock<THREADS_A_BLOCK>>(sums, partials, counters, tile,
                                                                    part);
}
