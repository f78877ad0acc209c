// The configuration source of a Runtime: what the store knows, else what the miss policy says.
#pragma once

#include "runtime/configuration_source.h"
#include "tuner/tuner.h"

namespace cudadent {

class CachedSource : public ConfigurationSource {
 public:
  CachedSource(TuningContext context, OnMiss on_miss, TuneOptions tuning)
      : context_(std::move(context)), on_miss_(on_miss), tuning_(std::move(tuning)) {}

  Choice choose(const OperatorEntry& entry, const Problem& problem) override;

  // The stored winner of the problem's tuning key, if its template is unchanged and its configuration is
  // valid for this very problem.
  std::optional<Choice> known(const OperatorEntry& entry, const Problem& problem);
  // The winner of the nearest problem that differs in dimensions only, under the same condition.
  std::optional<Choice> nearest(const OperatorEntry& entry, const Problem& problem);
  // The default configuration of the template whose prior promises most. Throws Error(unsupported).
  Choice defaulted(const OperatorEntry& entry, const Problem& problem);

 private:
  std::optional<Choice> usable(const OperatorEntry& entry, const Problem& problem,
                               const WinnerRecord& winner, Provenance provenance) const;

  TuningContext context_;
  OnMiss on_miss_;
  TuneOptions tuning_;
};

}  // namespace cudadent
