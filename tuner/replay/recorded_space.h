// A tuning space that was measured before: every configuration with its time, or that it failed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tuner/search_space.h"

namespace cudadent {

struct RecordedConfiguration {
  std::string kernel_template;  // empty where the file knows one kernel only
  Values configuration;
  std::optional<double> seconds;  // nothing: it failed
};

// Plays the part of a device: what a strategy asks for is looked up.
class RecordedSpace {
 public:
  // A configuration recorded more than once counts with its fastest time. The values of a parameter
  // are ordered: numbers by size, texts by first appearance. Throws Error(invalid_argument) when no
  // configuration succeeded, or when those of one template have different parameters.
  RecordedSpace(std::string name, const std::vector<RecordedConfiguration>& records);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  // Valid configurations are those recorded, failures included.
  [[nodiscard]] const SearchSpace& space() const noexcept { return space_; }
  [[nodiscard]] std::optional<double> seconds(Candidate candidate) const;
  // Of the successes, ascending; never empty.
  [[nodiscard]] const std::vector<double>& sorted_seconds() const noexcept { return sorted_; }
  [[nodiscard]] double optimum() const noexcept { return sorted_.front(); }

 private:
  std::string name_;
  SearchSpace space_;
  std::vector<double> seconds_;  // by candidate; infinite for a failure
  std::vector<double> sorted_;
};

}  // namespace cudadent
