// z = alpha·x + beta·y. CHUNK and UNROLL are the parameters of host.json.

void axpby(const Block& block, const dtype* x, const dtype* y, dtype* z, int n, float alpha,
           float beta) {
  const int first = block.x * CHUNK;
  const int last = minimum(n, first + CHUNK);
  CUDADENT_UNROLL(UNROLL)
  for (int i = first; i < last; ++i) z[i] = alpha * x[i] + beta * y[i];
}
