// Adding up one output tile whose k range was split over several blocks, inside the same launch.
//
// Sums pass from block to block through memory. There is no fence, no flag and no second trip through memory
// between a sum that is written and its being read: a word that is not zero is there. Hence bits are stored
// inverted, sums of the only pattern that would come out as zero, a NaN's, as another NaN, and who reads a
// word puts the zero back for the next launch. Only a thread with the same index reads what a thread wrote, so
// the order of values in a part does not matter, and accesses are 16 bytes wide and coalesced.
//
// Who adds up is for the kernel to say (leave_part, add_part), or for tickets (combine_parts): each block that
// has a part of a tile draws one when it begins, while it has nothing to do but wait for memory. The one that
// draws the last adds up: all others have begun by then, so they finish whatever it does, and it may wait for
// them. They leave their sums and go.
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

// A block's ticket for a tile of PARTS parts: to be drawn early, and looked at late, for it comes from memory.
// counters: one u32 a tile, zero before the first launch; it is left zero.
template <int PARTS, typename Group>
class PartTicket {
 public:
  __device__ __forceinline__ PartTicket(u32* counters, int tile) : counter_(counters + tile) {
    if (PARTS > 1 && Group::thread() == 0) number_ = atomicAdd(counter_, 1u);
  }
  // Whether it is the tile's last; the same for all threads of the group, who all ask, once.
  __device__ __forceinline__ bool is_last() const {
    const bool mine = number_ == PARTS - 1;
    if (mine) *counter_ = 0;
    return Group::any(mine);
  }

 private:
  u32* counter_;
  u32 number_ = PARTS;  // that of the group's first thread
};

namespace split_k {

__device__ __forceinline__ u32 to_word(float sum) {
  const u32 word = ~__float_as_uint(sum);
  return word == 0 ? 0x80000000u : word;
}
__device__ __forceinline__ float from_word(u32 word) { return __uint_as_float(~word); }

__device__ __forceinline__ uint4 to_words(const float* quad) {
  return make_uint4(to_word(quad[0]), to_word(quad[1]), to_word(quad[2]), to_word(quad[3]));
}
__device__ __forceinline__ bool is_there(const uint4& words) {
  return words.x != 0 && words.y != 0 && words.z != 0 && words.w != 0;
}
__device__ __forceinline__ void add(float* quad, const uint4& words) {
  quad[0] += from_word(words.x);
  quad[1] += from_word(words.y);
  quad[2] += from_word(words.z);
  quad[3] += from_word(words.w);
}

}  // namespace split_k

// Leaves QUADS * 4 sums of each of THREADS threads for another block, which calls add_part. Nobody waits.
// A part is THREADS * QUADS * 4 words, zero before the first launch; `own` is the thread-th 16 bytes of it.
template <int THREADS, int QUADS>
__device__ __forceinline__ void leave_part(const float* sums, uint4* own) {
#pragma unroll
  for (int quad = 0; quad < QUADS; ++quad) {
    __stcg(own + quad * THREADS, split_k::to_words(sums + 4 * quad));
  }
}

// Waits for what another block leaves, adds it to the sums, and leaves the words zero. That block must need
// nothing of this one, and must run: so let it be one that began earlier.
template <int THREADS, int QUADS>
__device__ __forceinline__ void add_part(float* sums, uint4* own) {
  // Several loads at once, as far as registers go: each costs the latency of the L2 cache.
  constexpr int AT_ONCE = QUADS <= 32 ? 8 : 4;
#pragma unroll
  for (int first = 0; first < QUADS; first += AT_ONCE) {
    const int end = minimum(first + AT_ONCE, QUADS);
    uint4 words[AT_ONCE];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int quad = first; quad < end; ++quad) {
        words[quad - first] = load_polled(own + quad * THREADS);
      }
#pragma unroll
      for (int quad = first; quad < end; ++quad) {
        there = there && split_k::is_there(words[quad - first]);
      }
    } while (!there);
#pragma unroll
    for (int quad = first; quad < end; ++quad) {
      __stcg(own + quad * THREADS, make_uint4(0, 0, 0, 0));
      split_k::add(sums + 4 * quad, words[quad - first]);
    }
  }
}

// Every block of a tile calls this with its own sums and ticket. In the block that drew the last it replaces
// the sums by the total of all PARTS and returns true. The total is always added in the order of the parts,
// so that equal inputs give equal bits whatever the timing.
//
// Group: which threads of a block take part, as WholeBlock has it. partials: PARTS * Group::THREADS *
// QUADS * 4 words for each tile, zero before the first launch; they are left zero.
template <int PARTS, typename Group, int QUADS>
__device__ __forceinline__ bool combine_parts(float (&sums)[QUADS][4], float* partials,
                                              const PartTicket<PARTS, Group>& ticket, int tile,
                                              int part) {
  constexpr int PART_QUADS = Group::THREADS * QUADS;
  // The adding block keeps its own sums in registers, where there are enough.
  constexpr bool KEEPS = QUADS <= 8;
  uint4* const parts = reinterpret_cast<uint4*>(partials) +
                       static_cast<i64>(tile) * PARTS * PART_QUADS + Group::thread();
  const bool adds = ticket.is_last();
  if (!KEEPS || !adds) leave_part<Group::THREADS, QUADS>(sums[0], parts + part * PART_QUADS);
  if (!adds) return false;

  float own[KEEPS ? QUADS : 1][4];
#pragma unroll
  for (int i = 0; i < QUADS * 4; ++i) {
    if constexpr (KEEPS) own[i / 4][i % 4] = sums[i / 4][i % 4];
    sums[i / 4][i % 4] = 0.0f;
  }
  // The loads of several parts at once, as far as registers go: each costs the latency of the L2 cache.
  constexpr int AT_ONCE = minimum(PARTS, QUADS <= 16 ? 16 / QUADS : 1);
#pragma unroll 1
  for (int first = 0; first < PARTS; first += AT_ONCE) {
    uint4 words[AT_ONCE][QUADS];
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      const int other = minimum(first + i, PARTS - 1);
      if (KEEPS && other == part) continue;
#pragma unroll
      for (int quad = 0; quad < QUADS; ++quad) {
        words[i][quad] = load_polled(parts + other * PART_QUADS + quad * Group::THREADS);
      }
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      const int other = first + i;
      if (other >= PARTS) break;
#pragma unroll
      for (int quad = 0; quad < QUADS; ++quad) {
        uint4* const at = parts + other * PART_QUADS + quad * Group::THREADS;
        uint4 value = words[i][quad];
        if (KEEPS && other == part) {
          if constexpr (KEEPS) value = split_k::to_words(own[quad]);
        } else {
          while (!split_k::is_there(value)) value = load_polled(at);
          __stcg(at, make_uint4(0, 0, 0, 0));
        }
        split_k::add(sums[quad], value);
      }
    }
  }
  return true;
}
