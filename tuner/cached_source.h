// The configuration source of a Runtime: what the store knows, else what the miss policy says.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "runtime/base/turns.h"
#include "runtime/launch/configuration_source.h"
#include "tuner/tuner.h"

namespace cudadent {

struct MissPolicy {
  OnMiss on_miss = OnMiss::tune;
  TuneOptions tuning;            // for OnMiss::tune
  double wait_for_others = 600;  // seconds, while another process tunes the problem
  // For OnMiss::background: sees to it that the problem is tuned, and returns at once.
  std::function<void(const OperatorEntry&, const Problem&)> tune_aside = nullptr;
};

// Why a stored winner cannot be launched for the problem, whatever it measured: its template is gone, has
// changed or does not fit, or its configuration is not valid; empty when it can.
std::string why_outdated(const OperatorEntry& entry, const Problem& problem,
                         const WinnerRecord& winner, const Device& device);

// Safe from many threads. A tuning key is tuned by one of them at a time, and so are all keys: candidates of two
// runs would disturb each other's timing. What is known is found meanwhile.
class CachedSource : public ConfigurationSource {
 public:
  CachedSource(TuningContext context, MissPolicy policy)
      : context_(std::move(context)), policy_(std::move(policy)) {}

  Choice choose(const OperatorEntry& entry, const Problem& problem) override;

  // The stored winner of the problem's tuning key, if its template is unchanged and its configuration is
  // valid for this very problem.
  std::optional<Choice> known(const OperatorEntry& entry, const Problem& problem);

  // Tunes the problem's representative, or itself if that winner is not valid for it, unless another thread or
  // process is at it: then waits for its winner. Nothing when another process takes longer than the policy
  // allows, and when this very thread is at it (a callback launches what is being tuned). Throws what
  // cudadent::tune() throws, and Error(cancelled) when that comes while waiting.
  std::optional<Choice> tuned(const OperatorEntry& entry, const Problem& problem,
                              const TuneOptions& options);

  // cudadent::tune() when it is this thread's turn. Throws what tuned() throws.
  TuneResult tune(const OperatorEntry& entry, const Problem& problem, const TuneOptions& options);

  // What to launch without tuning: of the winners of neighbouring keys and near problems, also of other devices of
  // the architecture, the defaults, and what priors promise most of, the one judged cheapest (judge.h). Throws
  // Error(unsupported).
  Choice fallback(const OperatorEntry& entry, const Problem& problem);

 private:
  Turns::Turn turn_of_key(const ProblemRecord& problem, const TuneOptions& options);
  TuneResult run(const OperatorEntry& entry, const Problem& problem, const TuneOptions& options);
  [[nodiscard]] bool does_for(const Choice& choice, const Problem& problem) const;
  Choice choice_by_tuning(const OperatorEntry& entry, const Problem& problem,
                          const TuneOptions& options);
  std::optional<Choice> usable(const OperatorEntry& entry, const Problem& problem,
                               const WinnerRecord& winner, Provenance provenance) const;

  TuningContext context_;
  MissPolicy policy_;
  Turns keys_;  // that are looked after
  Turns runs_;  // on the device
};

}  // namespace cudadent
