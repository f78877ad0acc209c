// How far a prior can be trusted, learnt from what was measured, and which candidates it rules out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace cudadent {

// For one template: its prior predicts costs, and each measured candidate shows how much faster it was than
// its prediction. A candidate that would lose even if it were as lucky as the luckiest so far, and luckier
// by a margin, is hopeless.
class PriorCheck {
 public:
  static constexpr std::size_t least_measured = 16;  // before anything is ruled out
  static constexpr double margin = 1.5;

  // `predicted` as the prior says (any unit), `seconds` as measured.
  void learn(double predicted, double seconds) {
    if (!(predicted > 0) || !std::isfinite(predicted)) return;
    luckiest_ = std::min(luckiest_, seconds / predicted);
    ++measured_;
  }

  // The least seconds that luck has made of such a prediction.
  [[nodiscard]] double at_best(double predicted) const { return predicted * luckiest_; }
  // `best` in seconds.
  [[nodiscard]] bool hopeless(double predicted, double best) const {
    return measured_ >= least_measured && std::isfinite(predicted) &&
           at_best(predicted) > margin * best;
  }

 private:
  double luckiest_ = std::numeric_limits<double>::infinity();  // least seconds / predicted
  std::size_t measured_ = 0;
};

}  // namespace cudadent
