#include "tuner/strategies/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cudadent {
namespace {

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
std::uint64_t scrambled(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

}  // namespace

std::uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15U;
  return scrambled(state_);
}

std::uint64_t Random::below(std::uint64_t bound) {
  // Numbers below 2^64 mod bound would favour small results.
  const std::uint64_t least = (0 - bound) % bound;
  std::uint64_t number = next();
  while (number < least) number = next();
  return number % bound;
}

double Random::uniform() { return static_cast<double>(next() >> 11U) * 0x1p-53; }

Permutation::Permutation(std::uint64_t size, std::uint64_t seed) : size_(size), seed_(seed) {
  const auto bits = static_cast<unsigned>(std::bit_width(size > 1 ? size - 1 : 1));
  half_bits_ = (bits + 1) / 2;
}

std::uint64_t Permutation::operator[](std::uint64_t index) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t mixed = scrambled(right + scrambled(seed_ + round)) & mask;
      const std::uint64_t before = left;
      left = right;
      right = before ^ mixed;
    }
    index = (left << half_bits_) | right;
  } while (index >= size_);
  return index;
}

bool Ledger::record(const Observation& observation) {
  const auto [entry, inserted] = results_.try_emplace(observation.candidate, pending_mark);
  if (entry->second != pending_mark) return false;
  const bool usable = observation.value && std::isfinite(*observation.value);
  entry->second = usable ? *observation.value : std::numeric_limits<double>::infinity();
  if (entry->second < best_seconds_) {
    best_seconds_ = entry->second;
    best_ = observation.candidate;
  }
  return true;
}

std::optional<Candidate> RandomOrder::next(Ledger& ledger) {
  while (at_ < size_) {
    const Candidate candidate = order_[at_++];
    if (ledger.claim(candidate)) return candidate;
  }
  return std::nullopt;
}

std::optional<double> predicted(const SearchSpace& space, Candidate candidate) {
  const SearchSpace::Member& member = space.member_of(candidate);
  if (!member.prior) return std::nullopt;
  const double cost = member.prior(member.space.configuration(candidate - member.first));
  return std::isnan(cost) ? std::nullopt : std::optional(cost);
}

bool has_prior(const SearchSpace& space) {
  const auto& members = space.members();
  return std::any_of(members.begin(), members.end(),
                     [](const auto& member) { return static_cast<bool>(member.prior); });
}

std::vector<Candidate> ranked(const SearchSpace& space, std::size_t most, std::uint64_t seed) {
  const bool all = space.size() <= most;
  const Permutation order(space.size(), seed);
  std::vector<std::pair<double, Candidate>> costs;
  const std::uint64_t count = all ? space.size() : most;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Candidate candidate = all ? i : order[i];
    const auto cost = predicted(space, candidate);
    costs.emplace_back(cost.value_or(std::numeric_limits<double>::infinity()), candidate);
  }
  std::sort(costs.begin(), costs.end());
  std::vector<Candidate> result;
  for (const auto& [cost, candidate] : costs) result.push_back(candidate);
  return result;
}

}  // namespace cudadent
