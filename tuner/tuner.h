// A tuning run: searches the configurations of every template that fits a problem, by measurement, and
// remembers every trial and the winner.
#pragma once

#include <cudadent/cudadent.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cache/store.h"
#include "runtime/backends/backend.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"
#include "tuner/search_space.h"

namespace cudadent {

struct TuningContext {
  Backend& backend;
  TemplateLibrary& library;
  Store& store;
  std::function<void(LogLevel, std::string_view)> log;  // may be empty
  // A backend for the same device in a process of its own, as TuneOptions::isolation asks; null, or no
  // function at all: candidates run in this process.
  std::function<std::unique_ptr<Backend>(const TuneOptions&)> open_worker = nullptr;
  // Whether a run that is cancelled remembers the best so far as the winner. False where nobody looks at how it
  // ended: then it throws Error(cancelled), and the next run goes on from its trials.
  bool cancelled_runs_have_winners = true;
};

// Throws Error: invalid_argument for options that make no sense (check_options), unsupported when no template
// fits or no configuration is valid, compile_failed, launch_failed or machine_failed when every candidate fails
// (detail() has the first log), compiler_unavailable, cancelled when that came before the first success.
TuneResult tune(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
                const TuneOptions& options);

// The problem as the store knows it.
ProblemRecord problem_record(const Problem& problem, const Device& device);

}  // namespace cudadent
