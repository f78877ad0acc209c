#include <algorithm>
#include <cmath>

#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

constexpr std::size_t population_size = 20;
constexpr std::size_t tournament = 3;
constexpr double mutation = 0.1;       // of a parameter
constexpr int breeding_attempts = 32;  // children bred before going elsewhere

// Keeps the fastest of those measured; breeds from two that won a tournament: each parameter from one
// or the other, now and then a random value, repaired by taking over fewer where the mixture is not
// valid. Steady: a child replaces the slowest as soon as its result is told.
class Genetic : public Strategy {
 public:
  Genetic(const SearchSpace& space, std::uint64_t seed)
      : space_(space), random_(seed), anywhere_(space.size(), random_.next()) {}

  std::vector<Candidate> ask(std::size_t count) override {
    return up_to(count, [&] {
      const auto candidate = next();
      if (candidate) ++asked_;
      return candidate;
    });
  }

  void tell(const Observation& observation) override {
    if (!ledger_.record(observation)) return;
    if (!observation.value || !std::isfinite(*observation.value)) return;
    const Individual born{*observation.value, observation.candidate};
    population_.insert(std::upper_bound(population_.begin(), population_.end(), born), born);
    if (population_.size() > population_size) population_.pop_back();
  }

 private:
  using Individual = std::pair<double, Candidate>;  // seconds first: sorted by it

  std::optional<Candidate> next() {
    if (asked_ < population_size || population_.size() < 2) return anywhere_.next(ledger_);
    for (int i = 0; i < breeding_attempts; ++i) {
      const auto child = breed(parent(), parent());
      if (child && ledger_.claim(*child)) return child;
    }
    return anywhere_.next(ledger_);
  }

  Candidate parent() {
    std::size_t best = population_.size();
    for (std::size_t i = 0; i < tournament; ++i) {
      best = std::min<std::size_t>(best, random_.below(population_.size()));
    }
    return population_[best].second;
  }

  // Nothing when no valid child came of it. Parents of different templates have none in common: the
  // child is then a mutation of the first.
  std::optional<Candidate> breed(Candidate first, Candidate second) {
    const SearchSpace::Member& member = space_.member_of(first);
    const bool related = &member == &space_.member_of(second);
    auto point = member.space.point(first - member.first);
    const auto other = related ? member.space.point(second - member.first) : point;
    std::vector<std::size_t> order(point.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    random_.shuffle(order);
    // Change after change, each kept only if the result is valid.
    for (const std::size_t i : order) {
      const std::uint16_t before = point[i];
      if (random_.below(2) == 0) point[i] = other[i];
      if (random_.uniform() < mutation) {
        const auto values = member.space.parameters()[i].values.size();
        point[i] = static_cast<std::uint16_t>(random_.below(values));
      }
      if (point[i] != before && !member.space.index_of(point)) point[i] = before;
    }
    const auto index = member.space.index_of(point);
    return index ? std::optional(member.first + *index) : std::nullopt;
  }

  const SearchSpace& space_;
  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  std::vector<Individual> population_;  // fastest first
  std::size_t asked_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> make_genetic(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<Genetic>(space, seed);
}

}  // namespace cudadent
