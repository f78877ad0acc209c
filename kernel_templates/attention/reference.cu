// Attention, slow and plainly right: what every other template is verified against.
//
// A block has TILE queries of one head and walks over all keys, TILE at a time. A score is a sum in f32
// whose products are exact; exponentials are f32 to 2 units in the last place; the sums over keys of a
// tile are added up in f64. So the error is about 1e-6 before the one rounding at the end.
#include "attention/sequences.cuh"
#include "ptx/math.cuh"

constexpr int TILE = 16;
constexpr int PITCH = head_dim + 1;                // against bank conflicts
constexpr int COLUMNS = ceil_div(head_dim, TILE);  // of out, a thread

// Copies TILE rows from `first` to shared memory; zeros in front of `low` and from `high` on. `row_at(row)` is
// where one lies.
template <typename RowAt>
__device__ void load_rows(float (&tile)[TILE][PITCH], RowAt&& row_at, int first, int low,
                          int high) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < TILE * head_dim; i += TILE * TILE) {
    const int row = i / head_dim, column = i % head_dim;
    const bool exists = first + row >= low && first + row < high;
    tile[row][column] = exists ? to_f32(row_at(first + row)[column]) : 0.0f;
  }
}

extern "C" __global__ void __launch_bounds__(TILE* TILE, 1)
    attention(const dtype* q, const dtype* k, const dtype* v, dtype* out, float* lse, int batches,
              int heads, int heads_a_kv_head, int query_length, int kv_length, float scale,
              float softcap, int window, i64 batch_stride_q, i64 sequence_stride_q,
              i64 head_stride_q, i64 batch_stride_k, i64 sequence_stride_k, i64 head_stride_k,
              i64 batch_stride_v, i64 sequence_stride_v, i64 head_stride_v, i64 batch_stride_out,
              i64 sequence_stride_out, i64 head_stride_out, const int* cu_queries,
              const int* cu_keys, const int* block_table, const int* kv_lengths,
              int pages_a_sequence, int queries) {
  __shared__ float q_tile[TILE][PITCH];
  __shared__ float kv_tile[TILE][PITCH];
  __shared__ float powers[TILE][TILE + 1];  // first the scores
  const int x = static_cast<int>(threadIdx.x) % TILE;
  const int y = static_cast<int>(threadIdx.x) / TILE;  // the query of the tile
  const Sequences sequences{cu_queries, cu_keys,          block_table,
                            kv_lengths, pages_a_sequence, queries};
  const int tiles = has_cu_queries ? sequences.slots<TILE>(batches) : ceil_div(query_length, TILE);
  const int slot = static_cast<int>(blockIdx.x) % tiles;
  const int head = static_cast<int>(blockIdx.x) / tiles % heads;
  const int batch = has_cu_queries ? sequences.sequence_of<TILE>(slot, batches)
                                   : static_cast<int>(blockIdx.x) / tiles / heads;
  if (batch == batches) return;
  const int first = (has_cu_queries ? slot - sequences.first_slot<TILE>(batch) : slot) * TILE;
  if (first < 0) return;  // rows in front of the first sequence
  query_length = sequences.query_count(batch, query_length);
  kv_length = sequences.key_count(batch, kv_length);
  const int position = first + y + kv_length - query_length;
  // Keys that this thread's query sees, and those that any query of the tile does.
  const int low = first_seen_key(position, window);
  const int high = end_of_seen_keys(position, kv_length, window);
  const int last_position = min(first + TILE, query_length) - 1 + kv_length - query_length;
  const int tile_low = first_seen_key(position - y, window);
  const int tile_high = end_of_seen_keys(last_position, kv_length, window);
  const i64 start = sequences.query_start(batch);
  const float inner = capped ? scale / softcap : scale;
  q += batch * batch_stride_q + start * sequence_stride_q + head * head_stride_q;
  const KeyRows k_rows(k + head / heads_a_kv_head * head_stride_k, batch_stride_k,
                       sequence_stride_k, sequences, batch);
  const KeyRows v_rows(v + head / heads_a_kv_head * head_stride_v, batch_stride_v,
                       sequence_stride_v, sequences, batch);

  load_rows(q_tile, [&](int row) { return q + row * sequence_stride_q; }, first, 0, query_length);
  const float minus_infinity = __uint_as_float(0xff800000u), nan = __uint_as_float(0x7fffffffu);
  double sums[COLUMNS] = {};
  double total = 0;
  float largest = minus_infinity;
  for (int first_key = tile_low / TILE * TILE; first_key < tile_high; first_key += TILE) {
    __syncthreads();  // the last tile has been read
    load_rows(kv_tile, k_rows, first_key, tile_low, tile_high);
    __syncthreads();
    float score = 0.0f;
#pragma unroll 4
    for (int i = 0; i < head_dim; ++i) score = fmaf(q_tile[y][i], kv_tile[x][i], score);
    score *= inner;
    if (capped) score = softcap * tanhf(score);
    const bool seen = first_key + x >= low && first_key + x < high;
    powers[y][x] = seen ? score : minus_infinity;
    __syncthreads();
    load_rows(kv_tile, v_rows, first_key, tile_low, tile_high);
    float new_largest = largest;
    for (int i = 0; i < TILE; ++i) new_largest = fmaxf(new_largest, powers[y][i]);
    __syncthreads();
    // −infinity less itself would be no zero. What is not seen is left out of sums, not multiplied by zero.
    const float subtract = new_largest == minus_infinity ? 0.0f : new_largest;
    powers[y][x] = seen ? expf(score - subtract) : -1.0f;
    __syncthreads();
    const double shrink = expf(largest - subtract);
    largest = new_largest;
    float tile_sum = 0.0f;
    for (int i = 0; i < TILE; ++i) tile_sum += powers[y][i] < 0.0f ? 0.0f : powers[y][i];
    total = total * shrink + tile_sum;
    // Unrolled, so that `sums` stays in registers.
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      const int column = j * TILE + x;
      float sum = 0.0f;
#pragma unroll 1
      for (int i = 0; i < TILE; ++i) {
        if (column >= head_dim || powers[y][i] < 0.0f) continue;  // a NaN is not below 0
        sum = fmaf(powers[y][i], kv_tile[i][column], sum);
      }
      sums[j] = sums[j] * shrink + sum;
    }
  }

  if (first + y >= query_length) return;
  out +=
      batch * batch_stride_out + (start + first + y) * sequence_stride_out + head * head_stride_out;
  // A total of zero is one of exponentials of −infinity, less a largest score of −infinity: no number. Nor is
  // that of a NaN, or of +infinity less itself.
  const float sum = total == 0 ? nan : static_cast<float>(total);
  const double factor = low < high ? reciprocal_approx(sum) : 0.0f;
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    const int column = j * TILE + x;
    if (column < head_dim) out[column] = from_f32<dtype>(static_cast<float>(sums[j] * factor));
  }
  if constexpr (has_lse) {
    const i64 row = first + y +
                    (has_cu_queries ? static_cast<i64>(head) * queries + start
                                    : (static_cast<i64>(batch) * heads + head) * query_length);
    if (x == 0) lse[row] = low < high ? largest + logf(sum) : minus_infinity;
  }
}
