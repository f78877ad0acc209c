// How fast a device could be at most: the roofs of a roofline diagram (S. Williams, A. Waterman,
// D. Patterson, "Roofline: an insightful visual performance model for multicore architectures", 2009).
#pragma once

#include <cudadent/cudadent.h>

#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

struct Peak {
  double rate = 0;    // a second; 0 when unknown
  std::string basis;  // where the figure comes from, for people
};

struct Roofs {
  Peak compute;  // FLOP/s
  Peak memory;   // bytes/s
  // FLOP/s at an arithmetic intensity (FLOP/byte); 0 when neither roof is known.
  [[nodiscard]] double attainable(double intensity) const;
};

// Out of Device::facts(), for arithmetic on elements of a type ("bf16"): matrix units where the device
// has them for that type. What the facts do not tell stays unknown.
Roofs nominal_roofs(const Values& device_facts, std::string_view data_type);

// What a problem reached on a device.
struct Reached {
  double flops = 0, bytes = 0;  // of the problem; 0 unknown
  double seconds = 0;
};
// Fills what is unknown with the best that was measured.
Roofs with_best_measured(Roofs roofs, const std::vector<Reached>& measured);

}  // namespace cudadent
