// Robust statistics of samples.
#pragma once

#include <algorithm>
#include <cmath>
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

}  // namespace cudadent
