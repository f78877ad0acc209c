// What the store knows of problems like one at hand.
#pragma once

#include <cudadent/cudadent.h>

#include <vector>

#include "cache/store.h"
#include "runtime/operators/problem.h"

namespace cudadent {

struct Neighbour {
  WinnerRecord winner;
  // neighbour: on this kind of device, in a bucket of the tuning key beside the problem's own: one value of
  // the key differs, by two powers of two at most; nearest: on this kind of device; other_device: on
  // another device of the same architecture.
  Provenance relation = Provenance::nearest;
  // Sum over the dimensions of |log2(extent + 1) − log2(other extent + 1)|.
  double distance = 0;
};

// Winners of problems of the same operator that differ in dimensions only, the most promising first: those in
// buckets beside, those of another device for the problem's own tuning key, then by relation in the order
// above; of these by distance. Whether a configuration is valid for the problem is for the caller to check.
std::vector<Neighbour> neighbours_of(const Problem& problem, const Device& device, Store& store);

}  // namespace cudadent
