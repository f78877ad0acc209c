#include <cmath>

#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

constexpr double first_temperature = 0.3;  // of the logarithm of time
constexpr double last_temperature = 0.01;
constexpr double cooling = 0.98;              // a result
constexpr std::size_t restart_patience = 40;  // results without acceptance before a restart
constexpr int move_attempts = 24;             // moves looked for before going elsewhere

// Walks from neighbour to neighbour, also to slower ones while it is hot: by how much is compared on
// the logarithm of time. When it has cooled and no longer moves it is heated up again, at the best.
class SimulatedAnnealing : public Strategy {
 public:
  SimulatedAnnealing(const SearchSpace& space, std::uint64_t seed)
      : space_(space), random_(seed), anywhere_(space.size(), random_.next()) {}

  std::vector<Candidate> ask(std::size_t count) override {
    return up_to(count, [&] { return next(); });
  }

  void tell(const Observation& observation) override {
    if (!ledger_.record(observation)) return;
    temperature_ = std::max(temperature_ * cooling, last_temperature);
    const bool usable = observation.value && std::isfinite(*observation.value);
    const double energy = usable ? std::log(*observation.value) : 0;
    const double worse = energy - energy_;
    if (usable && (!base_ || worse <= 0 || random_.uniform() < std::exp(-worse / temperature_))) {
      base_ = observation.candidate;
      energy_ = energy;
      since_accepted_ = 0;
    } else if (++since_accepted_ >= restart_patience) {
      reheat();
    }
  }

 private:
  void reheat() {
    temperature_ = first_temperature;
    since_accepted_ = 0;
    base_ = ledger_.best();
    if (base_) energy_ = std::log(ledger_.best_seconds());
  }

  std::optional<Candidate> next() {
    if (!base_) return anywhere_.next(ledger_);
    Candidate at = *base_;
    for (int i = 0; i < move_attempts; ++i) {
      // Near moves twice as often as far ones; across what is known already.
      const auto kind = random_.below(3) == 0 ? Neighbourhood::hamming : Neighbourhood::adjacent;
      const auto moves = space_.neighbours(at, kind);
      if (moves.empty()) continue;
      const Candidate move = moves[random_.below(moves.size())];
      if (ledger_.claim(move)) return move;
      if (i % 4 == 3) at = move;
    }
    return anywhere_.next(ledger_);
  }

  const SearchSpace& space_;
  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  std::optional<Candidate> base_;
  double energy_ = 0;
  double temperature_ = first_temperature;
  std::size_t since_accepted_ = 0;
};

}  // namespace

std::unique_ptr<Strategy> make_simulated_annealing(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<SimulatedAnnealing>(space, seed);
}

}  // namespace cudadent
