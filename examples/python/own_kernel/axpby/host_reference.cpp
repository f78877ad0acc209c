// The plain truth that every configuration is checked against.

void axpby_reference(const Block&, const float* x, const float* y, float* z, int n, float alpha,
                     float beta) {
  for (int i = 0; i < n; ++i) z[i] = alpha * x[i] + beta * y[i];
}
