#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

// Sorting more by a prior would take seconds and memory for an order nobody walks to the end.
constexpr std::size_t most_sorted = 262'144;

class Exhaustive : public Strategy {
 public:
  Exhaustive(const SearchSpace& space, std::uint64_t seed) : size_(space.size()) {
    if (has_prior(space)) first_ = ranked(space, most_sorted, seed);
  }

  std::vector<Candidate> ask(std::size_t count) override {
    std::vector<Candidate> result;
    while (result.size() < count && at_ < first_.size() + size_) {
      const Candidate candidate = at_ < first_.size() ? first_[at_] : at_ - first_.size();
      ++at_;
      if (ledger_.claim(candidate)) result.push_back(candidate);
    }
    return result;
  }
  void tell(const Observation& observation) override { ledger_.record(observation); }

 private:
  std::uint64_t size_;
  std::vector<Candidate> first_;  // by the prior; what it leaves follows in index order
  std::uint64_t at_ = 0;
  Ledger ledger_;
};

}  // namespace

std::unique_ptr<Strategy> make_exhaustive(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<Exhaustive>(space, seed);
}

}  // namespace cudadent
