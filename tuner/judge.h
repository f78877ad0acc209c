// What could be launched for a problem that nobody tuned, judged by one measure.
#pragma once

#include <cudadent/cudadent.h>

#include <vector>

#include "cache/store.h"
#include "tuner/search_space.h"

namespace cudadent {

struct Judged {
  Candidate candidate = 0;
  // neighbour, nearest, other_device: it is a winner there; else defaulted or predicted.
  Provenance provenance = Provenance::predicted;
  double seconds = 0;  // measured, of the problem it won; 0 never
  // What it will take for this problem, in seconds; infinity where its template has no prior.
  double predicted_seconds = 0;
};

// The winners of neighbouring keys and near problems (neighbours_of), the default configurations, and what the
// templates' priors promise most of, each valid in `space`, which is the problem's; the cheapest predicted first. A
// prediction is the template's prior, times how wrong it was about winners of this device that are near in problem
// and configuration. What never won anywhere has to be clearly cheaper than what did, or than a default: of many
// predictions the lowest is one that errs. With a template that has no prior costs do not compare: then
// winners come first, in neighbours_of()'s order.
std::vector<Judged> judged(const SearchSpace& space, const OperatorEntry& entry,
                           const Problem& problem, const Device& device, Store& store);

// Of these, so many in their order, each of them with a value of some parameter that none before it has; the first
// is the first. Those that differ in detail only are left out.
std::vector<Candidate> diverse(const SearchSpace& space, const std::vector<Judged>& ranking,
                               std::size_t most);

}  // namespace cudadent
