// Regression on few points: what is expected where nobody has measured, and how sure that is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cudadent {

// How alike two points are: Matérn, smoothness 3/2, with a length scale for each group of
// coordinates.
struct Kernel {
  std::vector<double> weights;  // 1 ÷ length scale², by scale
  double noise = 1e-3;          // variance, relative to the process's
};

// Points by row.
struct Points {
  std::size_t coordinates = 0;
  std::vector<float> rows;
  [[nodiscard]] std::size_t size() const {
    return coordinates == 0 ? 0 : rows.size() / coordinates;
  }
  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    return std::span(rows).subspan(i * coordinates, coordinates);
  }
};

// The kernel that explains `values` (of zero mean) best: the most probable under the marginal
// likelihood and a prior that prefers long scales, by gradient steps from `start`.
Kernel fitted(const Points& points, std::span<const double> values,
              std::span<const std::uint32_t> scale_of, Kernel start, int steps);
Kernel initial_kernel(std::size_t scales);

// Predictions for a pool of candidates, kept up as points are added. What is known of a point is its
// place as soon as it is asked for, its value only later: the costly parts depend on places alone.
class Predictor {
 public:
  Predictor(Kernel kernel, std::span<const std::uint32_t> scale_of);

  // Adds candidates to the pool, after those there.
  void add_candidates(const Points& points);
  void add_point(std::span<const float> point);
  [[nodiscard]] std::size_t points() const noexcept { return points_; }
  [[nodiscard]] std::size_t candidates() const noexcept { return candidates_; }

  // Of all candidates, given the points' values (of about zero mean and unit deviation); NaN for a
  // value that is not known yet.
  void predict(std::span<const double> values, std::vector<float>& mean,
               std::vector<float>& deviation) const;

 private:
  struct Block;  // of candidates, sized to stay in the cache

  Kernel kernel_;
  std::vector<std::uint32_t> scale_of_;
  std::size_t points_ = 0, candidates_ = 0;
  std::vector<float> rows_;                 // the points
  std::vector<std::vector<float>> factor_;  // lower triangle of Cholesky's, by row
  std::vector<Block> blocks_;

  void extend(Block& block, std::size_t point) const;
  [[nodiscard]] std::vector<float> similarities(std::span<const float> point) const;

 public:
  ~Predictor();
  Predictor(Predictor&&) noexcept;
  Predictor& operator=(Predictor&&) noexcept;
};

}  // namespace cudadent
