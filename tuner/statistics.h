// Robust statistics of samples.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

namespace cudadent {

// The q-quantile (0 … 1), linearly interpolated; 0 for no samples.
inline double quantile(std::vector<double> samples, double q) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  const double position = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, samples.size() - 1);
  return std::lerp(samples[below], samples[above], position - static_cast<double>(below));
}

inline double median(const std::vector<double>& samples) { return quantile(samples, 0.5); }

// (third quartile − first quartile) / median.
inline double relative_spread(const std::vector<double>& samples) {
  const double middle = median(samples);
  return middle > 0 ? (quantile(samples, 0.75) - quantile(samples, 0.25)) / middle : 0;
}

// The rank of each value, from 1; equal ones share the mean of theirs.
inline std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t end = first + 1;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    for (std::size_t i = first; i < end; ++i)
      result[order[i]] = 0.5 * static_cast<double>(first + end + 1);
    first = end;
  }
  return result;
}

// Spearman's rank correlation of two lists of one length: 1 when they order alike, −1 when in reverse. NaN
// where one of them has no two different values. (C. Spearman, "The proof and measurement of association
// between two things", 1904.)
inline double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto of_a = ranks(a), of_b = ranks(b);
  const double middle = 0.5 * static_cast<double>(a.size() + 1);
  double both = 0, only_a = 0, only_b = 0;
  for (std::size_t i = 0; i < of_a.size(); ++i) {
    both += (of_a[i] - middle) * (of_b[i] - middle);
    only_a += (of_a[i] - middle) * (of_a[i] - middle);
    only_b += (of_b[i] - middle) * (of_b[i] - middle);
  }
  return only_a > 0 && only_b > 0 ? both / std::sqrt(only_a * only_b)
                                  : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace cudadent
