// What the stages of a tuning run share: the problem, where candidates run, and what is known of them.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/operators/specialization.h"
#include "tuner/measurer.h"
#include "tuner/run_binaries.h"
#include "tuner/tuner.h"

namespace cudadent {

// The stages, in order: enumerate(), find_first_candidates() (first_candidates.h), open_backend(),
// search_candidates() (candidate_search.h), which calls lay_out(), and choose_winner() (finals.h).
struct TuningRun {
  using Clock = std::chrono::steady_clock;

  // All outlive this.
  TuningRun(const TuningContext& run_context, const OperatorEntry& op, const Problem& wanted,
            const TuneOptions& wishes);

  // The space. Throws what search_space() throws.
  void enumerate();
  // The process that candidates run in. Throws Error(device_unavailable, compiler_unavailable).
  void open_backend();
  // Lays the problem out there.
  void lay_out();

  [[nodiscard]] bool cancelled() const { return options.cancelled && options.cancelled(); }
  [[nodiscard]] bool lost() const { return measurer && measurer->lost(); }
  [[nodiscard]] bool is_default(Candidate candidate) const;
  // A default, or what would be launched without tuning: measured however short the time.
  [[nodiscard]] bool is_essential(Candidate candidate) const {
    return candidate == untuned || is_default(candidate);
  }
  // The candidate of a recorded configuration, where its template is unchanged and has it.
  [[nodiscard]] std::optional<Candidate> find(const std::string& template_hash,
                                              const Values& configuration) const;
  // Throws Error for what its constraints allow, but cannot be launched.
  [[nodiscard]] Specialization specialization(Candidate candidate) const;

  // A trial that took too long is a fact only when an earlier run saw that, too.
  void doubt(Candidate candidate, Trial& trial) const;
  // `binary` is null for what did not compile.
  void store(Candidate candidate, const std::string& specialization_hash, const Binary* binary,
             const Trial& trial);
  // Says, once, that the machine failed and not the candidates; nothing when it did not.
  void warn_of_disturbances() const;
  void report(const char* phase) const;
  void log(LogLevel level, const std::string& message) const {
    if (context.log) context.log(level, message);
  }

  const TuningContext& context;
  const OperatorEntry& entry;
  const Problem& problem;
  const TuneOptions& options;
  const Device& device;
  const ProblemRecord record;
  const Clock::time_point start = Clock::now();

  Forgiving remember{context.log};
  RunBinaries binaries{context.store, remember};
  std::unique_ptr<Backend> worker;  // null: in this process
  Backend* backend = nullptr;       // where candidates run
  std::string compiler;
  std::optional<Measurer> measurer;
  std::optional<SearchSpace> space;
  std::optional<Candidate> untuned;         // what would be launched without tuning
  std::vector<Candidate> defaults, first;   // `first`: these, then what else is tried first
  std::map<Candidate, std::size_t> trials;  // of each candidate: index into result.trials
  std::set<Candidate> timed_out_before;     // in an earlier run
  double best = 0;                          // seconds; 0 before the first success
  TuneResult result;
};

}  // namespace cudadent
