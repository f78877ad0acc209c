// GEMM on the warp-level tensor instruction mma.sync, for sm_75 and later.
//
// A block computes a BM x BN tile of c with WARPS_M x WARPS_N warps. Tiles of a and b pass through a
// ring of STAGES slots in shared memory, filled by cp.async (sm_80 and later) or through registers
// (sm_75, two slots), in 16-byte chunks swizzled so that ldmatrix has no bank conflicts. A warp loads
// the fragments of the next 16 of k while it multiplies the present ones. With SPLIT_K > 1 as many
// blocks share a tile, each takes a part of k, and the last to finish adds the partial sums in a
// fixed order, so results do not depend on timing.
//
// n and k are multiples of 8 and pointers are 16-byte aligned, so a chunk lies either inside a matrix
// or outside it, and never straddles its edge.
#include "ptx/async_copy.cuh"
#include "ptx/math.cuh"
#include "ptx/mma.cuh"
#include "ptx/split_k.cuh"

// Threads, warp tile (WARP_M x WARP_N), STAGE_BYTES and STAGING_PITCH (floats in a row of the
// staging area of the epilogue) come from the manifest's "let".
constexpr bool has_async_copy = device_sm >= 80;
constexpr bool b_is_nk = layout_b == layout_b_kind::nk;
constexpr int K_STEPS = BK / 16;
constexpr int K_BLOCKS = ceil_div(k, BK);
constexpr int SPLIT_K_BLOCKS = ceil_div(K_BLOCKS, SPLIT_K);
constexpr int TILES_N = ceil_div(n, BN);
constexpr int M_FRAGMENTS = WARP_M / 16;
constexpr int N_FRAGMENTS = WARP_N / 8;
constexpr int A_BYTES = BM * BK * static_cast<int>(sizeof(dtype));

// One thread's share of copying a tile of ROWS rows of CHUNKS 16-byte chunks: the same chunk column
// of every ROWS_PER_PASS-th row, so that source and destination advance by constants. PITCH is the
// length of a row of the whole matrix. K_CONTIGUOUS: rows run along k (a, and b as [n, k]);
// otherwise the tile's rows are the k index (b as [k, n]).
template <bool K_CONTIGUOUS, int ROWS, int CHUNKS, int PITCH>
struct TileLoader {
  static constexpr int ROWS_PER_PASS = THREADS / CHUNKS;
  static constexpr int PASSES = ceil_div(ROWS, ROWS_PER_PASS);
  static_assert(ROWS_PER_PASS % 8 == 0, "the swizzle must be the same in every pass");
  static_assert(PASSES <= 32, "one bit a pass");

  const dtype* source;
  u32 destination;  // byte offset in the tile
  u32 in_bounds;    // one bit a pass: the row (or, for [k, n], the column) exists
  int k_index;      // of the first element that the next load reads

  __device__ __forceinline__ TileLoader(const dtype* matrix, int first_outer, int outer_size,
                                        int first_k) {
    const int thread = static_cast<int>(threadIdx.x);
    const int row = thread / CHUNKS;
    const int chunk = thread % CHUNKS;
    destination = swizzled_chunk<CHUNKS>(row, chunk) * 16;
    in_bounds = 0;
    if constexpr (K_CONTIGUOUS) {
      k_index = first_k + chunk * 8;
      source = matrix + static_cast<i64>(first_outer + row) * PITCH + k_index;
#pragma unroll
      for (int pass = 0; pass < PASSES; ++pass) {
        const bool exists = first_outer + row + pass * ROWS_PER_PASS < outer_size;
        in_bounds |= static_cast<u32>(exists) << pass;
      }
    } else {
      k_index = first_k + row;
      source = matrix + static_cast<i64>(k_index) * PITCH + first_outer + chunk * 8;
      in_bounds = first_outer + chunk * 8 < outer_size ? ~0u : 0u;
    }
  }

  __device__ __forceinline__ void advance() {
    k_index += BK;
    source += static_cast<i64>(BK) * (K_CONTIGUOUS ? 1 : PITCH);
  }
  // Whether this thread has a row in this pass at all: not when the block is larger than the tile.
  static __device__ __forceinline__ bool takes_part(int pass) {
    if constexpr (ROWS % ROWS_PER_PASS == 0) return true;
    return static_cast<int>(threadIdx.x) / CHUNKS + pass * ROWS_PER_PASS < ROWS;
  }
  __device__ __forceinline__ bool valid(int pass) const {
    const bool inside = (in_bounds >> pass) & 1;
    if constexpr (k % BK == 0) return inside;
    return inside && k_index + (K_CONTIGUOUS ? 0 : pass * ROWS_PER_PASS) < k;
  }
  __device__ __forceinline__ const dtype* address(int pass) const {
    return source + static_cast<i64>(pass) * ROWS_PER_PASS * PITCH;
  }
  static __device__ __forceinline__ u32 offset(int pass) {
    return pass * ROWS_PER_PASS * CHUNKS * 16;
  }

