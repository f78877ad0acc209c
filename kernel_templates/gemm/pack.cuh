// Copies of operands as the copy engine can read them: rows along k that start at multiples of 16
// bytes; of 128 in fact (PITCH elements, from the manifest), so that a row of a box is one line of the L2
// cache. For operands whose rows do not, and for those of 8 and 32 bits that are stored the other way,
// which wgmma cannot read.
#pragma once

namespace pack {

constexpr int THREADS = 256;

// Where an operand is and where its copy goes; strides in elements.
template <typename T>
struct Operand {
  const T* source;
  i64 row_stride, batch_stride;
  T* packed;  // [batches, rows, PITCH]
  int rows;   // Of m or n.
  int batches;
};

// 16 bytes from an address that is a multiple of an element only. Reads the 16-byte blocks that hold
// them, whole.
__device__ __forceinline__ uint4 load_16_unaligned(const void* address) {
  const auto bytes = reinterpret_cast<u64>(address);
  const int shift = static_cast<int>(bytes & 15);
  const auto* const blocks = reinterpret_cast<const uint4*>(bytes - shift);
  const uint4 first = blocks[0];
  if (shift == 0) return first;
  const uint4 second = blocks[1];
  u32 words[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
  if (shift & 8) {
#pragma unroll
    for (int i = 0; i < 6; ++i) words[i] = words[i + 2];
  }
  if (shift & 4) {
#pragma unroll
    for (int i = 0; i < 5; ++i) words[i] = words[i + 1];
  }
  const int bits = shift % 4 * 8;
  return make_uint4(
      __funnelshift_r(words[0], words[1], bits), __funnelshift_r(words[1], words[2], bits),
      __funnelshift_r(words[2], words[3], bits), __funnelshift_r(words[3], words[4], bits));
}

// Rows along k in the source too. A thread writes 16 bytes at a time; what it writes beyond k is never
// read.
template <typename T>
__device__ __forceinline__ void copy_rows(const Operand<T>& operand) {
  constexpr int CHUNK = per_16_bytes<T>;
  constexpr int CHUNKS = ceil_div(k, CHUNK);
  const i64 total = static_cast<i64>(operand.rows) * CHUNKS * operand.batches;
  const i64 step = static_cast<i64>(gridDim.x) * THREADS;
  for (i64 i = static_cast<i64>(blockIdx.x) * THREADS + threadIdx.x; i < total; i += step) {
    const i64 row_of_all = i / CHUNKS;
    const int at = static_cast<int>(i - row_of_all * CHUNKS) * CHUNK;
    const i64 batch = row_of_all / operand.rows;
    const int row = static_cast<int>(row_of_all - batch * operand.rows);
    const T* const source =
        operand.source + batch * operand.batch_stride + row * operand.row_stride + at;
    T* const packed = operand.packed + row_of_all * PITCH + at;
    // Blocks that reach out of the first or the last row may reach out of the tensor.
    if (row > 0 && row + 1 < operand.rows && at + CHUNK <= k) {
      store_16(packed, load_16_unaligned(source));
    } else {
      for (int j = 0; j < CHUNK && at + j < k; ++j) packed[j] = source[j];
    }
  }
}

// Rows along m or n in the source: 32 by 32 elements at a time are transposed in shared memory.
template <typename T>
__device__ __forceinline__ void transpose(const Operand<T>& operand, T (&tile)[32][33]) {
  constexpr int K_TILES = ceil_div(k, 32);
  const int x = static_cast<int>(threadIdx.x) % 32;
  const int first_y = static_cast<int>(threadIdx.x) / 32;
  const i64 tiles = static_cast<i64>(ceil_div(operand.rows, 32)) * K_TILES * operand.batches;
  for (i64 i = blockIdx.x; i < tiles; i += gridDim.x) {
    const i64 row_tile_of_all = i / K_TILES;
    const int first_k = static_cast<int>(i - row_tile_of_all * K_TILES) * 32;
    const i64 batch = row_tile_of_all / ceil_div(operand.rows, 32);
    const int first_row =
        static_cast<int>(row_tile_of_all - batch * ceil_div(operand.rows, 32)) * 32;
    __syncthreads();
    for (int y = first_y; y < 32; y += THREADS / 32) {
      if (first_k + y < k && first_row + x < operand.rows) {
        tile[y][x] = operand.source[batch * operand.batch_stride +
                                    (first_k + y) * operand.row_stride + first_row + x];
      }
    }
    __syncthreads();
    for (int y = first_y; y < 32; y += THREADS / 32) {
      if (first_row + y < operand.rows && first_k + x < k) {
        operand.packed[(batch * operand.rows + first_row + y) * PITCH + first_k + x] = tile[x][y];
      }
    }
  }
}

template <bool TRANSPOSED, typename T>
__device__ __forceinline__ void run(const Operand<T>& operand) {
  if constexpr (TRANSPOSED) {
    __shared__ T tile[32][33];
    transpose(operand, tile);
  } else {
    copy_rows(operand);
  }
}

}  // namespace pack
