#include <algorithm>
#include <cmath>

#include "tuner/strategies/sampling.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double restart_probability = 0.1;
constexpr std::uint64_t walk_attempts = 16;
constexpr std::size_t most_starts = 4;

// Climbs from a random start by first improvement: neighbours one step away, then all that differ in one
// parameter, those the prior likes first. At a local optimum it jumps away from the best known
// candidate, ever farther while that brings nothing, now and then to a random one, and climbs again.
// While it waits for results that may change its mind it spends asks on the next jumps, so that a
// batch is always full.
class IteratedLocalSearch : public Strategy {
 public:
  IteratedLocalSearch(const SearchSpace& space, std::uint64_t seed)
      : space_(space), random_(seed), anywhere_(space.size(), random_.next()) {}

  std::vector<Candidate> ask(std::size_t count) override {
    return up_to(count, [&] { return next(); });
  }

  void tell(const Observation& observation) override {
    if (!ledger_.record(observation)) return;
    learn(observation.candidate, observation.value.value_or(infinite));
  }

 private:
  struct Start {
    Candidate candidate;
    double seconds;
  };

  // A told candidate to climb from before jumping.
  void add_start(Candidate candidate, double seconds);
  // Claims the candidate; nothing when the space is exhausted.
  std::optional<Candidate> next();
  // Of every new result, asked for or not. Infinite seconds for a failure.
  void learn(Candidate candidate, double seconds);
  void climb_from(Candidate candidate, double seconds);
  std::optional<Candidate> next_move();
  std::optional<Candidate> jump();
  std::optional<Candidate> walk_from(Candidate candidate, std::uint64_t steps);
  [[nodiscard]] std::vector<Candidate> ordered_moves(Candidate candidate);

  const SearchSpace& space_;
  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  std::vector<Start> starts_;      // the few best, best first
  std::optional<Candidate> base_;  // what the climb stands on
  double base_seconds_ = infinite;
  std::vector<Candidate> moves_;  // of the base
  std::size_t next_move_ = 0;
  std::unordered_map<Candidate, bool> asked_;  // pending: whether a jump, not a move
  std::size_t pending_moves_ = 0;
  std::uint64_t fruitless_ = 0;  // jumps since the best was last improved
};

void IteratedLocalSearch::add_start(Candidate candidate, double seconds) {
  const auto after =
      std::upper_bound(starts_.begin(), starts_.end(), seconds,
                       [](double s, const Start& start) { return s < start.seconds; });
  starts_.insert(after, {candidate, seconds});
  if (starts_.size() > most_starts) starts_.pop_back();
}

std::optional<Candidate> IteratedLocalSearch::next() {
  while (true) {
    if (const auto move = next_move()) {
      asked_[*move] = false;
      ++pending_moves_;
      return move;
    }
    // The base is a local optimum as far as is known; pending moves may still say otherwise.
    if (pending_moves_ > 0 || starts_.empty()) break;
    const Start start = starts_.front();
    starts_.erase(starts_.begin());
    climb_from(start.candidate, start.seconds);
  }
  if (pending_moves_ == 0) {
    base_.reset();
    base_seconds_ = infinite;
  }
  const auto start = jump();
  if (start) asked_[*start] = true;
  return start;
}

void IteratedLocalSearch::learn(Candidate candidate, double seconds) {
  const auto asked = asked_.find(candidate);
  const bool mine = asked != asked_.end();
  const bool jumped = mine && asked->second;
  if (mine && !jumped) --pending_moves_;
  if (mine) asked_.erase(asked);
  if (!std::isfinite(seconds)) return;
  const bool best = ledger_.best() == candidate;
  if (best) fruitless_ = 0;
  // What others asked concerns this climb only when it is better than everything.
  if (seconds < base_seconds_ && (mine || best)) {
    climb_from(candidate, seconds);
  } else if (jumped && base_) {
    add_start(candidate, seconds);  // asked for while waiting: climb from it later
  }
}

void IteratedLocalSearch::climb_from(Candidate candidate, double seconds) {
  base_ = candidate;
  base_seconds_ = seconds;
  moves_ = ordered_moves(candidate);
  next_move_ = 0;
}

std::optional<Candidate> IteratedLocalSearch::next_move() {
  while (base_ && next_move_ < moves_.size()) {
    const Candidate move = moves_[next_move_++];
    if (ledger_.claim(move)) return move;
  }
  return std::nullopt;
}

std::vector<Candidate> IteratedLocalSearch::ordered_moves(Candidate candidate) {
  std::vector<Candidate> near = space_.neighbours(candidate, Neighbourhood::adjacent);
  std::vector<Candidate> far = space_.neighbours(candidate, Neighbourhood::hamming);
  std::erase_if(
      far, [&](Candidate each) { return std::find(near.begin(), near.end(), each) != near.end(); });
  random_.shuffle(near);
  random_.shuffle(far);
  near.insert(near.end(), far.begin(), far.end());
  if (!space_.member_of(candidate).prior) return near;
  std::vector<std::pair<double, Candidate>> costs;
  for (const Candidate each : near) {
    costs.emplace_back(predicted(space_, each).value_or(infinite), each);
  }
  std::stable_sort(costs.begin(), costs.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::transform(costs.begin(), costs.end(), near.begin(), [](const auto& c) { return c.second; });
  return near;
}

std::optional<Candidate> IteratedLocalSearch::jump() {
  ++fruitless_;
  const auto best = ledger_.best();
  if (best && random_.uniform() >= restart_probability) {
    for (std::uint64_t attempt = 0; attempt < walk_attempts; ++attempt) {
      const std::uint64_t steps = 2 + (fruitless_ / 8 + attempt / 4) % 5;
      if (const auto found = walk_from(*best, steps)) return found;
    }
  }
  return anywhere_.next(ledger_);
}

// Changes one random parameter after another; nothing when it ends where somebody was before.
std::optional<Candidate> IteratedLocalSearch::walk_from(Candidate candidate, std::uint64_t steps) {
  for (std::uint64_t i = 0; i < steps; ++i) {
    const auto neighbours = space_.neighbours(candidate, Neighbourhood::hamming);
    if (neighbours.empty()) return std::nullopt;
    candidate = neighbours[random_.below(neighbours.size())];
  }
  return ledger_.claim(candidate) ? std::optional(candidate) : std::nullopt;
}

}  // namespace

std::unique_ptr<Strategy> make_iterated_local_search(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<IteratedLocalSearch>(space, seed);
}

}  // namespace cudadent
