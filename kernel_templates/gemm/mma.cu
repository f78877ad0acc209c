// GEMM on the warp-level tensor instruction mma.sync, for sm_75 and later: 16-bit floats, 8-bit floats
// (sm_89 and later), and f32 rounded to tf32 (sm_80 and later), all accumulated in f32.
//
// A block computes a BM x BN tile of c with WARPS_M x WARPS_N warps. Tiles of a and b pass through a
// ring of STAGES slots in shared memory, filled by cp.async or through registers, and swizzled so that
// neither filling nor reading them has bank conflicts. A warp loads the fragments of the next step
// while it multiplies the present ones. With SPLIT_K > 1 as many blocks share a tile, each takes a
// part of k, and the last to finish adds the partial sums in a fixed order, so results do not depend
// on timing.
//
// All types go the same way: a step along k is 32 bytes of it, whatever number of elements that is,
// and fragments are words. Matrices need no alignment: the manifest finds out how many bytes can be
// copied at a time (A_ALIGNMENT, B_ALIGNMENT), from 16 down to one element.
#include "gemm/epilogue.cuh"
#include "ptx/async_copy.cuh"
#include "ptx/mma.cuh"
#include "ptx/split_k.cuh"

// Threads, warp tile (WARP_M x WARP_N), STAGE_BYTES, STAGING_PITCH (floats in a row of the staging
// area of the epilogue), and what is said of alignment and pitch come from the manifest's "let".
constexpr int SIZE = static_cast<int>(sizeof(dtype));
constexpr bool a_is_mk = layout_a == layout_a_kind::mk;
constexpr bool b_is_nk = layout_b == layout_b_kind::nk;
constexpr int STEP_K = 32 / SIZE;
constexpr int K_STEPS = BK / STEP_K;
constexpr int K_BLOCKS = ceil_div(k, BK);
constexpr int SPLIT_K_BLOCKS = ceil_div(K_BLOCKS, SPLIT_K);
constexpr int TILES_N = ceil_div(n, BN);
constexpr int M_FRAGMENTS = WARP_M / 16;
constexpr int N_FRAGMENTS = WARP_N / 8;
constexpr bool BLOCK_SCALED = scaling == scaling_kind::block && (has_scale_a || has_scale_b);
constexpr int A_BYTES = BM * BK * SIZE;
// The copies of a k block are spread over its steps but the last, before which the barrier stands.
static_assert(COPY_STEPS == K_STEPS - 1 && COPY_STEPS >= 1, "64 bytes of k at least");

// ---- Tiles in shared memory

// How fragments are read from a tile.
enum class Reading {
  rows,     // k runs along the tile's rows: ldmatrix, rows r to r + 7 at once
  columns,  // m or n does, in 16 bits: ldmatrix that transposes, rows r to r + 7 at once
  byte_pairs,  // in 8 bits: the same, which moves pairs of bytes; rows r, r+1, r+4, r+5, r+8, … at once
  words,  // in 32 bits: plain loads, two chunks of rows r to r + 3 at once
};

// One operand's tile: OUTER rows or columns, of m or n, by BK of k. Its rows are cut into 16-byte
// chunks, and chunk i of a row lies where chunk i ^ key(row) would.
template <typename ELEMENT, int OUTER_EXTENT, bool K_ALONG_ROWS, int BYTES_ALIGNED>
struct Tile {
  using Element = ELEMENT;
  static constexpr int OUTER = OUTER_EXTENT;
  static constexpr bool K_CONTIGUOUS = K_ALONG_ROWS;
  static constexpr int ALIGNMENT = BYTES_ALIGNED;  // of rows in global memory
  static constexpr int ROWS = K_CONTIGUOUS ? OUTER : BK;
  static constexpr int ROW_BYTES = (K_CONTIGUOUS ? BK : OUTER) * SIZE;
  static constexpr bool EIGHT_CHUNKS = ROW_BYTES % 128 == 0;
  static constexpr Reading READING = K_CONTIGUOUS ? Reading::rows
                                     : SIZE == 1  ? Reading::byte_pairs
                                     : SIZE == 2  ? Reading::columns
                                                  : Reading::words;
  static_assert(ROW_BYTES % 64 == 0, "rows of a tile are multiples of 64 bytes");

