// When the search of a tuning run is to stop.
#pragma once

#include <set>
#include <string>

#include "tuner/trial_log.h"

namespace cudadent {

inline constexpr double final_share = 0.1;  // of a run's time is for the comparison of the best

class SearchLimits {
 public:
  // All outlive this.
  SearchLimits(const TuningTask& task, const RunSpace& space, const TrialLog& log,
               const Strategy& strategy, const TuneResult& result)
      : task_(task), space_(space), log_(log), strategy_(strategy), result_(result) {}

  // A candidate begins to be compiled, and is handed out. The first ones, compiled while the problem is laid out, are
  // measured in overtime.
  void begin(Candidate candidate) {
    if (space_.is_first(candidate)) first_under_way_.insert(candidate);
  }
  void end(Candidate candidate) { first_under_way_.erase(candidate); }

  // Until the final comparison, which gets the last part of the budget. Seconds; infinite without one.
  [[nodiscard]] double time_left() const;
  [[nodiscard]] bool out_of_time() const { return time_left() <= 0; }
  // Whether one that is handed out when the time is over is to be measured.
  [[nodiscard]] bool is_worth_overtime(Candidate candidate) const;
  // To begin with another candidate, as long as they took to compile so far: a run that is over waits for those
  // under way.
  [[nodiscard]] bool too_late() const;
  // Why to stop; empty to go on. No budget is too short for the defaults and what would be launched without
  // tuning: who asks for little time must not get something slower than that, or nothing. What else was compiled
  // while the problem was laid out is measured in overtime.
  [[nodiscard]] std::string stop_reason() const;

 private:
  [[nodiscard]] bool overtime_is_over() const;

  const TuningTask& task_;
  const RunSpace& space_;
  const TrialLog& log_;
  const Strategy& strategy_;
  const TuneResult& result_;
  std::set<Candidate> first_under_way_;
};

}  // namespace cudadent
