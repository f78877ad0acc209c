// What a tuning run knows of its candidates: the trials of this run and of earlier ones.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tuner/compile_pool.h"
#include "tuner/laboratory.h"
#include "tuner/run_space.h"

namespace cudadent {

class TrialLog {
 public:
  // Recalls what earlier runs measured for this very problem with the workshop's compiler and method, as far as it
  // says something about the configuration, and has the objective. All outlive this.
  TrialLog(const TuningTask& task, const RunSpace& space, Workshop& workshop, Forgiving& remember);

  [[nodiscard]] bool has(Candidate candidate) const { return places_.contains(candidate); }
  [[nodiscard]] Trial& at(Candidate candidate) { return trials_[places_.at(candidate)]; }
  [[nodiscard]] const Trial& at(Candidate candidate) const {
    return trials_[places_.at(candidate)];
  }
  // In the order they were made, those recalled first; and what each is a trial of.
  [[nodiscard]] const std::vector<Trial>& trials() const noexcept { return trials_; }
  [[nodiscard]] const std::vector<Candidate>& candidates() const noexcept { return candidates_; }
  [[nodiscard]] std::vector<Trial> take_trials() noexcept { return std::move(trials_); }

  // Of the objective; nothing for a trial that failed. Throws Error(invalid_argument) where the trial lacks it, or it
  // is not above 0.
  [[nodiscard]] std::optional<double> value(const Trial& trial) const;
  [[nodiscard]] double best() const noexcept { return best_; }  // value; 0 before the first success
  // The same in seconds; 0 where another objective is searched for.
  [[nodiscard]] double best_seconds() const { return task_.is_for_time() ? best_ : 0; }
  // The candidate that worked and has the least value; nothing when none worked.
  [[nodiscard]] std::optional<Candidate> best_candidate() const;
  [[nodiscard]] std::int64_t new_trials() const noexcept { return new_trials_; }
  // Trials of this run without 1 % of improvement.
  [[nodiscard]] std::int64_t since_improvement() const noexcept { return since_improvement_; }
  [[nodiscard]] bool has_essentials() const;

  // Keeps a trial of this run, in the store, too.
  void add(const Compiled& compiled, Trial trial);
  // Has a trial that was just added count for the best and for patience. Throws as value() does.
  void judge(const Trial& trial);
  // Stores a trial again that has changed. `binary` is null for what did not compile.
  void store(Candidate candidate, const std::string& specialization_hash, const Binary* binary);

  void report(const char* phase) const;
  // Says, once, that the machine failed and not the candidates; nothing when it did not.
  void warn_of_disturbances() const;

 private:
  void recall();
  void note(Candidate candidate, Trial trial);

  const TuningTask& task_;
  const RunSpace& space_;
  Workshop& workshop_;
  Forgiving& remember_;
  std::vector<Trial> trials_;
  std::vector<Candidate> candidates_;        // of trials_
  std::map<Candidate, std::size_t> places_;  // in trials_
  std::set<Candidate> timed_out_before_;     // in an earlier run
  double best_ = 0;
  std::int64_t new_trials_ = 0, since_improvement_ = 0;
};

}  // namespace cudadent