  // Spreads the rows that are read at once, and the chunks that are written at once, over all banks.
  // 128 bytes of banks hold a row's 8 chunks, or 4 chunks of two rows, where the row's parity does
  // part of it. Made of bits of `row` only, so key(x + y) is key(x) ^ key(y) if x and y share no bit.
  static __device__ __forceinline__ constexpr int key(int row) {
    if (READING == Reading::byte_pairs)
      return EIGHT_CHUNKS ? (row >> 1 & 6) | (row & 1) : row >> 2 & 3;
    if (READING == Reading::words) return EIGHT_CHUNKS ? row << 1 & 6 : row & 2;
    return EIGHT_CHUNKS ? row & 7 : row >> 1 & 3;
  }
  static __device__ __forceinline__ u32 chunk_offset(int row, int chunk) {
    return row * ROW_BYTES + (chunk ^ key(row)) * 16;
  }
  // The offset of a chunk `chunks` further in the same row, if that addition carries into no higher
  // bit: an XOR of the bits that key() may have changed.
  static __device__ __forceinline__ u32 chunks_on(u32 offset, int chunks) {
    constexpr int KEYED = EIGHT_CHUNKS ? 7 : 3;
    return (offset ^ (chunks & KEYED) * 16) + (chunks & ~KEYED) * 16;
  }
};

using ATile = Tile<dtype, BM, a_is_mk, A_ALIGNMENT>;
using BTile = Tile<b_dtype, BN, b_is_nk, B_ALIGNMENT>;

// ---- From global to shared memory

// One thread's share of copying a tile: the same column of every ROWS_PER_PASS-th row, VECTOR bytes at
// a time, so that source and destination advance by constants.
template <typename TILE>
struct TileLoader {
  using Element = typename TILE::Element;
  static constexpr bool K_CONTIGUOUS = TILE::K_CONTIGUOUS;
  // Single elements go through registers, where they are put together to words.
  static constexpr bool ASYNC = device_sm >= 80 && TILE::ALIGNMENT >= 4;
  static constexpr int VECTOR = maximum(4, TILE::ALIGNMENT);
  static constexpr int ELEMENTS = VECTOR / SIZE;
  static constexpr int ROW_VECTORS = TILE::ROW_BYTES / VECTOR;
  static constexpr int ROWS_PER_PASS = THREADS / ROW_VECTORS;
  static constexpr int PASSES = ceil_div(TILE::ROWS, ROWS_PER_PASS);
  static_assert(is_pow2(ROWS_PER_PASS) || ROWS_PER_PASS % 16 == 0, "see offset()");
  static_assert(PASSES <= 32, "one bit a pass");
  // Whether a vector can straddle the edge of the matrix. The width of a's rows as [k, m] is not known.
  static constexpr bool PARTIAL =
      K_CONTIGUOUS ? k % ELEMENTS != 0 : same_type<TILE, ATile> || n % ELEMENTS != 0;

  // What a pass holds on its way through registers.
  static constexpr int PIECES = VECTOR / minimum(VECTOR, TILE::ALIGNMENT);
  using Piece = Vector<Element, ELEMENTS / PIECES>;
  struct Held {
    Piece pieces[PIECES];
  };
  // All passes at once, or, where the pieces are many, as many groups as there are steps to fetch in.
  static constexpr int GROUPS = PIECES == 1 ? 1 : COPY_STEPS;
  static constexpr int GROUP_PASSES = ceil_div(PASSES, GROUPS);
  // Narrow copies are many, so it pays to have them a second time without a look at the edges.
  static constexpr bool SPLIT_PATHS = !ASYNC || VECTOR < 16;
  // And at the edge a row that does not exist is replaced by the last, which takes no predicates.
  static constexpr bool CLAMPED = SPLIT_PATHS && K_CONTIGUOUS;

  const Element* source;
  i64 pitch;        // elements from one row of the matrix to the next
  u32 destination;  // byte offset in the tile
  int column;       // of the tile, and row, where this thread begins
  int row;
  int outer_left;  // rows or columns of m or n, and of k, from the tile's first on: the tile's extent
  int k_left;      // at least where it does not lie at the edge
  u32 row_exists;  // K_CONTIGUOUS: one bit a pass
  Held held[GROUP_PASSES];

