// Search guided by a model of what has been measured: the strategies `surrogate` and `auto`.
#pragma once

#include <unordered_map>
#include <vector>

#include "tuner/strategies/features.h"
#include "tuner/strategies/gaussian_process.h"
#include "tuner/strategies/sampling.h"

namespace cudadent {

// A Gaussian process predicts a bounded measure of each candidate's time; asked for is what could,
// optimistically, be the fastest. Of a large space it looks at a pool: a random sample, what the prior
// likes, and the surroundings of the best so far.
//
// With `prior` on, the beginning includes the prior's favourites, at least one of every template, and
// as far as the prior agrees with what was measured the model is about the difference to it.
class Surrogate : public Strategy {
 public:
  struct Options {
    bool prior = false;
  };

  Surrogate(const SearchSpace& space, std::uint64_t seed, Options options);

  std::vector<Candidate> ask(std::size_t count) override;
  void tell(const Observation& observation) override;
  [[nodiscard]] bool converged() const override;

 private:
  struct Row {  // what was asked or told
    Candidate candidate = 0;
    double log_seconds = 0;  // of a success
    float prior = 0;
    bool told = false, failed = false;
  };
  // The measure that the model is about: small is fast, and what is slow differs little.
  struct Measure {
    double best = 0, highest = 0;  // logarithms of seconds
    double mean = 0, deviation = 1;
    double slope = 0;  // of the prior

    [[nodiscard]] double raw(double log_seconds) const;
    [[nodiscard]] double of(const Row& row) const;
  };

  std::optional<Candidate> next();
  [[nodiscard]] bool beginning() const;
  std::optional<Candidate> favourite();
  std::optional<Candidate> most_promising();

  void choose_favourites();
  void add_row(Candidate candidate);
  void add_to_model(std::size_t row);
  void add_to_pool(const std::vector<Candidate>& candidates);
  void add_surroundings(Candidate candidate, std::size_t walks);
  void add_sample(std::size_t count);
  void renew_pool();
  void rebuild(const std::vector<Candidate>& pool);
  void refit(const Measure& measure);
  [[nodiscard]] Points described(const std::vector<Candidate>& candidates) const;
  float prior_of(Candidate candidate);
  [[nodiscard]] Measure measure() const;
  [[nodiscard]] double value_of(const Row& row, const Measure& measure) const;
  [[nodiscard]] std::vector<std::size_t> told_rows(std::size_t most) const;
  // By how optimistic the model is about them.
  [[nodiscard]] std::vector<Candidate> best_of_pool(std::size_t most) const;

  const SearchSpace& space_;
  bool uses_prior_;
  Ledger ledger_;
  Random random_;
  RandomOrder anywhere_;
  Features features_;

  std::vector<Candidate> favourites_;  // of the prior
  std::size_t next_favourite_ = 0;
  double prior_centre_ = 0, prior_spread_ = 1;  // of the logarithm of its costs
  std::unordered_map<Candidate, float>
      priors_;  // asked so far: much of a pool is in the next one too

  std::vector<Row> rows_;
  std::unordered_map<Candidate, std::size_t> row_of_;
  std::size_t told_ = 0, successes_ = 0;
  std::size_t last_gain_ = 0;  // how many had been told when the best was last improved
  std::size_t next_fit_ = 0;   // how many must have been told

  std::vector<std::size_t> modelled_;  // rows, in the order in which the model got them
  std::vector<Candidate> pool_;
  std::vector<float> pool_prior_;
  std::vector<bool> pool_claimed_;
  std::unordered_map<Candidate, std::size_t> in_pool_;
  Kernel kernel_;
  Predictor predictor_;
  std::vector<float> mean_, deviation_;  // of the pool
  double possible_gain_ = 1;             // share of the best time that the model expects to save
};

}  // namespace cudadent
