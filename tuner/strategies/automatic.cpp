#include <algorithm>
#include <cmath>

#include "tuner/strategies/local_search.h"
#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

constexpr std::size_t most_ranked = 32'768;  // candidates the prior is asked about
constexpr std::size_t favourites = 12;
constexpr std::size_t samples = 16;  // at the beginning, favourites included
constexpr std::size_t climbs = 3;    // from the best of the beginning

// Begins with what the prior likes, at least one of every template, and random ones in between; then
// local search from the best few.
class Automatic : public Strategy {
 public:
  Automatic(const SearchSpace& space, std::uint64_t seed)
      : random_(seed),
        anywhere_(space.size(), random_.next()),
        search_(space, ledger_, random_.next()) {
    const std::vector<Candidate> liked = liked_by_prior(space);
    for (std::size_t i = 0; i < liked.size(); ++i) {
      beginning_.emplace_back(liked[i]);
      if (i % 2 == 1) beginning_.emplace_back(std::nullopt);
    }
    beginning_.resize(std::max(samples, beginning_.size()));
  }

  std::vector<Candidate> ask(std::size_t count) override {
    std::vector<Candidate> result;
    while (result.size() < count) {
      const auto candidate = next();
      if (!candidate) break;
      result.push_back(*candidate);
    }
    return result;
  }

  void tell(const Observation& observation) override {
    if (!ledger_.record(observation)) return;
    const double seconds = observation.seconds.value_or(infinite);
    if (searching_) {
      search_.learn(observation.candidate, seconds);
    } else if (std::isfinite(seconds)) {
      results_.emplace_back(seconds, observation.candidate);
    }
  }

 private:
  static constexpr double infinite = std::numeric_limits<double>::infinity();

  std::optional<Candidate> next() {
    while (at_ < beginning_.size()) {
      const std::optional<Candidate> liked = beginning_[at_++];
      if (!liked) return anywhere_.next(ledger_);
      if (ledger_.claim(*liked)) return liked;
    }
    // A few results may still be missing; random ones pass the time until most are there.
    if (!searching_ && ledger_.pending_count() * 4 > beginning_.size()) {
      return anywhere_.next(ledger_);
    }
    if (!searching_) begin_search();
    return search_.next();
  }

  void begin_search() {
    searching_ = true;
    std::sort(results_.begin(), results_.end());
    for (std::size_t i = 0; i < std::min(climbs, results_.size()); ++i) {
      search_.add_start(results_[i].second, results_[i].first);
    }
  }

  // The prior's best, but no two next to one another, and the best of each template.
  std::vector<Candidate> liked_by_prior(const SearchSpace& space) {
    std::vector<Candidate> result;
    if (space.size() == 0 || !has_prior(space)) return result;
    std::vector<Candidate> near;
    std::vector<bool> seen(space.members().size(), false);
    for (const Candidate candidate : ranked(space, most_ranked, random_.next())) {
      const auto member =
          static_cast<std::size_t>(&space.member_of(candidate) - space.members().data());
      const bool crowded = std::find(near.begin(), near.end(), candidate) != near.end();
      const bool wanted = !seen[member] || (result.size() < favourites && !crowded);
      if (!wanted) continue;
      seen[member] = true;
      result.push_back(candidate);
      const auto more = space.neighbours(candidate, Neighbourhood::adjacent);
      near.insert(near.end(), more.begin(), more.end());
    }
    return result;
  }

  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  LocalSearch search_;
  std::vector<std::optional<Candidate>> beginning_;  // nothing: a random one
  std::size_t at_ = 0;
  bool searching_ = false;
  std::vector<std::pair<double, Candidate>> results_;  // of the beginning
};

}  // namespace

std::unique_ptr<Strategy> make_automatic(const SearchSpace& space, std::uint64_t seed) {
  return std::make_unique<Automatic>(space, seed);
}

}  // namespace cudadent
