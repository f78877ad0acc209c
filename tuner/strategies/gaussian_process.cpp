// Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006: chapters 2 and 5.
#include "tuner/strategies/gaussian_process.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cudadent {
namespace {

// exp(x) for x ≤ 0, to six digits, in a form that compilers vectorise.
inline float quick_exp(float x) {
  const float scaled = std::max(x, -80.0F) * 1.44269504F;
  const float whole = static_cast<float>(static_cast<std::int32_t>(scaled - 0.5F));
  const float part = (scaled - whole) * 0.69314718F;
  const float power =
      1 +
      part * (1 + part * (0.5F + part * (0.16666667F + part * (0.041666667F + part * 0.0083333F))));
  return power * std::bit_cast<float>((static_cast<std::int32_t>(whole) + 127) << 23);
}

// Matérn's covariance, smoothness 3/2, of two points by their squared distance.
inline float similarity(float squared) {
  const float r = std::sqrt(3 * squared);
  return (1 + r) * quick_exp(-r);
}

// Cholesky's factor in place, lower triangle; false when not positive definite.
bool factorise(std::vector<double>& a, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      const double* x = &a[i * n];
      const double* y = &a[j * n];
      double dot = 0;
      for (std::size_t k = 0; k < j; ++k) dot += x[k] * y[k];
      sum -= dot;
      if (i == j) {
        if (sum <= 1e-12) return false;
        a[i * n + i] = std::sqrt(sum);
      } else {
        a[i * n + j] = sum / a[j * n + j];
      }
    }
  }
  return true;
}

// The inverse of a matrix from its factor.
std::vector<double> inverse(const std::vector<double>& factor, std::size_t n) {
  // Rows of the transposed inverse of the factor: upper[j] holds column j.
  std::vector<double> columns(n * n, 0.0);
  for (std::size_t j = 0; j < n; ++j) {
    double* x = &columns[j * n];
    x[j] = 1 / factor[j * n + j];
    for (std::size_t i = j + 1; i < n; ++i) {
      double sum = 0;
      const double* row = &factor[i * n];
      for (std::size_t k = j; k < i; ++k) sum += row[k] * x[k];
      x[i] = -sum / factor[i * n + i];
    }
  }
  std::vector<double> result(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (std::size_t k = i; k < n; ++k) sum += columns[i * n + k] * columns[j * n + k];
      result[i * n + j] = result[j * n + i] = sum;
    }
  }
  return result;
}

class Likelihood {
 public:
  Likelihood(const Points& points, std::span<const double> values,
             std::span<const std::uint32_t> scale_of, std::size_t scales)
      : n_(points.size()), scales_(scales), values_(values), squares_(scales * n_ * n_, 0.0F) {
    for (std::size_t c = 0; c < points.coordinates; ++c) {
      float* of = &squares_[scale_of[c] * n_ * n_];
      for (std::size_t i = 0; i < n_; ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          const float apart = points.row(i)[c] - points.row(j)[c];
          of[i * n_ + j] += apart * apart;
        }
      }
    }
  }

  // Logarithm of the probability, up to a constant; `gradient` by log weight, then log noise.
  double evaluate(const std::vector<double>& logs, std::vector<double>& gradient) const {
    const std::size_t n = n_;
    std::vector<double> squared(n * n, 0.0);
    for (std::size_t s = 0; s < scales_; ++s) {
      const double weight = std::exp(logs[s]);
      const float* of = &squares_[s * n * n];
      for (std::size_t i = 0; i < n * n; ++i) squared[i] += weight * of[i];
    }
    const double noise = std::exp(logs[scales_]);
    std::vector<double> matrix(n * n), slope(n * n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const double r = std::sqrt(3 * squared[i * n + j]), e = std::exp(-r);
        matrix[i * n + j] = (1 + r) * e;
        slope[i * n + j] = -1.5 * e;  // by the squared distance
      }
      matrix[i * n + i] = 1 + noise;
    }
    std::vector<double> factor = matrix;
    if (!factorise(factor, n)) return -1e300;
    const auto inverted = inverse(factor, n);
    std::vector<double> alpha(n, 0.0);
    double fit = 0, determinant = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) alpha[i] += inverted[i * n + j] * values_[j];
      fit += alpha[i] * values_[i];
      determinant += 2 * std::log(factor[i * n + i]);
    }
    // The process's variance has its most probable value, with a weak prior around one.
    const double count = static_cast<double>(n);
    const double variance = (fit + 2) / (count + 2);
    double result = -0.5 * (count + 2) * std::log(variance) - 0.5 * determinant;
    gradient.assign(scales_ + 1, 0.0);
    std::vector<double> pull(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        pull[i * n + j] = (alpha[i] * alpha[j] / variance - inverted[i * n + j]) * slope[i * n + j];
      }
      gradient[scales_] += 0.5 * noise * (alpha[i] * alpha[i] / variance - inverted[i * n + i]);
    }
    for (std::size_t s = 0; s < scales_; ++s) {
      const float* of = &squares_[s * n * n];
      double sum = 0;
      for (std::size_t i = 0; i < n * n; ++i) sum += pull[i] * of[i];
      gradient[s] += std::exp(logs[s]) * sum;
    }
    add_prior(logs, result, gradient);
    return result;
  }

 private:
  // Length scales are log-normal, longer where there are more of them (Hvarfner, Hellsten, Nardi,
  // "Vanilla Bayesian optimization performs great in high dimensions", 2024); noise is small.
  void add_prior(const std::vector<double>& logs, double& result,
                 std::vector<double>& gradient) const {
    const double longer = std::log(static_cast<double>(scales_) / 4);
    for (std::size_t s = 0; s <= scales_; ++s) {
      const double centre = s < scales_ ? -2 - longer : -6;
      const double spread = s < scales_ ? 2 : 1.5;
      const double away = (logs[s] - centre) / spread;
      result -= 0.5 * away * away;
      gradient[s] -= away / spread;
    }
  }

  std::size_t n_, scales_;
  std::span<const double> values_;
  std::vector<float> squares_;  // by scale: squared distances, lower triangles
};

}  // namespace

