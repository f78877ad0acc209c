// What a tuning run is about: it stays the same from the first stage to the last.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "tuner/tuner.h"

namespace cudadent {

inline constexpr std::string_view time_objective = "seconds";  // as TuneOptions::objective

struct TuningTask {
  using Clock = std::chrono::steady_clock;

  // All outlive this.
  TuningTask(const TuningContext& run_context, const OperatorEntry& op, const Problem& wanted,
             const TuneOptions& wishes)
      : context(run_context),
        entry(op),
        problem(wanted),
        options(wishes),
        device(context.backend.device()),
        record(problem_record(problem, device)) {}

  [[nodiscard]] bool cancelled() const { return options.cancelled && options.cancelled(); }
  // Whether what is searched for is the least time. The priors predict that, and only it can be raced for.
  [[nodiscard]] bool is_for_time() const { return options.objective == time_objective; }
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
};

}  // namespace cudadent
