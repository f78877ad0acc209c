#include "tuner/report/trial_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

namespace cudadent {

namespace {

bool worked(const TrialRecord& record) {
  return record.trial.status == TrialStatus::ok && std::isfinite(record.trial.median) &&
         record.trial.median > 0;
}

// One group of logarithms of times for each value of a parameter.
using Groups = std::vector<std::vector<double>>;

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double squares_around(const std::vector<double>& values, double centre) {
  return std::accumulate(values.begin(), values.end(), 0.0, [&](double sum, double value) {
    return sum + (value - centre) * (value - centre);
  });
}

// Epsilon squared of a one-way analysis of variance: (between − (groups − 1) · mean square within) /
// total. It is about zero for a parameter that does nothing, however many values it has (T. L. Kelley,
// "An unbiased correlation ratio measure", 1935).
double explained_share(const Groups& groups) {
  std::vector<double> all;
  for (const auto& group : groups) all.insert(all.end(), group.begin(), group.end());
  if (groups.size() < 2 || all.size() <= groups.size()) return 0;
  const double total = squares_around(all, mean(all));
  if (total <= 0) return 0;
  double within = 0;
  for (const auto& group : groups) within += squares_around(group, mean(group));
  const auto group_count = static_cast<double>(groups.size());
  const double mean_within = within / (static_cast<double>(all.size()) - group_count);
  return std::clamp((total - within - (group_count - 1) * mean_within) / total, 0.0, 1.0);
}

ParameterEffect effect_of(const std::string& name, const std::vector<const TrialRecord*>& records,
                          double best) {
  std::map<Value, ValueEffect> by_value;
  for (const TrialRecord* record : records) {
    const auto found = record->trial.configuration.find(name);
    if (found == record->trial.configuration.end()) continue;
    ValueEffect& effect = by_value[found->second];
    effect.value = found->second;
    if (worked(*record))
      effect.performance.push_back(best / record->trial.median);
    else
      ++effect.failed;
  }
  ParameterEffect result{.name = name};
  Groups groups;
  for (auto& [value, effect] : by_value) {
    std::sort(effect.performance.begin(), effect.performance.end());
    if (!effect.performance.empty()) {
      auto& group = groups.emplace_back();
      for (const double performance : effect.performance) group.push_back(std::log(performance));
    }
    result.values.push_back(std::move(effect));
  }
  result.importance = explained_share(groups);
  return result;
}

TemplateEffects effects_of(const std::string& kernel_template,
                           const std::vector<const TrialRecord*>& records) {
  TemplateEffects effects{.kernel_template = kernel_template,
                          .trials = static_cast<std::int64_t>(records.size())};
  std::set<std::string> names;
  for (const TrialRecord* record : records) {
    for (const auto& [name, value] : record->trial.configuration) names.insert(name);
    if (!worked(*record))
      ++effects.failed;
    else if (effects.best == 0 || record->trial.median < effects.best)
      effects.best = record->trial.median;
  }
  for (const std::string& name : names) {
    ParameterEffect effect = effect_of(name, records, effects.best);
    if (effect.values.size() > 1) effects.parameters.push_back(std::move(effect));
  }
  std::stable_sort(effects.parameters.begin(), effects.parameters.end(),
                   [](const auto& a, const auto& b) { return a.importance > b.importance; });
  return effects;
}

}  // namespace

std::vector<TrialRecord> comparable_trials(std::vector<TrialRecord> trials) {
  if (trials.empty()) return trials;
  const std::string compiler = trials.back().compiler, measurement = trials.back().measurement;
  std::erase_if(trials, [&](const TrialRecord& record) {
    return record.compiler != compiler || record.measurement != measurement;
  });
  std::map<std::string, std::string> newest;  // hash by template: the last one stays
  for (const auto& record : trials) newest[record.trial.kernel_template] = record.template_hash;
  std::erase_if(trials, [&](const TrialRecord& record) {
    return record.template_hash != newest.at(record.trial.kernel_template);
  });
  return trials;
}

std::vector<std::string> figure_names(const std::vector<TrialRecord>& trials) {
  std::set<std::string> names;
  for (const auto& record : trials)
    for (const auto& [name, value] : record.trial.figures) names.insert(name);
  return {names.begin(), names.end()};
}

std::vector<Bin> logarithmic_histogram(const std::vector<double>& seconds, std::size_t bins) {
  std::vector<double> values;
  std::copy_if(seconds.begin(), seconds.end(), std::back_inserter(values),
               [](double value) { return std::isfinite(value) && value > 0; });
  if (values.empty() || bins == 0) return {};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  if (*low == *high) return {{*low, *high, static_cast<std::int64_t>(values.size())}};
  const double first = std::log(*low),
               width = (std::log(*high) - first) / static_cast<double>(bins);
  std::vector<Bin> histogram(bins);
  for (std::size_t i = 0; i < bins; ++i) {
    histogram[i].low = std::exp(first + width * static_cast<double>(i));
    histogram[i].high = std::exp(first + width * static_cast<double>(i + 1));
  }
  for (const double value : values) {
    const auto index = static_cast<std::size_t>(std::max(0.0, (std::log(value) - first) / width));
    ++histogram[std::min(index, bins - 1)].count;
  }
  return histogram;
}

std::map<std::string, std::int64_t, std::less<>> count_by_status(
    const std::vector<TrialRecord>& trials) {
  std::map<std::string, std::int64_t, std::less<>> counts;
  for (const auto& record : trials) ++counts[std::string(name_of(record.trial.status))];
  return counts;
}

std::vector<BestSoFar> best_so_far(const std::vector<TrialRecord>& trials) {
  std::vector<BestSoFar> curve;
  std::int64_t evaluation = 0;
  for (const auto& record : trials) {
    ++evaluation;
    if (worked(record) && (curve.empty() || record.trial.median < curve.back().seconds))
      curve.push_back({evaluation, record.trial.median});
  }
  if (!curve.empty() && curve.back().evaluation < evaluation)
    curve.push_back({evaluation, curve.back().seconds});
  return curve;
}

std::vector<TemplateEffects> parameter_effects(const std::vector<TrialRecord>& trials) {
  std::map<std::string, std::vector<const TrialRecord*>> by_template;
  for (const auto& record : trials) by_template[record.trial.kernel_template].push_back(&record);
  std::vector<TemplateEffects> effects;
  for (const auto& [name, records] : by_template) effects.push_back(effects_of(name, records));
  const auto order = [](const TemplateEffects& of) {
    return of.best > 0 ? of.best : std::numeric_limits<double>::infinity();
  };
  std::stable_sort(effects.begin(), effects.end(),
                   [&](const auto& a, const auto& b) { return order(a) < order(b); });
  return effects;
}

std::vector<std::size_t> evenly_spaced(std::size_t count, std::size_t limit) {
  std::vector<std::size_t> chosen;
  if (count <= limit || limit < 2) {
    chosen.resize(std::min(count, limit));
    std::iota(chosen.begin(), chosen.end(), std::size_t{0});
    return chosen;
  }
  for (std::size_t i = 0; i < limit; ++i) chosen.push_back(i * (count - 1) / (limit - 1));
  return chosen;
}

}  // namespace cudadent