  __device__ __forceinline__ TileLoader(const Element* matrix, i64 row_pitch, int first_outer,
                                        int outer_size, int first_k)
      : pitch(row_pitch), outer_left(outer_size - first_outer), k_left(k - first_k) {
    const int thread = static_cast<int>(threadIdx.x);
    const int byte = thread % ROW_VECTORS * VECTOR;
    row = thread / ROW_VECTORS;
    column = byte / SIZE;
    destination = TILE::chunk_offset(row, byte / 16) + byte % 16;
    source = matrix + column +
             (K_CONTIGUOUS ? first_k + (first_outer + row) * pitch
                           : first_outer + (first_k + row) * pitch);
    row_exists = 0;
#pragma unroll
    for (int pass = 0; K_CONTIGUOUS && !CLAMPED && pass < PASSES; ++pass) {
      row_exists |= static_cast<u32>(row + pass * ROWS_PER_PASS < outer_left) << pass;
    }
  }

  __device__ __forceinline__ void advance() {
    k_left -= BK;
    source += K_CONTIGUOUS ? BK : BK * pitch;
  }
  // Whether the whole tile lies inside the matrix: the same for all threads.
  __device__ __forceinline__ bool is_inside() const {
    return outer_left >= TILE::OUTER && (k % BK == 0 || k_left >= BK);
  }
  // Whether this thread has a row in this pass at all: not when the block is larger than the tile.
  __device__ __forceinline__ bool takes_part(int pass) const {
    if constexpr (TILE::ROWS % ROWS_PER_PASS == 0) return true;
    return row + pass * ROWS_PER_PASS < TILE::ROWS;
  }
  // Whether the vector of this pass, from element `from` on, begins inside the matrix. What lies behind
  // the end of k must be zero; of m or n it only must not be read, since no sum of it is stored.
  __device__ __forceinline__ bool valid(int pass, int from = 0) const {
    if constexpr (K_CONTIGUOUS) {
      return (CLAMPED || (row_exists >> pass & 1)) && (k % BK == 0 || column + from < k_left);
    } else {
      return column + from < outer_left && (k % BK == 0 || row + pass * ROWS_PER_PASS < k_left);
    }
  }
  __device__ __forceinline__ int valid_bytes(int pass) const {
    if (!valid(pass)) return 0;
    return minimum((K_CONTIGUOUS ? k_left : outer_left) - column, ELEMENTS) * SIZE;
  }
  // `last_row` comes from last_existing_row() in the same step.
  template <bool INSIDE>
  __device__ __forceinline__ const Element* address(int pass, int last_row) const {
    const int rows_on = pass * ROWS_PER_PASS;
    return source + (CLAMPED && !INSIDE ? minimum(rows_on, last_row) : rows_on) * pitch;
  }
  // Opaque, or the compiler computes the addresses of all passes before the loop and spills them.
  __device__ __forceinline__ int last_existing_row() const { return opaque(outer_left - 1 - row); }
  __device__ __forceinline__ u32 offset(int pass) const {
    return (destination ^ TILE::key(pass * ROWS_PER_PASS) * 16) +
           pass * ROWS_PER_PASS * TILE::ROW_BYTES;
  }

  // Does what step `step` of a k block has to do to fill the tile at `offset` of the ring.
  template <bool INSIDE>
  __device__ __forceinline__ void fill(unsigned char* ring, u32 offset, int step) {
    if constexpr (ASYNC) {
      if (step < COPY_STEPS) copy<INSIDE>(shared_address(ring) + offset, step, COPY_STEPS);
    } else {
      const int last_group = step == K_STEPS - 1 ? GROUPS - 1 : step - 1;
      if (last_group >= 0 && (GROUPS > 1 || step == K_STEPS - 1)) put(ring + offset, last_group);
      if (step < GROUPS) fetch<INSIDE>(step);
    }
  }
  // The same, and the whole tile at once, for tiles that are known to lie inside the matrix and others.
  template <bool INSIDE>
  __device__ __forceinline__ void fill_step(unsigned char* ring, u32 offset, int step) {
    if (SPLIT_PATHS && !INSIDE && is_inside()) {
      fill<true>(ring, offset, step);
    } else {
      fill<INSIDE>(ring, offset, step);
    }
  }
  __device__ __forceinline__ void fill_all(unsigned char* ring, u32 offset) {
    if constexpr (ASYNC) {
      copy<false>(shared_address(ring) + offset, 0, 1);
    } else {
#pragma unroll
      for (int group = 0; group < GROUPS; ++group) {
        fetch<false>(group);
        put(ring + offset, group);
      }
    }
  }

