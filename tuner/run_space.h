// The first stage of a tuning run: what there is to choose from, and what is measured before the search is asked.
#pragma once

#include <optional>
#include <vector>

#include "runtime/operators/specialization.h"
#include "tuner/tuning_task.h"

namespace cudadent {

struct RunSpace {
  SearchSpace space;
  std::optional<Candidate> untuned;  // what would be launched without tuning
  std::vector<Candidate> defaults;   // of every template
  // What would be launched without tuning and the defaults come first, so that the winner can never be slower than
  // they, then what won for the tuning key (in the store, its layers, and what ships), lest it be replaced by
  // something slower, and then what is judged cheapest (judge.h), each of these with a value of a parameter that none
  // before it has: a short run looks at every family.
  std::vector<Candidate> first;

  [[nodiscard]] bool is_default(Candidate candidate) const;
  [[nodiscard]] bool is_first(Candidate candidate) const;
  // A default, or what would be launched without tuning: measured however short the time.
  [[nodiscard]] bool is_essential(Candidate candidate) const {
    return candidate == untuned || is_default(candidate);
  }
  [[nodiscard]] const KernelTemplate& kernel_template(Candidate candidate) const {
    return *space.member_of(candidate).kernel_template;
  }
};

// Adds the time it takes to `seconds`. Throws what search_space() throws.
RunSpace run_space(const TuningTask& task, TuneSeconds& seconds);

// Throws Error for what the constraints allow, but cannot be launched.
Specialization specialization_of(const TuningTask& task, const RunSpace& space,
                                 Candidate candidate);

}  // namespace cudadent
