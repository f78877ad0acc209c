#include "tuner/strategies/strategies.h"
#include "tuner/strategies/surrogate.h"

namespace cudadent {

std::unique_ptr<Strategy> make_automatic(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<Surrogate>(space, seed, Surrogate::Options{.prior = true});
}

}  // namespace cudadent