  // Starts the copies of the passes that belong to step `step` of `steps`.
  template <bool INSIDE>
  __device__ __forceinline__ void copy(u32 tile, int step, int steps) const {
    const int per_step = ceil_div(PASSES, steps);
    const int last_row = CLAMPED && !INSIDE ? last_existing_row() : 0;
#pragma unroll
    for (int pass = 0; pass < PASSES; ++pass) {
      if (pass / per_step != step || !takes_part(pass)) continue;
      if constexpr (PARTIAL && !INSIDE) {
        copy_async_part<VECTOR>(tile + offset(pass), address<INSIDE>(pass, last_row),
                                valid_bytes(pass));
      } else {
        copy_async<VECTOR>(tile + offset(pass), address<INSIDE>(pass, last_row),
                           INSIDE || valid(pass));
      }
    }
  }

  // Global memory to registers, and registers to shared memory.
  template <bool INSIDE>
  __device__ __forceinline__ void fetch(int group) {
    const int last_row = CLAMPED && !INSIDE ? last_existing_row() : 0;
#pragma unroll
    for (int i = 0; i < GROUP_PASSES; ++i) {
      const int pass = group * GROUP_PASSES + i;
      if (pass >= PASSES) break;
      const Element* const from = address<INSIDE>(pass, last_row);
#pragma unroll
      for (int piece = 0; piece < PIECES; ++piece) {
        const int first = piece * (ELEMENTS / PIECES);
        held[i].pieces[piece].clear();
        if (!takes_part(pass) || !(INSIDE || valid(pass, first))) continue;
        if constexpr (PARTIAL && !INSIDE && Piece::BYTES > SIZE) {
          const int left = (K_CONTIGUOUS ? k_left : outer_left) - (column + first);
          if (left < Piece::BYTES / SIZE) {
            held[i].pieces[piece].load_part(from + first, left);
            continue;
          }
        }
        held[i].pieces[piece].load(from + first);
      }
    }
  }
  __device__ __forceinline__ void put(unsigned char* tile, int group) const {
#pragma unroll
    for (int i = 0; i < GROUP_PASSES; ++i) {
      const int pass = group * GROUP_PASSES + i;
      if (pass >= PASSES || !takes_part(pass)) continue;
      const auto target = reinterpret_cast<Element*>(tile + offset(pass));
      if constexpr (PIECES == 1) {
        held[i].pieces[0].store(target);
      } else {
        Vector<Element, ELEMENTS> joined;
        joined.words[0] = 0;
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) {
          joined.words[0] |= held[i].pieces[piece].words[0] << piece * Piece::BYTES * 8;
        }
        joined.store(target);
      }
    }
  }
};

using ALoader = TileLoader<ATile>;
using BLoader = TileLoader<BTile>;
constexpr bool any_async = ALoader::ASYNC || BLoader::ASYNC;

// ---- From shared memory to fragments

// Reads one operand's fragments for a warp, 16 of m or n by a step of k at a time: four words, one for
// each half of both. The instruction wants the registers of a fragment side by side: of a that is all
// four, the halves of m first (K_FIRST false), of b the halves of k, and then the other 8 of n.
template <typename TILE, int WARP_EXTENT, bool K_FIRST>
struct FragmentReader {
  static constexpr int WARP_CHUNKS = WARP_EXTENT * SIZE / 16;
  static constexpr int STEP_BYTES = STEP_K * TILE::ROW_BYTES;  // if k runs down the tile's rows
  static_assert(TILE::K_CONTIGUOUS || is_pow2(WARP_CHUNKS), "see chunks_on()");
  u32 offset;  // in a slot of the ring, of what this lane reads or gives to ldmatrix

  // Which half of k, and of m or n, word `word` is for.
  static __device__ __forceinline__ constexpr int k_half(int word) {
    return K_FIRST ? word % 2 : word / 2;
  }
  static __device__ __forceinline__ constexpr int outer_half(int word) {
    return K_FIRST ? word / 2 : word % 2;
  }

