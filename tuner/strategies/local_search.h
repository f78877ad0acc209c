// Iterated local search, by itself and as the second half of others.
#pragma once

#include <unordered_map>
#include <vector>

#include "tuner/strategies/sampling.h"

namespace cudadent {

// Climbs from a start by first improvement: neighbours one step away, then all that differ in one
// parameter, those the prior likes first. At a local optimum it jumps away from the best known
// candidate, ever farther while that brings nothing, now and then to a random one, and climbs again.
// While it waits for results that may change its mind it spends asks on the next jumps, so that a
// batch is always full.
class LocalSearch {
 public:
  LocalSearch(const SearchSpace& space, Ledger& ledger, std::uint64_t seed);

  // A told candidate to climb from before jumping.
  void add_start(Candidate candidate, double seconds);
  // Claims the candidate; nothing when the space is exhausted.
  std::optional<Candidate> next();
  // Of every new result, whoever asked. Infinite seconds for a failure.
  void learn(Candidate candidate, double seconds);

 private:
  struct Start {
    Candidate candidate;
    double seconds;
  };

  void climb_from(Candidate candidate, double seconds);
  std::optional<Candidate> next_move();
  std::optional<Candidate> jump();
  std::optional<Candidate> walk_from(Candidate candidate, std::uint64_t steps);
  [[nodiscard]] std::vector<Candidate> ordered_moves(Candidate candidate);

  const SearchSpace& space_;
  Ledger& ledger_;
  Random random_;
  RandomOrder anywhere_;
  std::vector<Start> starts_;      // the few best, best first
  std::optional<Candidate> base_;  // what the climb stands on
  double base_seconds_ = std::numeric_limits<double>::infinity();
  std::vector<Candidate> moves_;  // of the base
  std::size_t next_move_ = 0;
  std::unordered_map<Candidate, bool> asked_;  // pending: whether a jump, not a move
  std::size_t pending_moves_ = 0;
  std::uint64_t fruitless_ = 0;  // jumps since the best was last improved
};

}  // namespace cudadent