  // Starts the copies of the passes that belong to step STEP of STEPS.
  template <bool ALWAYS_VALID>
  __device__ __forceinline__ void copy(u32 tile, int step, int steps) const {
    const int per_step = ceil_div(PASSES, steps);
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      if (pass / per_step != step || !takes_part(pass)) continue;
      if constexpr (ALWAYS_VALID) {
        copy_async_16(tile + destination + offset(pass), address(pass));
      } else {
        copy_async_16(tile + destination + offset(pass), address(pass), valid(pass));
      }
    }
  }

  // The way of sm_75: global memory to registers, later registers to shared memory.
  __device__ __forceinline__ void fetch(uint4 (&registers)[PASSES]) const {
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      registers[pass] = make_uint4(0, 0, 0, 0);
      if (takes_part(pass) && valid(pass)) registers[pass] = load_16(address(pass));
    }
  }
  __device__ __forceinline__ void put(unsigned char* tile, const uint4 (&registers)[PASSES]) const {
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      if (takes_part(pass)) store_16(tile + destination + offset(pass), registers[pass]);
    }
  }
};

using ALoader = TileLoader<true, BM, BK / 8, k>;
using BLoader = TileLoader<b_is_nk, b_is_nk ? BN : BK, (b_is_nk ? BK : BN) / 8, b_is_nk ? k : n>;

// The fragments of one warp for 16 of k.
struct Fragments {
  u32 a[M_FRAGMENTS][4];
  u32 b[N_FRAGMENTS][2];
};

// Byte offsets, in a slot of the ring, of the rows whose addresses this lane gives to ldmatrix.
struct FragmentOffsets {
  u32 a;
  u32 b[b_is_nk ? 1 : N_FRAGMENTS / 2];

  __device__ __forceinline__ FragmentOffsets(int warp_m, int warp_n) {
    const int lane = lane_index();
    a = swizzled_chunk<BK / 8>(warp_m * WARP_M + lane % 16, lane / 16) * 16;
    if constexpr (b_is_nk) {
      const int row = warp_n * WARP_N + lane % 8 + lane / 16 * 8;
      b[0] = A_BYTES + swizzled_chunk<BK / 8>(row, lane / 8 % 2) * 16;
    } else {
#pragma unroll
      for (int pair = 0; pair < N_FRAGMENTS / 2; ++pair) {
        const int chunk = warp_n * (WARP_N / 8) + 2 * pair + lane / 16;
        b[pair] = A_BYTES + swizzled_chunk<BN / 8>(lane % 16, chunk) * 16;
      }
    }
  }

  // Fragment row i of a, and its share of the fragments of b, for step `step` of a k block. A step
  // along k is 2 chunks further; in a swizzled row that is an XOR of the chunk index, of which only
  // the lowest bit is used within a step (A_BYTES is a multiple of a row, so it is not hit).
  __device__ __forceinline__ void load(Fragments& fragments, u32 slot, int step, int i) const {
    load_matrix_x4(fragments.a[i], slot + (a ^ (step * 32)) + i * (16 * BK * 2));
#pragma unroll
    for (int pair = 0; pair < N_FRAGMENTS / 2; ++pair) {
      if (pair % M_FRAGMENTS != i) continue;
      u32 words[4];
      if constexpr (b_is_nk) {
        load_matrix_x4(words, slot + (b[0] ^ (step * 32)) + pair * (16 * BK * 2));
      } else {
        load_matrix_transposed_x4(words, slot + b[pair] + step * (16 * BN * 2));
      }
      fragments.b[2 * pair][0] = words[0];
      fragments.b[2 * pair][1] = words[1];
      fragments.b[2 * pair + 1][0] = words[2];
      fragments.b[2 * pair + 1][1] = words[3];
    }
  }
};

// Four sums of every 16x8 fragment of the warp's tile, at [row of fragments * N_FRAGMENTS + column].
using Accumulators = float[M_FRAGMENTS * N_FRAGMENTS][4];

