// The reference of attention on CPU cores: all scores of a query in f64, then their exponentials, then
// the weighted sum of v, rounded once at the end.
#include "attention/sequences.h"

void attention_reference(const Block& block, const dtype* q, const dtype* k, const dtype* v,
                         dtype* out, float* lse, const int* cu_queries, const int* cu_keys,
                         const int* block_table, const int* kv_lengths, int batch,
                         int pages_a_sequence, int heads_a_kv_head, int query_length, int kv_length,
                         int queries, float scale, float softcap, int window, i64 batch_stride_q,
                         i64 sequence_stride_q, i64 head_stride_q, i64 batch_stride_k,
                         i64 sequence_stride_k, i64 head_stride_k, i64 batch_stride_v,
                         i64 sequence_stride_v, i64 head_stride_v, i64 batch_stride_out,
                         i64 sequence_stride_out, i64 head_stride_out) {
  const Sequences all{cu_queries,       cu_keys,      block_table, kv_lengths, batch,
                      pages_a_sequence, query_length, kv_length,   queries};
  const Place place(block.x, ROWS, all);
  const int head = block.y, kv_head = head / heads_a_kv_head;
  double* sums = static_cast<double*>(block.scratch);
  double* scores = sums + head_dim;
  const KeyRows k_rows =
      place.rows_of(k, all, batch_stride_k, sequence_stride_k, kv_head * head_stride_k);
  const KeyRows v_rows =
      place.rows_of(v, all, batch_stride_v, sequence_stride_v, kv_head * head_stride_v);
  const int last = minimum(place.queries, place.first + ROWS);
  for (int row = place.first; row < last; ++row) {
    const i64 line = place.query_start + row;
    const dtype* query =
        q + place.batch * batch_stride_q + line * sequence_stride_q + head * head_stride_q;
    const int position = row + place.keys - place.queries;
    const SeenKeys seen(position, position, place.keys, window);
    double largest = -__builtin_inf(), total = 0;
    for (int key = seen.low; key < seen.high; ++key) {
      const dtype* k_row = k_rows[key];
      double score = 0;
      for (int i = 0; i < head_dim; ++i) score += double(to_f32(query[i])) * to_f32(k_row[i]);
      score *= scale;
      if (capped) score = softcap * __builtin_tanh(score / softcap);
      scores[key] = score;
      largest = maximum(largest, score);
    }
    for (int i = 0; i < head_dim; ++i) sums[i] = 0;
    // A NaN among the scores makes one of every sum, as do an infinity and −infinity alone.
    for (int key = seen.low; key < seen.high; ++key) {
      const double power = __builtin_exp(scores[key] - largest);
      const dtype* v_row = v_rows[key];
      total += power;
      for (int i = 0; i < head_dim; ++i) sums[i] += power * to_f32(v_row[i]);
    }
    dtype* result =
        out + place.batch * batch_stride_out + line * sequence_stride_out + head * head_stride_out;
    for (int i = 0; i < head_dim; ++i)
      result[i] = from_f32<dtype>(seen.any() ? static_cast<float>(sums[i] / total) : 0.0f);
    if constexpr (has_lse)
      lse[place.lse_at(row, head, block.grid_y, all)] =
          static_cast<float>(seen.any() ? largest + __builtin_log(total) : -__builtin_inf());
  }
}
