#include "tuner/cached_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/specialization.h"
#include "runtime/value.h"

namespace cudadent {

namespace {

std::shared_ptr<const KernelTemplate> find_template(const OperatorEntry& entry,
                                                    const std::string& name) {
  for (const auto& kernel : entry.templates)
    if (kernel->name == name) return kernel;
  return nullptr;
}

// Distance in log-shape; nothing when the problems differ in more than their dimensions.
std::optional<double> distance(const OperatorManifest& op, const Values& a, const Values& b) {
  double sum = 0;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    if (other == b.end()) return std::nullopt;
    const bool is_dimension =
        std::find(op.dimensions.begin(), op.dimensions.end(), name) != op.dimensions.end();
    if (!is_dimension) {
      if (value != other->second) return std::nullopt;
      continue;
    }
    const auto log_extent = [&](const Value& extent) {
      return std::log2(static_cast<double>(as_integer(extent, name)) + 1);
    };
    sum += std::abs(log_extent(value) - log_extent(other->second));
  }
  return sum;
}

}  // namespace

std::optional<Choice> CachedSource::usable(const OperatorEntry& entry, const Problem& problem,
                                           const WinnerRecord& winner,
                                           Provenance provenance) const {
  const Device& device = context_.backend.device();
  auto kernel = find_template(entry, winner.kernel_template);
  if (kernel == nullptr || kernel->hash != winner.template_hash ||
      !why_unfit(*kernel, problem, device).empty() ||
      !why_invalid(*kernel, problem, winner.configuration, device).empty())
    return std::nullopt;
  return Choice{std::move(kernel), winner.configuration, winner.seconds, provenance};
}

std::optional<Choice> CachedSource::known(const OperatorEntry& entry, const Problem& problem) {
  const auto record = problem_record(problem, context_.backend.device());
  const auto winner = context_.store.winner(record.op, record.tuning_key, record.device_kind);
  return winner ? usable(entry, problem, *winner, Provenance::cached) : std::nullopt;
}

std::optional<Choice> CachedSource::nearest(const OperatorEntry& entry, const Problem& problem) {
  std::vector<std::pair<double, WinnerRecord>> ranking;
  for (auto& winner : context_.store.winners(problem.op->name, context_.backend.device().kind())) {
    const Values other = values_from_json(nlohmann::json::parse(winner.problem.problem_key));
    if (const auto far = distance(*problem.op, problem.values, other))
      ranking.emplace_back(*far, std::move(winner));
  }
  std::stable_sort(ranking.begin(), ranking.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [far, winner] : ranking)
    if (auto choice = usable(entry, problem, winner, Provenance::nearest)) return choice;
  return std::nullopt;
}

Choice CachedSource::defaulted(const OperatorEntry& entry, const Problem& problem) {
  const Device& device = context_.backend.device();
  const SearchSpace space = search_space(entry, problem, device, {});
  std::optional<Choice> best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (const auto& member : space.members()) {
    auto configuration = default_configuration(*member.kernel_template, problem, device);
    if (!configuration) continue;
    const double cost =
        member.prior ? member.prior(*configuration) : std::numeric_limits<double>::infinity();
    if (best && !(cost < best_cost)) continue;
    best = Choice{member.kernel_template, std::move(*configuration), 0, Provenance::defaulted};
    best_cost = cost;
  }
  if (!best)
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: no valid configuration on {}", problem.describe(), device.name));
  return *best;
}

Choice CachedSource::choose(const OperatorEntry& entry, const Problem& problem) {
  if (auto choice = known(entry, problem)) return *choice;
  switch (on_miss_) {
    case OnMiss::tune: {
      const TuneResult result = tune(context_, entry, problem, tuning_);
      return {find_template(entry, result.winner.kernel_template), result.winner.configuration,
              result.winner.seconds, Provenance::tuned};
    }
    case OnMiss::background:
    case OnMiss::nearest:
      if (auto choice = nearest(entry, problem)) return *choice;
      return defaulted(entry, problem);
    case OnMiss::fail:
      break;
  }
  throw Error(ErrorCode::not_tuned,
              fmt::format("{} has no winner in {}, and the miss policy is to fail. Tune it: "
                          "cudadent-tune tune {}",
                          problem.describe(), context_.store.file().string(), problem.describe()));
}

}  // namespace cudadent
