// See op.json.

void repeat(const Block& block, const dtype* pattern, dtype* data, i64 period, i64 count) {
  const i64 share = (count + block.grid_x - 1) / block.grid_x;
  const i64 first = share * block.x, last = minimum(first + share, count);
  for (i64 i = first; i < last; ++i) data[i] = pattern[i % period];
}
