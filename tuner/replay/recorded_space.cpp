#include "tuner/replay/recorded_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "runtime/language/value.h"

namespace cudadent {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

// Values that are numbers by size; texts keep the order in which they came.
std::vector<ParameterSpec> parameters_of(const std::vector<const RecordedConfiguration*>& records) {
  std::vector<ParameterSpec> result;
  for (const auto& [name, value] : records.front()->configuration) result.push_back({name, {}});
  for (ParameterSpec& parameter : result) {
    std::map<std::string, bool> seen;
    for (const RecordedConfiguration* record : records) {
      const Value& value = record->configuration.find(parameter.name)->second;
      if (seen.emplace(to_literal(value), true).second) parameter.values.push_back(value);
    }
    std::stable_sort(parameter.values.begin(), parameter.values.end(),
                     [](const Value& a, const Value& b) {
                       if (!is_number(a) || !is_number(b)) return is_number(a) && !is_number(b);
                       return as_real(a, "value") < as_real(b, "value");
                     });
  }
  return result;
}

void check_names(const std::string& name,
                 const std::vector<const RecordedConfiguration*>& records) {
  const Values& first = records.front()->configuration;
  for (const RecordedConfiguration* record : records) {
    const Values& each = record->configuration;
    const bool same = std::equal(first.begin(), first.end(), each.begin(), each.end(),
                                 [](const auto& a, const auto& b) { return a.first == b.first; });
    if (same) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: configurations of one kernel must have the same parameters, but "
                            "there are '{}' and '{}'",
                            name, to_text(first), to_text(each)));
  }
}

TuningSpace::Point point_of(const std::vector<std::map<std::string, std::uint16_t>>& positions,
                            const Values& configuration) {
  TuningSpace::Point result;
  auto at = positions.begin();
  for (const auto& [name, value] : configuration) {
    result.push_back(at->find(to_literal(value))->second);
    ++at;
  }
  return result;
}

SearchSpace::Member member_of(const std::string& name,
                              const std::vector<const RecordedConfiguration*>& records,
                              std::vector<TuningSpace::Point>& points) {
  check_names(name, records);
  std::vector<ParameterSpec> parameters = parameters_of(records);
  std::vector<std::map<std::string, std::uint16_t>> positions;
  for (const ParameterSpec& parameter : parameters) {
    auto& of = positions.emplace_back();
    for (std::size_t i = 0; i < parameter.values.size(); ++i) {
      of.emplace(to_literal(parameter.values[i]), static_cast<std::uint16_t>(i));
    }
  }
  for (const RecordedConfiguration* record : records) {
    points.push_back(point_of(positions, record->configuration));
  }
  return {nullptr, TuningSpace(std::move(parameters), points), 0, {}};
}

using ByTemplate = std::map<std::string, std::vector<const RecordedConfiguration*>>;

}  // namespace

RecordedSpace::RecordedSpace(std::string name, const std::vector<RecordedConfiguration>& records)
    : name_(std::move(name)), space_({}) {
  ByTemplate templates;
  for (const auto& record : records) templates[record.kernel_template].push_back(&record);
  std::vector<SearchSpace::Member> members;
  std::vector<std::vector<TuningSpace::Point>> points;
  for (const auto& [kernel_template, of] : templates) {
    members.push_back(member_of(name_, of, points.emplace_back()));
  }
  space_ = SearchSpace(std::move(members));
  seconds_.assign(space_.size(), infinite);
  std::size_t at = 0;
  for (const auto& [kernel_template, of] : templates) {
    const SearchSpace::Member& member = space_.members()[at];
    for (std::size_t i = 0; i < of.size(); ++i) {
      double& best = seconds_[member.first + *member.space.index_of(points[at][i])];
      const double seconds = of[i]->seconds.value_or(infinite);
      if (seconds > 0) best = std::min(best, seconds);
    }
    ++at;
  }
  std::copy_if(seconds_.begin(), seconds_.end(), std::back_inserter(sorted_),
               [](double seconds) { return std::isfinite(seconds); });
  std::sort(sorted_.begin(), sorted_.end());
  if (sorted_.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: none of {} recorded configurations has a time; a recorded space "
                            "needs at least one success",
                            name_, records.size()));
  }
}

std::optional<double> RecordedSpace::seconds(Candidate candidate) const {
  const double seconds = seconds_.at(candidate);
  return std::isfinite(seconds) ? std::optional(seconds) : std::nullopt;
}

}  // namespace cudadent