namespace {
// Logarithm. The predictor's factor has single precision: with less noise than this, points that are
// nearly alike make it worthless.
constexpr double least_noise = -9.2;
}  // namespace

Kernel initial_kernel(std::size_t scales) {
  Kernel kernel;
  kernel.weights.assign(scales, 4.0 / static_cast<double>(std::max<std::size_t>(scales, 1)));
  kernel.noise = 1e-2;
  return kernel;
}

// Steps that grow while the gradient keeps its sign (Rprop): no line search, no scale to choose.
Kernel fitted(const Points& points, std::span<const double> values,
              std::span<const std::uint32_t> scale_of, Kernel start, int steps) {
  const std::size_t scales = start.weights.size();
  const Likelihood likelihood(points, values, scale_of, scales);
  std::vector<double> logs, gradient, before(scales + 1, 0.0), step(scales + 1, 0.2);
  for (const double weight : start.weights) logs.push_back(std::log(weight));
  logs.push_back(std::log(start.noise));
  std::vector<double> best = logs;
  double highest = -1e301;
  for (int i = 0; i < steps; ++i) {
    const double here = likelihood.evaluate(logs, gradient);
    if (here > highest) {
      highest = here;
      best = logs;
    }
    if (here <= -1e300) break;
    for (std::size_t j = 0; j <= scales; ++j) {
      const double agreement = gradient[j] * before[j];
      if (agreement > 0) step[j] = std::min(step[j] * 1.3, 1.0);
      if (agreement < 0) step[j] *= 0.5;
      before[j] = agreement < 0 ? 0 : gradient[j];
      if (before[j] != 0) logs[j] += before[j] > 0 ? step[j] : -step[j];
      logs[j] = std::clamp(logs[j], j < scales ? -9.0 : least_noise, j < scales ? 7.0 : 0.0);
    }
  }
  for (std::size_t s = 0; s < scales; ++s) start.weights[s] = std::exp(best[s]);
  start.noise = std::exp(best[scales]);
  return start;
}

// ----------------------------------------------------------------------------------- predicting

struct Predictor::Block {
  static constexpr std::size_t width = 512;
  std::size_t used = 0;
  std::vector<float> coordinates;             // by coordinate, `width` each, scaled
  std::vector<std::vector<float>> projected;  // by point, `width` each
  std::vector<float> explained = std::vector<float>(width, 0.0F);  // variance
};

Predictor::Predictor(Kernel kernel, std::span<const std::uint32_t> scale_of)
    : kernel_(std::move(kernel)), scale_of_(scale_of.begin(), scale_of.end()) {}
Predictor::~Predictor() = default;
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;

