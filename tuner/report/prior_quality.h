// How well priors rank what was measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cache/store.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"

namespace cudadent {

// Of one template, for one problem. A search measures what it takes for good, so that these trials are no
// random sample: over the whole space a prior ranks better than among them.
struct PriorQuality {
  std::string kernel_template;
  std::int64_t trials = 0;  // that worked, and of which the prior says something
  double correlation = 0;   // Spearman's, of prediction and median; NaN where all are alike
  double first_choice =
      0;  // the best median over that of the configuration predicted best; 1 at most
  double over_predicted =
      0;  // median of measured over predicted: where a prior is in seconds, 1 is right
};

// Of each template that has a prior and two trials at least, in the entry's order. Trials of a template that has
// changed since are passed over. `device_facts` are Device::facts() of where they were measured.
std::vector<PriorQuality> prior_qualities(const std::vector<TrialRecord>& trials,
                                          const OperatorEntry& entry, const Problem& problem,
                                          const Values& device_facts);

}  // namespace cudadent
