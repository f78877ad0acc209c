#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

class RandomSearch : public Strategy {
 public:
  RandomSearch(const SearchSpace& space, std::uint64_t seed) : order_(space.size(), seed) {}

  std::vector<Candidate> ask(std::size_t count) override {
    return up_to(count, [&] { return order_.next(ledger_); });
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
