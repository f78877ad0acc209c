// RMS normalisation with THREADS threads a row: every element is read once and kept in registers
// between the two passes (rows too long for that are read again, mostly from the L2 cache).
//
// A block has ROWS_PER_BLOCK rows at a time. With BLOCKS_PER_SM = 0 the grid covers all rows once;
// otherwise that many blocks stay on each multiprocessor and walk over the rows, fetching the next
// row before they reduce the present one, so that memory never waits for a barrier.
#include "ptx/math.cuh"

constexpr int CHUNKS = columns / VECTOR;
constexpr int CHUNKS_PER_THREAD = maximum(1, ceil_div(CHUNKS, THREADS));
constexpr int WARPS_PER_ROW = ceil_div(THREADS, 32);
constexpr bool persistent = BLOCKS_PER_SM > 0;
constexpr int HELD_CHUNKS = KEEPS_ROW ? CHUNKS_PER_THREAD : 1;
using Chunk = Vector<dtype, VECTOR>;

struct HeldRow {
  Chunk x[HELD_CHUNKS];
  Chunk residual[has_residual ? HELD_CHUNKS : 1];
};

__device__ __forceinline__ bool chunk_exists(int chunk) {
  if constexpr (CHUNKS % THREADS == 0) return true;
  return chunk < CHUNKS;
}

__device__ __forceinline__ void fetch(HeldRow& held, const dtype* x, const dtype* residual, int row,
                                      int rows, int lane) {
  const i64 start = static_cast<i64>(row) * columns;
#pragma unroll
  for (int i = 0; i < HELD_CHUNKS; ++i) {
    const int chunk = i * THREADS + lane;
    held.x[i].clear();
    if constexpr (has_residual) held.residual[i].clear();
    if (row < rows && chunk_exists(chunk)) {
      held.x[i].load_streaming(x + start + chunk * VECTOR);
      if constexpr (has_residual)
        held.residual[i].load_streaming(residual + start + chunk * VECTOR);
    }
  }
}

// One element of h, in f32.
__device__ __forceinline__ float element(const Chunk& x, const Chunk& residual, int index) {
  if constexpr (has_residual) return x.get(index) + residual.get(index);
  return x.get(index);
}

__device__ __forceinline__ float sum_of_squares(const Chunk& x, const Chunk& residual) {
  float sum = 0.0f;
#pragma unroll
  for (int index = 0; index < VECTOR; ++index) {
    const float h = element(x, residual, index);
    sum = fmaf(h, h, sum);
  }
  return sum;
}

// The sum over the THREADS threads of a row. Two sets of partial sums, used in turn, let one barrier
// a row suffice.
__device__ __forceinline__ float row_sum(float sum, int row_in_block, int lane, int turn) {
  sum = warp_sum<minimum(THREADS, 32)>(sum);
  if constexpr (WARPS_PER_ROW > 1) {
    __shared__ float partial[2][ROWS_PER_BLOCK][WARPS_PER_ROW];
    if (lane % 32 == 0) partial[turn][row_in_block][lane / 32] = sum;
    __syncthreads();
    sum = warp_sum<WARPS_PER_ROW>(partial[turn][row_in_block][lane % WARPS_PER_ROW]);
  }
  return sum;
}

__device__ __forceinline__ void finish(const Chunk& x, const Chunk& residual, const Chunk& weight,
                                       float scale, dtype* residual_out, dtype* y, i64 position) {
  float values[VECTOR];
  Chunk packed;
  if constexpr (has_residual_out) {
#pragma unroll
    for (int index = 0; index < VECTOR; ++index) values[index] = element(x, residual, index);
    packed.set(values);
    packed.store(residual_out + position);
  }
#pragma unroll
  for (int index = 0; index < VECTOR; ++index) {
    values[index] = element(x, residual, index) * scale * weight.get(index);
  }
  packed.set(values);
  packed.store(y + position);
}

extern "C" __global__ void __launch_bounds__(THREADS* ROWS_PER_BLOCK, MIN_BLOCKS)
    rms_norm(const dtype* x, const dtype* weight, const dtype* residual, dtype* residual_out,
             dtype* y, float eps, int rows) {
  const int row_in_block = static_cast<int>(threadIdx.x) / THREADS;
  const int lane = static_cast<int>(threadIdx.x) % THREADS;
  const int stride = persistent ? static_cast<int>(gridDim.x) * ROWS_PER_BLOCK : 0;

  HeldRow held;
  int first_row = static_cast<int>(blockIdx.x) * ROWS_PER_BLOCK;
  if constexpr (KEEPS_ROW) fetch(held, x, residual, first_row + row_in_block, rows, lane);

  // The loop is the same for all threads of the block, whether their row exists or not, because of
  // the barrier.
  int turn = 0;
#pragma unroll 1
  do {
    const int row = first_row + row_in_block;
    const i64 start = static_cast<i64>(row) * columns;
    if constexpr (KEEPS_ROW) {
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < CHUNKS_PER_THREAD; ++i) {
        sum += sum_of_squares(held.x[i], held.residual[has_residual ? i : 0]);
      }
      HeldRow next;
      if constexpr (persistent) {
        fetch(next, x, residual, row + stride, rows, lane);
      }
      const float mean = row_sum(sum, row_in_block, lane, turn) * (1.0f / maximum(columns, 1));
      const float scale = reciprocal_sqrt(mean + eps);
      if (row < rows) {
#pragma unroll
        for (int i = 0; i < CHUNKS_PER_THREAD; ++i) {
          const int chunk = i * THREADS + lane;
          if (!chunk_exists(chunk)) continue;
          Chunk factor;
          factor.load(weight + chunk * VECTOR);
          finish(held.x[i], held.residual[has_residual ? i : 0], factor, scale, residual_out, y,
                 start + chunk * VECTOR);
        }
      }
      if constexpr (persistent) held = next;
    } else {
      float sum = 0.0f;
      if (row < rows) {
#pragma unroll 4
        for (int chunk = lane; chunk < CHUNKS; chunk += THREADS) {
          Chunk in;
          Chunk added;
          in.load(x + start + chunk * VECTOR);
          if constexpr (has_residual) added.load(residual + start + chunk * VECTOR);
          sum += sum_of_squares(in, added);
        }
      }
      const float mean = row_sum(sum, row_in_block, lane, turn) * (1.0f / maximum(columns, 1));
      const float scale = reciprocal_sqrt(mean + eps);
      if (row < rows) {
#pragma unroll 4
        for (int chunk = lane; chunk < CHUNKS; chunk += THREADS) {
          Chunk in;
          Chunk added;
          Chunk factor;
          in.load(x + start + chunk * VECTOR);
          if constexpr (has_residual) added.load(residual + start + chunk * VECTOR);
          factor.load(weight + chunk * VECTOR);
          finish(in, added, factor, scale, residual_out, y, start + chunk * VECTOR);
        }
      }
    }
    first_row += stride;
    turn ^= 1;
  } while (persistent && first_row < rows);
}