  __device__ __forceinline__ FragmentReader(u32 tile_offset, int warp) {
    const int lane = lane_index();
    const int matrix = lane / 8;  // of the four that ldmatrix loads: this lane gives it a row
    const int row = lane % 8;
    const int warp_chunk = warp * WARP_CHUNKS;
    offset = tile_offset;
    if constexpr (TILE::READING == Reading::rows) {
      offset +=
          TILE::chunk_offset(warp * WARP_EXTENT + row + 8 * outer_half(matrix), k_half(matrix));
    } else if constexpr (TILE::READING == Reading::columns) {
      offset += TILE::chunk_offset(row + 8 * k_half(matrix), warp_chunk + outer_half(matrix));
    } else if constexpr (TILE::READING == Reading::byte_pairs) {
      // Matrices 0 and 1 are for the lower half of k; see finish().
      const int tile_row = matrix / 2 * 16 + row / 2 * 4 + matrix % 2 * 2 + row % 2;
      offset += TILE::chunk_offset(tile_row, warp_chunk);
    } else {
      offset += TILE::chunk_offset(lane % 4, warp_chunk + lane / 16) + lane / 4 % 4 * 4;
    }
  }

  // The words for step `step` of the k block in `slot`, and 16 · index of m or n.
  __device__ __forceinline__ void load(u32 (&words)[4], u32 slot, int step, int index) const {
    if constexpr (TILE::READING == Reading::rows) {
      // In a swizzled row two chunks further are an XOR, since a lane starts at chunk 0 or 1. (The
      // offset of the tile is a multiple of a row, so it is not hit.)
      load_matrix_x4(words, slot + (offset ^ step * 32) + index * (16 * TILE::ROW_BYTES));
    } else if constexpr (TILE::READING == Reading::words) {
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const u32 column = TILE::chunks_on(offset, 4 * index + 2 * outer_half(word));
        words[word] =
            load_shared_word(slot + column + step * STEP_BYTES + k_half(word) * (STEP_BYTES / 2));
      }
    } else {
      constexpr int CHUNKS = SIZE;  // of 16 elements
      load_matrix_transposed_x4(words,
                                slot + TILE::chunks_on(offset, CHUNKS * index) + step * STEP_BYTES);
    }
  }

  // What is left to do when the words have arrived.
  static __device__ __forceinline__ void finish(u32 (&words)[4]) {
    if constexpr (SIZE == 4) {
#pragma unroll
      for (u32& word : words) word = round_to_tf32(word);
    }
    if constexpr (TILE::READING == Reading::byte_pairs) {
      // What has arrived are, for each half of k, two words of pairs of neighbours in m or n: for k
      // and k + 1 the first, for k + 2 and k + 3 the second. So the halves of m or n are the even and
      // the odd ones here.
      const u32 pairs[4] = {words[0], words[1], words[2], words[3]};
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const u32 low = pairs[2 * k_half(word)];
        const u32 high = pairs[2 * k_half(word) + 1];
        words[word] = outer_half(word) == 0 ? even_bytes(low, high) : odd_bytes(low, high);
      }
    }
  }

  // Where the lower (0) and upper (1) half of an index below 16 really are.
  static __device__ __forceinline__ int place(int half, int index) {
    return TILE::READING == Reading::byte_pairs ? 2 * index + half : 8 * half + index;
  }
};

using AReader = FragmentReader<ATile, WARP_M, false>;
using BReader = FragmentReader<BTile, WARP_N, true>;

// The fragments of one warp for one step of k.
struct Fragments {
  u32 a[M_FRAGMENTS][4];
  u32 b[N_FRAGMENTS / 2][4];

  // Fragment row i of a, and its share of the fragments of b.
  __device__ __forceinline__ void load(const AReader& a_reader, const BReader& b_reader, u32 slot,
                                       int step, int i) {
    a_reader.load(a[i], slot, step, i);
#pragma unroll
    for (int pair = 0; pair < N_FRAGMENTS / 2; ++pair) {
      if (pair % M_FRAGMENTS == i) b_reader.load(b[pair], slot, step, pair);
    }
  }
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (auto& words : a) AReader::finish(words);
#pragma unroll
    for (auto& words : b) BReader::finish(words);
  }
};

// Four sums of every 16x8 fragment of the warp's tile, at [row of fragments * N_FRAGMENTS + column].
using Accumulators = float[M_FRAGMENTS * N_FRAGMENTS][4];

__device__ __forceinline__ void clear(Accumulators& sums) {
#pragma unroll
  for (auto& fragment : sums) {
#pragma unroll
    for (float& sum : fragment) sum = 0.0f;
  }
}

