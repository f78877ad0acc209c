// Search strategies behind one ask/tell interface. Each is deterministic under its seed and the
// order of its tells, and can serve a batch: it may be asked again before it is told.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuner/search_space.h"

namespace cudadent {

struct Observation {
  Candidate candidate = 0;
  std::optional<double> seconds;  // nothing: it failed
};

class Strategy {
 public:
  virtual ~Strategy() = default;
  // Up to `count` candidates never asked before (nor told unasked); fewer, even none, while it
  // waits to be told or when the space is exhausted.
  virtual std::vector<Candidate> ask(std::size_t count) = 0;
  // Results, in any order; also of candidates it did not ask for (known from the cache, or the
  // default).
  virtual void tell(const Observation& observation) = 0;
  // True when what it has been told makes a worthwhile improvement unlikely: a run without a fixed
  // count of trials may stop. False for strategies that have no opinion.
  [[nodiscard]] virtual bool converged() const { return false; }
};

// The space must outlive the strategy. Throws Error(invalid_argument) that lists the known names.
std::unique_ptr<Strategy> make_strategy(std::string_view name, const SearchSpace& space,
                                        std::uint64_t seed);
// Names with one line each, "auto" first.
std::vector<std::pair<std::string, std::string>> strategies();

}  // namespace cudadent
