// Everything a report tells of one problem, collected out of the database.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/store.h"
#include "runtime/language/device.h"
#include "runtime/operators/template_library.h"
#include "tuner/report/prior_quality.h"
#include "tuner/report/roofline.h"
#include "tuner/report/trial_figures.h"

namespace cudadent {

struct ProblemReport {
  ProblemRecord problem;
  std::string data_type;               // what "dtype" is; empty when the problem has none
  std::optional<WinnerRecord> winner;  // of its tuning key
  bool winner_is_shared = false;       // the winner was found for another problem of the key
  std::vector<TrialRecord> trials;     // comparable ones, oldest first
  std::int64_t left_out = 0;           // trials of older templates, compilers or methods
  std::vector<RunRecord> runs;         // oldest first
  double flops = 0, bytes = 0;         // 0 unknown
  std::vector<PriorQuality> priors;    // of templates as they are now
  Roofs roofs;

  // Seconds of the winner, if it was found for this problem, else of the best trial; 0 without either.
  [[nodiscard]] double best_seconds() const;
  // Times the winner is faster than the default in the same comparison; 0 unknown.
  [[nodiscard]] double speedup() const;
};

struct ReportScope {
  std::string op;           // empty: all
  Values values;            // problems that have every one of these
  std::string device_kind;  // empty: all
};

// The problems in the database that have trials or are a winner's, by operator, kind of device and in
// the order they were first tuned. FLOP and bytes come from the runs or, for operators in `library`,
// from the manifest; facts about devices from the runs or from `devices`. Throws
// Error(invalid_argument) for an op that neither the database nor the library knows, Error(not_tuned)
// when there is nothing to report.
std::vector<ProblemReport> report_problems(Store& store, TemplateLibrary& library,
                                           const std::vector<Device>& devices,
                                           const ReportScope& scope);

}  // namespace cudadent