// Fragment row i of the warp's tile.
__device__ __forceinline__ void multiply(Accumulators& sums, const Fragments& fragments, int i) {
#pragma unroll
  for (int j = 0; j < N_FRAGMENTS; ++j) {
    // Back and forth, so that neighbouring products share a fragment of b.
    const int column = i % 2 == 0 ? j : N_FRAGMENTS - 1 - j;
    if constexpr (device_sm >= 80) {
      mma_16x8x16<dtype>(sums[i * N_FRAGMENTS + column], fragments.a[i], fragments.b[column]);
    } else {
      mma_16x8x16_turing(sums[i * N_FRAGMENTS + column], fragments.a[i], fragments.b[column]);
    }
  }
}

// Adds up this block's part of k. The barrier of a k block stands before its last step, when the
// fragments of that step are already in registers: from there on the slot may be overwritten.
__device__ __forceinline__ void accumulate(Accumulators& sums, ALoader& a_loader, BLoader& b_loader,
                                           const FragmentOffsets& offsets, unsigned char* ring,
                                           int k_blocks) {
  constexpr bool a_always_valid = false;
  constexpr bool b_always_valid = n % BN == 0 && k % BK == 0;
  constexpr int COPY_STEPS = maximum(1, K_STEPS - 1);
  const u32 ring_address = shared_address(ring);
  uint4 a_registers[ALoader::PASSES];
  uint4 b_registers[BLoader::PASSES];

  if constexpr (has_async_copy) {
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
      if (stage < k_blocks) {
        const u32 slot = ring_address + stage * STAGE_BYTES;
        a_loader.copy<a_always_valid>(slot, 0, 1);
        b_loader.copy<b_always_valid>(slot + A_BYTES, 0, 1);
        a_loader.advance();
        b_loader.advance();
      }
      copy_async_commit();
    }
    copy_async_wait<STAGES - 2>();
  } else {
    a_loader.fetch(a_registers);
    b_loader.fetch(b_registers);
    a_loader.advance();
    b_loader.advance();
    a_loader.put(ring, a_registers);
    b_loader.put(ring + A_BYTES, b_registers);
  }
  __syncthreads();

  u32 read_offset = 0;
  u32 write_offset = (STAGES - 1) * STAGE_BYTES;
  Fragments fragments[2];
  static_for<M_FRAGMENTS>([&](auto i) { offsets.load(fragments[0], ring_address, 0, i.value); });

#pragma unroll 1
  for (int block = 0; block < k_blocks; ++block) {
    const bool more = block + STAGES - 1 < k_blocks;
    static_for<K_STEPS>([&](auto constant_step) {
      constexpr int step = constant_step.value;
      if constexpr (has_async_copy) {
        if (step < COPY_STEPS && more) {
          a_loader.copy<a_always_valid>(ring_address + write_offset, step, COPY_STEPS);
          b_loader.copy<b_always_valid>(ring_address + write_offset + A_BYTES, step, COPY_STEPS);
        }
        if (step == COPY_STEPS - 1) copy_async_commit();
      } else if (step == 0 && more) {
        a_loader.fetch(a_registers);
        b_loader.fetch(b_registers);
      }
      if (step == K_STEPS - 1) {
        if constexpr (has_async_copy) {
          copy_async_wait<STAGES - 2>();
        } else if (more) {
          a_loader.put(ring + write_offset, a_registers);
          b_loader.put(ring + write_offset + A_BYTES, b_registers);
        }
        __syncthreads();
        a_loader.advance();
        b_loader.advance();
        write_offset = read_offset;
        read_offset = read_offset == (STAGES - 1) * STAGE_BYTES ? 0 : read_offset + STAGE_BYTES;
      }
      // Loads between rows of products rather than in one burst before them: 14 registers fewer and
      // 1 % faster with 64x64 warp tiles on an H200. After the last k block this reads a slot that
      // nobody fills; the values are not used.
      static_for<M_FRAGMENTS>([&](auto i) {
        offsets.load(fragments[(step + 1) % 2], ring_address + read_offset, (step + 1) % K_STEPS,
                     i.value);
        multiply(sums, fragments[step % 2], i.value);
      });
    });
  }
  if constexpr (has_async_copy) copy_async_wait<0>();
  __syncthreads();
}