// Fragment row i of the warp's tile.
__device__ __forceinline__ void multiply(Accumulators& sums, const Fragments& fragments, int i) {
#pragma unroll
  for (int j = 0; j < N_FRAGMENTS; ++j) {
    // Back and forth, so that neighbouring products share a fragment of b.
    const int column = i % 2 == 0 ? j : N_FRAGMENTS - 1 - j;
    float(&sum)[4] = sums[i * N_FRAGMENTS + column];
    const u32(&a)[4] = fragments.a[i];
    const u32(&two)[4] = fragments.b[column / 2];
    const u32 b[2] = {two[column % 2 * 2], two[column % 2 * 2 + 1]};
    if constexpr (SIZE == 4) {
      mma_16x8x8_tf32(sum, a, b);
    } else if constexpr (SIZE == 1 && (device_sm == 89 || device_sm >= 120)) {
      mma_16x8x32<dtype, b_dtype>(sum, a, b);
    } else if constexpr (SIZE == 1) {
      mma_16x8x32_as_f16<dtype, b_dtype>(sum, a, b);
    } else if constexpr (device_sm >= 80) {
      mma_16x8x16<dtype>(sum, a, b);
    } else {
      mma_16x8x16_turing(sum, a, b);
    }
  }
}

// The factors of scaling 'block': one for each row of a and 128 of k, and one for each 128 columns of b
// and 128 of k, of which a warp has one.
struct BlockScales {
  static constexpr int GROUP_BLOCKS = maximum(1, 128 / BK);  // k blocks of a group of 128
  const float* a;                                            // of the warp's first row
  const float* b;
  i64 row_stride_a;
  int rows_left;  // from the warp's first row on
  float a_factors[M_FRAGMENTS][2];
  float b_factor;

  __device__ __forceinline__ static bool ends_group(int block) {
    return block % GROUP_BLOCKS == GROUP_BLOCKS - 1;
  }
  __device__ __forceinline__ void load(int block) {
    const int group = block / GROUP_BLOCKS;
    b_factor = has_scale_b ? b[group] : 1.0f;
#pragma unroll
    for (int i = 0; i < M_FRAGMENTS; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // A row that does not exist takes the factor of the last.
        const int row = i * 16 + AReader::place(half, lane_index() / 4);
        a_factors[i][half] =
            has_scale_a ? a[minimum(row, rows_left - 1) * row_stride_a + group] : 1.0f;
      }
    }
  }
  // Adds the scaled sums of a group to the total, and clears them.
  __device__ __forceinline__ void add(Accumulators& total, Accumulators& sums) const {
#pragma unroll
    for (int i = 0; i < M_FRAGMENTS; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float factor = a_factors[i][half] * b_factor;
#pragma unroll
        for (int j = 0; j < N_FRAGMENTS; ++j) {
          float(&from)[4] = sums[i * N_FRAGMENTS + j];
          float(&to)[4] = total[i * N_FRAGMENTS + j];
          to[2 * half] = fmaf(from[2 * half], factor, to[2 * half]);
          to[2 * half + 1] = fmaf(from[2 * half + 1], factor, to[2 * half + 1]);
          from[2 * half] = from[2 * half + 1] = 0.0f;
        }
      }
    }
  }
};

// Adds up this block's part of k. The barrier of a k block stands before its last step, when the
// fragments of that step are already in registers: from there on the slot may be overwritten.
__device__ __forceinline__ void accumulate(Accumulators& sums, ALoader& a_loader, BLoader& b_loader,
                                           const AReader& a_reader, const BReader& b_reader,
                                           BlockScales scales, unsigned char* ring, int first_block,
                                           int k_blocks) {
  constexpr bool a_inside = false;
  constexpr bool b_inside = n % BN == 0 && k % BK == 0;
  const u32 ring_address = shared_address(ring);

#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) {
    if (stage < k_blocks) {
      a_loader.fill_all(ring, stage * STAGE_BYTES);
      b_loader.fill_all(ring, stage * STAGE_BYTES + A_BYTES);
      a_loader.advance();
      b_loader.advance();
    }
    if constexpr (any_async) copy_async_commit();
  }
  if constexpr (any_async) copy_async_wait<STAGES - 2>();
  __syncthreads();

  u32 read_offset = 0;
  u32 write_offset = (STAGES - 1) * STAGE_BYTES;
  Fragments fragments[2];
  Accumulators group_sums;
  if constexpr (BLOCK_SCALED) clear(group_sums);
  static_for<M_FRAGMENTS>(
      [&](auto i) { fragments[0].load(a_reader, b_reader, ring_address, 0, i.value); });

