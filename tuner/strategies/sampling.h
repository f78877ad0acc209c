// What strategies share: random numbers, random orders that are not listed, and what has been asked.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <vector>

#include "tuner/search_space.h"
#include "tuner/strategy.h"

namespace cudadent {

// SplitMix64: the same numbers everywhere, which the standard's distributions do not promise.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t bound);  // bound > 0
  double uniform();                          // [0, 1)
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::uint64_t state_;
};

// A random order of 0 … size−1 without a list of it: a Feistel network over the next even power of
// two, walked until it falls inside.
class Permutation {
 public:
  Permutation(std::uint64_t size, std::uint64_t seed);
  [[nodiscard]] std::uint64_t operator[](std::uint64_t index) const;

 private:
  std::uint64_t size_;
  std::uint64_t seed_;
  unsigned half_bits_ = 1;
};

// What was asked or told, and the results; a failure counts as infinitely slow.
class Ledger {
 public:
  // True the first time: nobody else may ask it from then on.
  bool claim(Candidate candidate) { return results_.try_emplace(candidate, pending_mark).second; }
  [[nodiscard]] bool claimed(Candidate candidate) const { return results_.contains(candidate); }
  // True if it is news: of two results for one candidate the first stands.
  bool record(const Observation& observation);
  // The fastest so far; nothing before the first success.
  [[nodiscard]] std::optional<Candidate> best() const noexcept { return best_; }
  [[nodiscard]] double best_seconds() const noexcept { return best_seconds_; }

 private:
  static constexpr double pending_mark = -1;

  std::unordered_map<Candidate, double> results_;
  std::optional<Candidate> best_;
  double best_seconds_ = std::numeric_limits<double>::infinity();
};

// Unclaimed candidates in random order, each once, to the end of the space.
class RandomOrder {
 public:
  RandomOrder(std::uint64_t size, std::uint64_t seed) : size_(size), order_(size, seed) {}
  // Claims it.
  std::optional<Candidate> next(Ledger& ledger);

 private:
  std::uint64_t size_;
  std::uint64_t at_ = 0;
  Permutation order_;
};

// Up to `count` candidates, each from `next()`, an std::optional<Candidate>; fewer once it has none.
template <class Next>
std::vector<Candidate> up_to(std::size_t count, const Next& next) {
  std::vector<Candidate> result;
  while (result.size() < count) {
    const std::optional<Candidate> candidate = next();
    if (!candidate) break;
    result.push_back(*candidate);
  }
  return result;
}

// A candidate's predicted cost; nothing when its member has no prior or the prior fails for it.
std::optional<double> predicted(const SearchSpace& space, Candidate candidate);
[[nodiscard]] bool has_prior(const SearchSpace& space);

// Up to `most` candidates by predicted cost, best first, those without one last; all of the space when
// it has at most `most`, else a random sample.
std::vector<Candidate> ranked(const SearchSpace& space, std::size_t most, std::uint64_t seed);

}  // namespace cudadent
