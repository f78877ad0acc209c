// What a tuning run compiles next, ahead of what is measured: its first candidates, then what the search asks for.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "tuner/compile_pool.h"
#include "tuner/prior_check.h"
#include "tuner/search_limits.h"
#include "tuner/trial_log.h"

namespace cudadent {

class CandidateQueue {
 public:
  // Tells `strategy`, a new one, what the log has, and begins to compile, unless the run is over already. All
  // outlive this.
  CandidateQueue(const TuningTask& task, const RunSpace& space, Workshop& workshop,
                 const TrialLog& log, SearchLimits& limits, Strategy& strategy, TuneResult& result);

  // Keeps the cores busy. False when there is nothing left to try.
  bool refill();
  // Those that compile, and those that are done and not yet handed out.
  [[nodiscard]] std::size_t under_way() const { return unplanned_.size() + pool_.under_way(); }
  // One that is done; waits a moment, so that a cancellation is heard.
  std::optional<Compiled> next();
  // Of a candidate handed out: a small number for what was asked for early.
  [[nodiscard]] std::size_t place_of(Candidate candidate) const { return places_.at(candidate); }
  // Tells the strategy and the check of the prior about a trial in the log.
  void learn(Candidate candidate, const Trial& trial);

 private:
  [[nodiscard]] std::size_t wanted() const;
  bool rule_out(Candidate candidate);
  void submit(Candidate candidate);
  PriorCheck& check_of(const SearchSpace::Member& member);

  const TuningTask& task_;
  const RunSpace& space_;
  const TrialLog& log_;
  SearchLimits& limits_;
  Strategy& strategy_;
  TuneResult& result_;
  CompilePool pool_;
  const std::size_t ahead_;                  // so many are under way
  std::vector<Candidate> queue_;             // chosen and not yet begun
  std::deque<Compiled> unplanned_;           // what would be launched is not valid: they fail
  std::map<Candidate, std::size_t> places_;  // of all that were ever begun
  std::vector<PriorCheck> prior_checks_;     // by member of the space
};

}  // namespace cudadent
