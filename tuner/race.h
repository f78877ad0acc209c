// The final comparison: entrants run in turns, round after round, until their order is clear.
#pragma once

#include <cstddef>
#include <vector>

namespace cudadent {

// Entrants are compared pairwise within rounds, so that a drift of the clock hits each alike. One that is
// slower than the leader with a confidence of 99 % (one-sided t test on the logarithms of the rounds'
// ratios) leaves; one that is slower by less than `indifference` with that confidence leaves too: it does
// not matter which of the two wins. The test is looked at after every round, so the confidence of the whole
// race is a little lower.
//
// Who wins and by how much are one statistic, slowdown(), which orders all entrants, also those that left
// earlier: whatever is reported of the others, none is faster than the winner. (The winner was once the lowest
// median, and the others' slowdowns means of ratios: on a busy machine the two disagreed.)
class Race {
 public:
  struct Rules {
    double indifference = 0.005;  // of the leader's time
    std::size_t least_rounds = 3;
    std::size_t most_rounds = 40;
  };

  explicit Race(std::size_t entrants) : Race(entrants, Rules()) {}
  Race(std::size_t entrants, Rules rules);

  // Who runs in the next round, in a fixed order; empty when everyone has withdrawn.
  [[nodiscard]] const std::vector<std::size_t>& running() const noexcept { return running_; }
  // A round: `turn` gives the seconds of an entrant, an std::optional<double>, or nothing when it cannot
  // run any more: then it withdraws. A round in which nobody could run does not count.
  template <class Turn>
  void run_round(const Turn& turn) {
    std::vector<double> seconds;
    std::vector<std::size_t> failed;
    for (const std::size_t entrant : running_)
      if (const auto figure = turn(entrant))
        seconds.push_back(*figure);
      else
        failed.push_back(entrant);
    for (const std::size_t entrant : failed) withdraw(entrant);
    if (!seconds.empty()) add_round(seconds);
  }
  // Seconds of everyone in running(), in that order.
  void add_round(const std::vector<double>& seconds);
  // One that cannot run any more: it never wins. When it was the last, those it had beaten come back.
  void withdraw(std::size_t entrant);

  [[nodiscard]] std::size_t rounds() const noexcept { return rounds_; }
  // One is left, or the rounds are used up.
  [[nodiscard]] bool decided() const noexcept;
  // The fastest of all that have not withdrawn. There must be one, with a round.
  [[nodiscard]] std::size_t leader() const;
  [[nodiscard]] double median_seconds(std::size_t entrant) const;
  // How many times slower than the leader, at least 1 for who has not withdrawn; 0 when it ran no round.
  [[nodiscard]] double slowdown(std::size_t entrant) const;

 private:
  struct Difference {
    double mean = 0, error = 0;  // of log(seconds / leader's seconds), and its standard error
    std::size_t rounds = 0;
  };
  [[nodiscard]] Difference difference(std::size_t entrant, std::size_t leader) const;
  // Keeps paces_ true to seconds_.
  void tell_paces();
  // The one with the least pace of `entrants`, of which one must have run.
  [[nodiscard]] std::size_t fastest(const std::vector<std::size_t>& entrants) const;
  void drop_the_beaten();

  Rules rules_;
  std::vector<std::vector<double>> seconds_;  // by entrant, from round 0 on
  std::vector<std::size_t> running_;
  std::vector<bool> withdrawn_;
  // Logarithms of seconds, free of what the rounds did to all that ran in them; infinite before the first.
  std::vector<double> paces_;
  std::size_t rounds_ = 0;
};

}  // namespace cudadent
