#include "cli/report_parts.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/language/value.h"

namespace cudadent::cli {

std::string problem_id(std::size_t index) { return fmt::format("problem-{}", index + 1); }

std::vector<double> medians_of(const std::vector<TrialRecord>& trials) {
  std::vector<double> medians;
  for (const auto& record : trials)
    if (record.trial.status == TrialStatus::ok) medians.push_back(record.trial.median);
  return medians;
}

std::int64_t failures_of(const ProblemReport& report) {
  return std::count_if(report.trials.begin(), report.trials.end(),
                       [](const auto& record) { return record.trial.status != TrialStatus::ok; });
}

double intensity_of(const ProblemReport& report) {
  return report.flops > 0 && report.bytes > 0 ? report.flops / report.bytes : 0;
}

double roof_share(const ProblemReport& report) {
  const double seconds = report.best_seconds(),
               roof = report.roofs.attainable(intensity_of(report));
  if (seconds <= 0) return 0;
  if (intensity_of(report) > 0) return roof > 0 ? report.flops / seconds / roof : 0;
  return report.bytes > 0 && report.roofs.memory.rate > 0
             ? report.bytes / seconds / report.roofs.memory.rate
             : 0;
}

std::string configuration_text(const std::string& kernel_template, const Values& configuration) {
  return fmt::format("{} {}", kernel_template, to_text(configuration));
}

std::string times_text(double factor) { return factor > 0 ? fmt::format("{:.2f}×", factor) : "–"; }

std::string share_text(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string minute_of(std::string time) {
  if (time.size() > 16) time.resize(16);
  std::replace(time.begin(), time.end(), 'T', ' ');
  return time;
}

Cell number_cell(const std::string& text, double order) { return {text, order, {}}; }

}  // namespace cudadent::cli
