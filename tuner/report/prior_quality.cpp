#include "tuner/report/prior_quality.h"

#include <algorithm>
#include <cmath>

#include "tuner/cost_model.h"
#include "tuner/statistics.h"

namespace cudadent {

namespace {

PriorQuality quality_of(const KernelTemplate& kernel, const std::vector<TrialRecord>& trials,
                        const Problem& problem, const Values& device_facts) {
  const CostModel predicted_cost(kernel, problem, device_facts);
  std::vector<double> predicted, measured, ratios;
  for (const auto& record : trials) {
    const Trial& trial = record.trial;
    if (trial.status != TrialStatus::ok || record.template_hash != kernel.hash) continue;
    const double cost = predicted_cost(trial.configuration);
    if (!std::isfinite(cost) || trial.median <= 0) continue;
    predicted.push_back(cost);
    measured.push_back(trial.median);
    if (cost > 0) ratios.push_back(trial.median / cost);
  }
  if (predicted.empty()) return {.kernel_template = kernel.name};
  const auto chosen = std::min_element(predicted.begin(), predicted.end()) - predicted.begin();
  return {.kernel_template = kernel.name,
          .trials = static_cast<std::int64_t>(predicted.size()),
          .correlation = rank_correlation(predicted, measured),
          .first_choice = *std::min_element(measured.begin(), measured.end()) /
                          measured[static_cast<std::size_t>(chosen)],
          .over_predicted = median(ratios)};
}

}  // namespace

std::vector<PriorQuality> prior_qualities(const std::vector<TrialRecord>& trials,
                                          const OperatorEntry& entry, const Problem& problem,
                                          const Values& device_facts) {
  std::vector<PriorQuality> qualities;
  for (const auto& kernel : entry.templates) {
    if (!kernel->prior) continue;
    auto quality = quality_of(*kernel, trials, problem, device_facts);
    if (quality.trials >= 2) qualities.push_back(std::move(quality));
  }
  return qualities;
}

}  // namespace cudadent
