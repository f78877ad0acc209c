#include "tuner/race.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "tuner/statistics.h"

namespace cudadent {

namespace {

// Student's t at 99 %, one-sided, for 1, 2, … degrees of freedom; beyond the table it hardly falls.
double critical_t(std::size_t degrees) {
  constexpr std::array table{31.82, 6.965, 4.541, 3.747, 3.365, 3.143, 2.998, 2.896, 2.821, 2.764,
                             2.718, 2.681, 2.650, 2.624, 2.602, 2.583, 2.567, 2.552, 2.539, 2.528};
  return table[std::min(degrees, table.size()) - 1];
}

}  // namespace

Race::Race(std::size_t entrants, Rules rules)
    : rules_(rules),
      seconds_(entrants),
      running_(entrants),
      withdrawn_(entrants, false),
      paces_(entrants, std::numeric_limits<double>::infinity()) {
  std::iota(running_.begin(), running_.end(), std::size_t{0});
}

void Race::add_round(const std::vector<double>& seconds) {
  for (std::size_t i = 0; i < running_.size(); ++i) seconds_[running_[i]].push_back(seconds[i]);
  ++rounds_;
  tell_paces();
  if (rounds_ >= rules_.least_rounds) drop_the_beaten();
}

void Race::withdraw(std::size_t entrant) {
  withdrawn_[entrant] = true;
  std::erase(running_, entrant);
  if (!running_.empty()) return;
  for (std::size_t i = 0; i < withdrawn_.size(); ++i)
    if (!withdrawn_[i]) running_.push_back(i);
}

bool Race::decided() const noexcept {
  return running_.empty() || (running_.size() == 1 && rounds_ > 0) || rounds_ >= rules_.most_rounds;
}

std::size_t Race::leader() const {
  std::vector<std::size_t> able;
  for (std::size_t i = 0; i < withdrawn_.size(); ++i)
    if (!withdrawn_[i]) able.push_back(i);
  return fastest(able);
}

std::size_t Race::fastest(const std::vector<std::size_t>& entrants) const {
  return *std::min_element(entrants.begin(), entrants.end(),
                           [&](std::size_t a, std::size_t b) { return paces_[a] < paces_[b]; });
}

double Race::median_seconds(std::size_t entrant) const { return median(seconds_[entrant]); }

double Race::slowdown(std::size_t entrant) const {
  return seconds_[entrant].empty() ? 0 : std::exp(paces_[entrant] - paces_[leader()]);
}

// J. W. Tukey's median polish (Exploratory Data Analysis, 1977) of the table of logarithms: entrants by rounds,
// where those that left lack the later ones and those that withdrew are left out. Of two entrants it gives the median of the rounds' ratios.
void Race::tell_paces() {
  constexpr int sweeps = 10;              // it settles in three or four
  std::vector<std::vector<double>> rest;  // of each entrant, by round
  std::vector<double> paces(seconds_.size(), 0);
  for (std::size_t i = 0; i < seconds_.size(); ++i) {
    auto& logarithms = rest.emplace_back();
    if (withdrawn_[i]) continue;
    for (const double value : seconds_[i]) logarithms.push_back(std::log(value));
  }
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    for (std::size_t round = 0; round < rounds_; ++round) {
      std::vector<double> together;
      for (const auto& row : rest)
        if (round < row.size()) together.push_back(row[round]);
      const double common = median(together);
      for (auto& row : rest)
        if (round < row.size()) row[round] -= common;
    }
    for (std::size_t i = 0; i < rest.size(); ++i) {
      const double own = median(rest[i]);
      for (double& value : rest[i]) value -= own;
      paces[i] += own;
    }
  }
  for (std::size_t i = 0; i < paces.size(); ++i)
    if (!rest[i].empty()) paces_[i] = paces[i];
}

Race::Difference Race::difference(std::size_t entrant, std::size_t leader) const {
  // Everyone runs from the first round on: the rounds they share are the first ones.
  const std::size_t shared = std::min(seconds_[entrant].size(), seconds_[leader].size());
  if (shared == 0) return {};
  const auto count = static_cast<double>(shared);
  std::vector<double> logarithms;
  for (std::size_t i = 0; i < shared; ++i)
    logarithms.push_back(std::log(seconds_[entrant][i] / seconds_[leader][i]));
  const double mean = std::accumulate(logarithms.begin(), logarithms.end(), 0.0) / count;
  double squares = 0;
  for (const double value : logarithms) squares += (value - mean) * (value - mean);
  const double variance = shared > 1 ? squares / (count - 1) : 0;
  return {mean, std::sqrt(variance / count), shared};
}

void Race::drop_the_beaten() {
  const std::size_t first = fastest(running_);
  std::erase_if(running_, [&](std::size_t entrant) {
    if (entrant == first) return false;
    const Difference behind = difference(entrant, first);
    const double margin = critical_t(behind.rounds - 1) * behind.error;
    const bool slower = behind.mean > margin;
    const bool equal = std::abs(behind.mean) + margin < rules_.indifference;
    return slower || equal;
  });
}

}  // namespace cudadent
