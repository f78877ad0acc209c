// Sums, and the maximum, that verification needs; see op.json.

template <typename T>
inline double to_f64(T x) {
  if constexpr (is_16bit_float<T> || is_8bit_float<T>)
    return to_f32(x);
  else
    return static_cast<double>(x);
}

// False for NaN and infinities.
inline bool is_finite(double x) { return x - x == 0.0; }

template <typename Combine>
inline void update(double* place, double value, Combine combine) {
  double seen;
  __atomic_load(place, &seen, __ATOMIC_RELAXED);
  double wanted = combine(seen, value);
  while (
      !__atomic_compare_exchange(place, &seen, &wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    wanted = combine(seen, value);
}

void compare(const Block& block, const dtype* actual, const dtype* expected, double* result,
             i64 count, float slack) {
  const i64 share = (count + block.grid_x - 1) / block.grid_x;
  const i64 first = share * block.x, last = minimum(first + share, count);
  double difference = 0, magnitude = 0, excess = 0, broken = 0, missing = 0;
  for (i64 i = first; i < last; ++i) {
    const double a = to_f64(actual[i]), e = to_f64(expected[i]);
    if (is_finite(a) && is_finite(e)) {
      const double d = a - e;
      difference += d * d;
      magnitude += e * e;
      excess = maximum(excess, __builtin_fabs(d) - static_cast<double>(slack) * __builtin_fabs(e));
    } else if (a != a && e != e) {
      missing += 1;
    } else if (!(a == e)) {
      broken += 1;
    }
  }
  const auto add = [](double a, double b) { return a + b; };
  update(result + 0, difference, add);
  update(result + 1, magnitude, add);
  update(result + 2, excess, [](double a, double b) { return maximum(a, b); });
  update(result + 3, broken, add);
  update(result + 4, missing, add);
}