void Predictor::add_candidates(const Points& points) {
  const std::size_t d = scale_of_.size();
  std::size_t next = 0;
  while (next < points.size()) {
    if (blocks_.empty() || blocks_.back().used == Block::width) {
      blocks_.emplace_back().coordinates.assign(d * Block::width, 0.0F);
    }
    Block& block = blocks_.back();
    while (next < points.size() && block.used < Block::width) {
      const auto row = points.row(next++);
      for (std::size_t c = 0; c < d; ++c) {
        block.coordinates[c * Block::width + block.used] =
            row[c] * static_cast<float>(std::sqrt(kernel_.weights[scale_of_[c]]));
      }
      ++block.used;
    }
    // The whole block anew: only the last one is ever partly filled.
    block.projected.clear();
    std::fill(block.explained.begin(), block.explained.end(), 0.0F);
    for (std::size_t i = 0; i < points_; ++i) extend(block, i);
  }
  candidates_ += points.size();
}

std::vector<float> Predictor::similarities(std::span<const float> point) const {
  const std::size_t d = scale_of_.size();
  std::vector<float> result(points_);
  for (std::size_t i = 0; i < points_; ++i) {
    float squared = 0;
    for (std::size_t c = 0; c < d; ++c) {
      const float apart = rows_[i * d + c] - point[c];
      squared += apart * apart;
    }
    result[i] = similarity(squared);
  }
  return result;
}

void Predictor::add_point(std::span<const float> point) {
  const std::size_t d = scale_of_.size();
  std::vector<float> scaled(d);
  for (std::size_t c = 0; c < d; ++c) {
    scaled[c] = point[c] * static_cast<float>(std::sqrt(kernel_.weights[scale_of_[c]]));
  }
  std::vector<float> row = similarities(scaled);
  double rest = 1 + kernel_.noise;
  for (std::size_t i = 0; i < points_; ++i) {
    double sum = row[i];
    for (std::size_t j = 0; j < i; ++j) sum -= static_cast<double>(row[j]) * factor_[i][j];
    row[i] = static_cast<float>(sum / factor_[i][i]);
    rest -= static_cast<double>(row[i]) * row[i];
  }
  row.push_back(static_cast<float>(std::sqrt(std::max(rest, 1e-6))));
  factor_.push_back(std::move(row));
  rows_.insert(rows_.end(), scaled.begin(), scaled.end());
  ++points_;
  for (Block& block : blocks_) extend(block, points_ - 1);
}

void Predictor::extend(Block& block, std::size_t point) const {
  const std::size_t d = scale_of_.size();
  std::vector<float> row(Block::width, 0.0F);
  for (std::size_t c = 0; c < d; ++c) {
    const float at = rows_[point * d + c];
    const float* of = &block.coordinates[c * Block::width];
    for (std::size_t i = 0; i < Block::width; ++i) row[i] += (of[i] - at) * (of[i] - at);
  }
  for (float& each : row) each = similarity(each);
  const auto& factor = factor_[point];
  for (std::size_t j = 0; j < point; ++j) {
    const float times = factor[j];
    const float* of = block.projected[j].data();
    for (std::size_t i = 0; i < Block::width; ++i) row[i] -= times * of[i];
  }
  const float divisor = 1 / factor[point];
  for (std::size_t i = 0; i < Block::width; ++i) {
    row[i] *= divisor;
    block.explained[i] += row[i] * row[i];
  }
  block.projected.push_back(std::move(row));
}

void Predictor::predict(std::span<const double> values, std::vector<float>& mean,
                        std::vector<float>& deviation) const {
  std::vector<float> solved(points_);
  double fit = 0, known = 0;
  for (std::size_t i = 0; i < points_; ++i) {
    if (std::isnan(values[i])) continue;  // taken to be just what the points before it predict
    double sum = values[i];
    for (std::size_t j = 0; j < i; ++j) sum -= static_cast<double>(factor_[i][j]) * solved[j];
    solved[i] = static_cast<float>(sum / factor_[i][i]);
    fit += static_cast<double>(solved[i]) * solved[i];
    known += 1;
  }
  const double variance = (fit + 2) / (known + 2);
  mean.assign(candidates_, 0.0F);
  deviation.assign(candidates_, 0.0F);
  std::size_t at = 0;
  for (const Block& block : blocks_) {
    std::vector<float> sum(Block::width, 0.0F);
    for (std::size_t j = 0; j < points_; ++j) {
      const float* of = block.projected[j].data();
      for (std::size_t i = 0; i < Block::width; ++i) sum[i] += solved[j] * of[i];
    }
    for (std::size_t i = 0; i < block.used; ++i, ++at) {
      mean[at] = sum[i];
      deviation[at] = static_cast<float>(
          std::sqrt(variance * std::max(1.0 - static_cast<double>(block.explained[i]), 1e-6)));
    }
  }
}

}  // namespace cudadent
