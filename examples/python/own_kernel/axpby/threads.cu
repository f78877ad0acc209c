// z = alpha·x + beta·y. Neighbouring threads touch neighbouring elements.

extern "C" __global__ void axpby(const dtype* x, const dtype* y, dtype* z, int n, float alpha,
                                 float beta) {
  const long long first = (long long)blockIdx.x * (THREADS * PER_THREAD) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < PER_THREAD; ++j) {
    const long long i = first + j * THREADS;
    if (i < n) z[i] = alpha * x[i] + beta * y[i];
  }
}
