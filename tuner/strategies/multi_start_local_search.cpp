#include <cmath>

#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

// Climbs to a local optimum, then again from another random place. A climb goes to the first better
// neighbour that differs in one parameter. Climbs go on side by side, as many as it takes to fill a
// batch, so that none has to wait for another's results.
class MultiStartLocalSearch : public Strategy {
 public:
  MultiStartLocalSearch(const SearchSpace& space, std::uint64_t seed)
      : space_(space), random_(seed), anywhere_(space.size(), random_.next()) {}

  std::vector<Candidate> ask(std::size_t count) override {
    return up_to(count, [&] { return next(); });
  }

  void tell(const Observation& observation) override {
    if (!ledger_.record(observation)) return;
    const auto asked = climb_of_.find(observation.candidate);
    if (asked == climb_of_.end()) return;
    Climb& climb = climbs_[asked->second];
    climb_of_.erase(asked);
    --climb.pending;
    const double seconds = observation.value.value_or(infinite);
    if (std::isfinite(seconds) && seconds < climb.seconds) {
      climb.seconds = seconds;
      climb.moves = space_.neighbours(observation.candidate, Neighbourhood::hamming);
      random_.shuffle(climb.moves);
    }
  }

 private:
  static constexpr double infinite = std::numeric_limits<double>::infinity();

  struct Climb {
    double seconds = infinite;  // of where it stands
    std::vector<Candidate> moves;
    std::size_t pending = 0;
  };

  std::optional<Candidate> next() {
    for (std::size_t i = first_; i < climbs_.size(); ++i) {
      Climb& climb = climbs_[i];
      while (!climb.moves.empty()) {
        const Candidate move = climb.moves.back();
        climb.moves.pop_back();
        if (!ledger_.claim(move)) continue;
        ++climb.pending;
        climb_of_.emplace(move, i);
        return move;
      }
    }
    while (first_ < climbs_.size() && climbs_[first_].pending == 0) ++first_;  // at their summits
    const auto start = anywhere_.next(ledger_);
    if (!start) return std::nullopt;
    climb_of_.emplace(*start, climbs_.size());
    climbs_.push_back({infinite, {}, 1});
    return start;
  }

  const SearchSpace& space_;
  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  std::vector<Climb> climbs_;
  std::size_t first_ = 0;  // that is not done
  std::unordered_map<Candidate, std::size_t> climb_of_;
};

}  // namespace

std::unique_ptr<Strategy> make_multi_start_local_search(const SearchSpace& space,
                                                        std::uint64_t seed) {
  return std::make_unique<MultiStartLocalSearch>(space, seed);
}

}  // namespace cudadent
