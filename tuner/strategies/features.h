// Candidates as numbers that a model can learn from.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tuner/search_space.h"

namespace cudadent {

// Coordinates of candidates. A parameter of numbers is one coordinate from 0 to 1: by logarithm when
// all are positive, else by rank. A parameter of texts has one for each value, so that all are equally
// far apart. Parameters of one name share coordinates between templates; what a template lacks stands
// in the middle, and which template it is has coordinates of its own. The last coordinate is the
// logarithm of the prior's cost where there is a prior.
class Features {
 public:
  explicit Features(const SearchSpace& space);

  [[nodiscard]] std::size_t count() const noexcept { return scale_of_.size(); }
  // Which length scale a coordinate shares; 0 … scales() − 1.
  [[nodiscard]] std::span<const std::uint32_t> scale_of() const noexcept { return scale_of_; }
  [[nodiscard]] std::size_t scales() const noexcept { return scales_; }
  // Fills in `row`, count() long.
  void describe(Candidate candidate, std::span<float> row) const;

 private:
  struct Column {                            // of one parameter of one member
    std::uint32_t first = 0;                 // coordinate
    std::vector<std::vector<float>> values;  // by position: the coordinates
  };
  struct Template {
    std::vector<Column> columns;  // in the order of its parameters
    std::vector<float> rest;  // every coordinate for a candidate that has none of the parameters
  };

  const SearchSpace& space_;
  std::vector<Template> templates_;  // by member
  std::vector<std::uint32_t> scale_of_;
  std::size_t scales_ = 0;
};

}  // namespace cudadent
