#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

class RandomSearch : public Strategy {
 public:
  RandomSearch(const SearchSpace& space, std::uint64_t seed) : order_(space.size(), seed) {}

  std::vector<Candidate> ask(std::size_t count) override {
    std::vector<Candidate> result;
    while (result.size() < count) {
      const auto candidate = order_.next(ledger_);
      if (!candidate) break;
      result.push_back(*candidate);
    }
    return result;
  }
  void tell(const Observation& observation) override { ledger_.record(observation); }

 private:
  RandomOrder order_;
  Ledger ledger_;
};

}  // namespace

std::unique_ptr<Strategy> make_random(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<RandomSearch>(space, seed);
}

}  // namespace cudadent
