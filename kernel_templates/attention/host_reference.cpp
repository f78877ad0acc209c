// The reference of attention on CPU cores: all scores of a query in f64, then their exponentials, then
// the weighted sum of v, rounded once at the end.

void attention_reference(const Block& block, const dtype* q, const dtype* k, const dtype* v,
                         dtype* out, float* lse, int heads_a_kv_head, int query_length,
                         int kv_length, float scale, float softcap, float window,
                         i64 batch_stride_q, i64 sequence_stride_q, i64 head_stride_q,
                         i64 batch_stride_k, i64 sequence_stride_k, i64 head_stride_k,
                         i64 batch_stride_v, i64 sequence_stride_v, i64 head_stride_v,
                         i64 batch_stride_out, i64 sequence_stride_out, i64 head_stride_out) {
  const int head = block.y, batch = block.z, kv_head = head / heads_a_kv_head;
  double* scores = static_cast<double*>(block.scratch);
  double* sums = scores + kv_length;
  const double factor = scale == 0 ? 1 / __builtin_sqrt(double(head_dim)) : double(scale);
  k += batch * batch_stride_k + kv_head * head_stride_k;
  v += batch * batch_stride_v + kv_head * head_stride_v;
  const int last = minimum(query_length, (block.x + 1) * ROWS);
  for (int row = block.x * ROWS; row < last; ++row) {
    const dtype* query =
        q + batch * batch_stride_q + row * sequence_stride_q + head * head_stride_q;
    const int position = row + kv_length - query_length;
    double largest = -__builtin_inf(), total = 0;
    for (int key = 0; key < kv_length; ++key) {
      const int distance = position - key;
      const int apart = distance < 0 ? -distance : distance;
      scores[key] = -__builtin_inf();
      if ((causal && distance < 0) || (windowed && !(float(apart) < window))) continue;
      double score = 0;
      for (int i = 0; i < head_dim; ++i)
        score += double(to_f32(query[i])) * to_f32(k[key * sequence_stride_k + i]);
      score *= factor;
      if (capped) score = softcap * __builtin_tanh(score / softcap);
      scores[key] = score;
      largest = maximum(largest, score);
    }
    for (int i = 0; i < head_dim; ++i) sums[i] = 0;
    for (int key = 0; key < kv_length; ++key) {
      if (scores[key] == -__builtin_inf()) continue;
      const double power = __builtin_exp(scores[key] - largest);
      total += power;
      for (int i = 0; i < head_dim; ++i) sums[i] += power * to_f32(v[key * sequence_stride_v + i]);
    }
    dtype* result =
        out + batch * batch_stride_out + row * sequence_stride_out + head * head_stride_out;
    for (int i = 0; i < head_dim; ++i)
      result[i] = from_f32<dtype>(total > 0 ? static_cast<float>(sums[i] / total) : 0.0f);
    if constexpr (has_lse) {
      const i64 at = (static_cast<i64>(batch) * block.grid_y + head) * query_length + row;
      lse[at] = static_cast<float>(total > 0 ? largest + __builtin_log(total) : -__builtin_inf());
    }
  }
}