// Through shared memory, 16 rows of the warp's own staging area at a time, so that global stores are
// 16 bytes and contiguous; bias, activation and conversion on the way out, where a short loop serves
// all elements (unrolled over the sums, a GELU alone takes seconds to compile).
__device__ __forceinline__ void store_tile(const Accumulators& sums, const dtype* bias,
                                           out_dtype* c, int m, int first_row, int first_column,
                                           float* staging) {
  const int lane = lane_index();
  constexpr int WIDTH = 16 / static_cast<int>(sizeof(out_dtype));  // elements in a 16-byte store
  constexpr int ROW_CHUNKS = WARP_N / WIDTH;
  constexpr int ROUNDS = ceil_div(16 * ROW_CHUNKS, 32);
  constexpr int UNROLL = activation == activation_kind::none ? minimum(ROUNDS, 4) : 1;
#pragma unroll
  for (int i = 0; i < M_FRAGMENTS; ++i) {
#pragma unroll
    for (int j = 0; j < N_FRAGMENTS; ++j) {
      const float(&fragment)[4] = sums[i * N_FRAGMENTS + j];
      float* const target = staging + lane / 4 * STAGING_PITCH + j * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(target) = make_float2(fragment[0], fragment[1]);
      *reinterpret_cast<float2*>(target + 8 * STAGING_PITCH) =
          make_float2(fragment[2], fragment[3]);
    }
    __syncwarp();
#pragma unroll UNROLL
    for (int round = 0; round < ROUNDS; ++round) {
      const int index = round * 32 + lane;
      const int row = first_row + i * 16 + index / ROW_CHUNKS;
      const int column = first_column + index % ROW_CHUNKS * WIDTH;
      if (row >= m || column >= n) continue;
      const float* const source =
          staging + index / ROW_CHUNKS * STAGING_PITCH + index % ROW_CHUNKS * WIDTH;
      float values[WIDTH];
#pragma unroll
      for (int quad = 0; quad < WIDTH / 4; ++quad) {
        Vector<f32, 4> four;
        four.load(source + quad * 4);
#pragma unroll
        for (int x = 0; x < 4; ++x) values[quad * 4 + x] = four.get(x);
      }
      if constexpr (has_bias) {
        Vector<dtype, WIDTH> addend;
        addend.load(bias + column);
#pragma unroll
        for (int x = 0; x < WIDTH; ++x) values[x] += addend.get(x);
      }
#pragma unroll
      for (int x = 0; x < WIDTH; ++x) values[x] = activate(activation, values[x]);
      Vector<out_dtype, WIDTH> packed;
      packed.set(values);
      packed.store(c + static_cast<i64>(row) * n + column);
    }
    __syncwarp();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    gemm(const dtype* a, const dtype* b, const dtype* bias, out_dtype* c, float* partials,
         u32* counters, int m) {
  extern __shared__ __align__(128) unsigned char shared_memory[];

  // Blocks go down RASTER tiles of m before they step along n, so that blocks that run at the same
  // time share tiles of both matrices in the L2 cache.
  const int tile = static_cast<int>(blockIdx.x);
  const int tiles_m = ceil_div(m, BM);
  const int group = tile / (RASTER * TILES_N);
  const int group_rows = minimum(tiles_m - group * RASTER, RASTER);
  const int in_group = tile - group * (RASTER * TILES_N);
  const int tile_m = group * RASTER + in_group % group_rows;
  const int tile_n = in_group / group_rows;

  const int warp = warp_index();
  const int warp_m = warp % WARPS_M;
  const int warp_n = warp / WARPS_M;

  Accumulators sums;
#pragma unroll
  for (auto& fragment : sums) {
#pragma unroll
    for (float& sum : fragment) sum = 0.0f;
  }

  if constexpr (k > 0) {
    const int first_block = SPLIT_K == 1 ? 0 : static_cast<int>(blockIdx.y) * SPLIT_K_BLOCKS;
    const int k_blocks = SPLIT_K == 1 ? K_BLOCKS : minimum(SPLIT_K_BLOCKS, K_BLOCKS - first_block);
    if (SPLIT_K == 1 || k_blocks > 0) {
      ALoader a_loader(a, tile_m * BM, m, first_block * BK);
      BLoader b_loader(b, tile_n * BN, n, first_block * BK);
      const FragmentOffsets offsets(warp_m, warp_n);
      accumulate(sums, a_loader, b_loader, offsets, shared_memory, opaque(k_blocks));
    }
  }
  if constexpr (SPLIT_K > 1) {
    if (!combine_parts<SPLIT_K, THREADS>(sums, partials, counters, tile, blockIdx.y)) return;
  }
  store_tile(sums, bias, c, m, tile_m * BM + warp_m * WARP_M, tile_n * BN + warp_n * WARP_N,
             reinterpret_cast<float*>(shared_memory) + warp * (16 * STAGING_PITCH));
}