#pragma unroll 1
  for (int block = 0; block < k_blocks; ++block) {
    const bool more = block + STAGES - 1 < k_blocks;
    bool ends_group = false;
    if constexpr (BLOCK_SCALED) {
      ends_group = BlockScales::ends_group(first_block + block) || block + 1 == k_blocks;
      if (ends_group) scales.load(first_block + block);
    }
    static_for<K_STEPS>([&](auto constant_step) {
      constexpr int step = constant_step.value;
      if (more) {
        a_loader.fill_step<a_inside>(ring, write_offset, step);
        b_loader.fill_step<b_inside>(ring, write_offset + A_BYTES, step);
      }
      if constexpr (any_async && step == COPY_STEPS - 1) copy_async_commit();
      if (step == K_STEPS - 1) {
        if constexpr (any_async) copy_async_wait<STAGES - 2>();
        __syncthreads();
        a_loader.advance();
        b_loader.advance();
        write_offset = read_offset;
        read_offset = read_offset == (STAGES - 1) * STAGE_BYTES ? 0 : read_offset + STAGE_BYTES;
      }
      fragments[step % 2].finish();
      // Loads between rows of products rather than in one burst before them: 14 registers fewer and
      // 1 % faster with 64x64 warp tiles on an H200. After the last k block this reads a slot that
      // nobody fills; the values are not used.
      static_for<M_FRAGMENTS>([&](auto i) {
        fragments[(step + 1) % 2].load(a_reader, b_reader, ring_address + read_offset,
                                       (step + 1) % K_STEPS, i.value);
        multiply(BLOCK_SCALED ? group_sums : sums, fragments[step % 2], i.value);
      });
    });
    if constexpr (BLOCK_SCALED) {
      if (ends_group) scales.add(sums, group_sums);
    }
  }
  if constexpr (any_async) copy_async_wait<0>();
  __syncthreads();
}

// ---- From sums to c

// Through shared memory, 16 rows of the warp's own staging area at a time, so that global stores are
// up to 16 bytes and contiguous; all else on the way out, where a short loop serves all elements
// (unrolled over the sums, a GELU alone takes seconds to compile).
__device__ __forceinline__ void store_tile(const Accumulators& sums, const Epilogue& epilogue,
                                           out_dtype* c, i64 pitch, int m, int first_row,
                                           int first_column, float* staging) {
  const int lane = lane_index();
  constexpr int WIDTH = C_ALIGNMENT / static_cast<int>(sizeof(out_dtype));  // elements of a store
  constexpr int ROW_VECTORS = WARP_N / WIDTH;
  constexpr int ROUNDS = ceil_div(16 * ROW_VECTORS, 32);
  constexpr int UNROLL = activation == activation_kind::none ? minimum(ROUNDS, 4) : 1;
#pragma unroll
  for (int i = 0; i < M_FRAGMENTS; ++i) {
#pragma unroll
    for (int pair = 0; pair < N_FRAGMENTS / 2; ++pair) {
      const float(&low)[4] = sums[i * N_FRAGMENTS + 2 * pair];
      const float(&high)[4] = sums[i * N_FRAGMENTS + 2 * pair + 1];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* const target = staging + AReader::place(half, lane / 4) * STAGING_PITCH + pair * 16;
        const int x = 2 * half;
        if constexpr (BTile::READING == Reading::byte_pairs) {
          *reinterpret_cast<float4*>(target + lane % 4 * 4) =
              make_float4(low[x], high[x], low[x + 1], high[x + 1]);
        } else {
          *reinterpret_cast<float2*>(target + lane % 4 * 2) = make_float2(low[x], low[x + 1]);
          *reinterpret_cast<float2*>(target + 8 + lane % 4 * 2) = make_float2(high[x], high[x + 1]);
        }
      }
    }
    __syncwarp();
#pragma unroll UNROLL
    for (int round = 0; round < ROUNDS; ++round) {
      const int index = round * 32 + lane;
      const int row = first_row + i * 16 + index / ROW_VECTORS;
      const int column = first_column + index % ROW_VECTORS * WIDTH;
      if (row >= m || column >= n) continue;
      float values[WIDTH];
      load_as_f32<true>(
          values, staging + index / ROW_VECTORS * STAGING_PITCH + index % ROW_VECTORS * WIDTH);
      epilogue.apply<true>(values, row, column);
      Vector<out_dtype, WIDTH> packed;
      packed.set(values);
      packed.store(c + row * pitch + column);
    }
    __syncwarp();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    gemm(const dtype* a, const b_dtype* b, const bias_dtype* bias, const float* scale_a,
         const float* scale_b, const out_dtype* residual, out_dtype* c, float* partials,
         u32* counters, int m, i64 row_stride_a, i64 batch_stride_a, i64 row_stride_b,
         i64 batch_stride_b, i64 row_stride_scale_a, i64 batch_stride_scale_a,
         i64 row_stride_scale_b, i64 batch_stride_scale_b, i64 row_stride_residual,
         i64 batch_stride_residual, i64 row_stride_c, i64 batch_stride_c) {
  extern __shared__ __align__(128) unsigned char shared_memory[];

  // Blocks go down RASTER tiles of m before they step along n, so that blocks that run at the same
  // time share tiles of both matrices in the L2 cache.
  const int tiles_m = ceil_div(m, BM);
  int tile = static_cast<int>(blockIdx.x);
  if constexpr (BATCHED) {
    const int batch_index = tile / (tiles_m * TILES_N);
    tile -= batch_index * (tiles_m * TILES_N);
    a += batch_index * batch_stride_a;
    b += batch_index * batch_stride_b;
    if constexpr (BLOCK_SCALED) {
      scale_a += batch_index * batch_stride_scale_a;
      scale_b += batch_index * batch_stride_scale_b;
    }
    residual += batch_index * batch_stride_residual;
    c += batch_index * batch_stride_c;
  }
  const int group = tile / (RASTER * TILES_N);
  const int group_rows = minimum(tiles_m - group * RASTER, RASTER);
  const int in_group = tile - group * (RASTER * TILES_N);
  const int tile_m = group * RASTER + in_group % group_rows;
  const int tile_n = in_group / group_rows;

  const int warp = warp_index();
  const int warp_m = warp % WARPS_M;
  const int warp_n = warp / WARPS_M;

  const PartTicket<SPLIT_K, WholeBlock<THREADS>> ticket(counters, static_cast<int>(blockIdx.x));
  Accumulators sums;
  clear(sums);
  if constexpr (k > 0) {
    const int first_block = SPLIT_K == 1 ? 0 : static_cast<int>(blockIdx.y) * SPLIT_K_BLOCKS;
    const int k_blocks = SPLIT_K == 1 ? K_BLOCKS : minimum(SPLIT_K_BLOCKS, K_BLOCKS - first_block);
    if (SPLIT_K == 1 || k_blocks > 0) {
      // Where rows lie side by side their pitch is a constant, which saves the additions of a copy.
      ALoader a_loader(a, A_PITCH > 0 ? A_PITCH : row_stride_a, tile_m * BM, m, first_block * BK);
      BLoader b_loader(b, B_PITCH > 0 ? B_PITCH : row_stride_b, tile_n * BN, n, first_block * BK);
      const AReader a_reader(0, warp_m);
      const BReader b_reader(A_BYTES, warp_n);
      BlockScales scales;
      if constexpr (BLOCK_SCALED) {
        const int first_row = tile_m * BM + warp_m * WARP_M;
        const int first_column = tile_n * BN + warp_n * WARP_N;
        static_assert(!BLOCK_SCALED || 128 % WARP_N == 0, "a warp has one factor of b");
        scales.a = scale_a + first_row * row_stride_scale_a;
        scales.b = scale_b + minimum(first_column, n - 1) / 128 * row_stride_scale_b;
        scales.row_stride_a = row_stride_scale_a;
        scales.rows_left = m - first_row;
      }
      accumulate(sums, a_loader, b_loader, a_reader, b_reader, scales, shared_memory, first_block,
                 opaque(k_blocks));
    }
  }
  if constexpr (SPLIT_K > 1) {
    if (!combine_parts(sums, partials, ticket, blockIdx.x, blockIdx.y)) return;
  }
  const Epilogue epilogue(bias, residual, C_PITCH > 0 ? C_PITCH : row_stride_residual, scale_a,
                          scale_b);
  store_tile(sums, epilogue, c, C_PITCH > 0 ? C_PITCH : row_stride_c, m,
             tile_m * BM + warp_m * WARP_M, tile_n * BN + warp_n * WARP_N,
             reinterpret_cast<float*>(shared_memory) + warp * (16 * STAGING_PITCH));
}
