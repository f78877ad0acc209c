#include "tuner/strategies/features.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "runtime/language/value.h"

namespace cudadent {
namespace {

// All values of one parameter name, over the templates that have it.
struct Named {
  std::vector<Value> values;
  std::uint32_t first = 0;  // coordinate
  bool ordered = true;      // numbers all
  bool logarithmic = true;  // positive numbers all
  bool divisible = false;   // whole numbers that powers of two divide unevenly

  [[nodiscard]] double place(const Value& value) const {
    const double number = as_real(value, "value");
    if (logarithmic) return std::log2(number);
    const auto below = std::count_if(values.begin(), values.end(), [&](const Value& each) {
      return as_real(each, "value") < number;
    });
    return static_cast<double>(below);
  }
};

// How often two divides a whole number; nothing for others.
double halvings(const Value& value) {
  const double number = std::fabs(as_real(value, "value"));
  if (number < 1 || number > 0x1p62 || number != std::floor(number)) return -1;
  return std::countr_zero(static_cast<std::uint64_t>(number));
}

std::map<std::string, Named> named_parameters(const SearchSpace& space) {
  std::map<std::string, Named> result;
  for (const auto& member : space.members()) {
    for (const ParameterSpec& parameter : member.space.parameters()) {
      Named& named = result[parameter.name];
      for (const Value& value : parameter.values) {
        if (std::find(named.values.begin(), named.values.end(), value) != named.values.end())
          continue;
        named.values.push_back(value);
        named.ordered = named.ordered && is_number(value);
        named.logarithmic = named.logarithmic && is_number(value) && as_real(value, "value") > 0;
      }
    }
  }
  for (auto& [name, named] : result) {
    if (!named.logarithmic || named.values.size() < 4) continue;
    std::set<double> seen;
    bool repeated = false, whole = true;
    for (const Value& value : named.values) {
      const double times = halvings(value);
      whole = whole && times >= 0;
      repeated = !seen.insert(times).second || repeated;
    }
    named.divisible = whole && repeated && seen.size() > 1;
  }
  return result;
}

}  // namespace

Features::Features(const SearchSpace& space) : space_(space) {
  auto named = named_parameters(space);
  const auto add = [&](std::size_t coordinates) {
    const auto first = static_cast<std::uint32_t>(scale_of_.size());
    scale_of_.insert(scale_of_.end(), coordinates, static_cast<std::uint32_t>(scales_++));
    return first;
  };
  for (auto& [name, parameter] : named) {
    if (parameter.values.size() < 2) continue;
    parameter.first = add(parameter.ordered ? 1 : parameter.values.size());
    if (parameter.divisible) add(1);
  }
  const auto members = space.members().size();
  const std::uint32_t which = add(members > 1 ? members : 0);
  if (members < 2) --scales_;
  constexpr float apart = 0.70710678F;  // two ones make a distance of one
  for (std::size_t i = 0; i < members; ++i) {
    Template& made = templates_.emplace_back();
    made.rest.assign(scale_of_.size(), 0);
    for (const auto& [name, parameter] : named) {
      if (parameter.values.size() > 1 && parameter.ordered) {
        made.rest[parameter.first] = 0.5F;
        if (parameter.divisible) made.rest[parameter.first + 1] = 0.5F;
      }
    }
    if (members > 1) made.rest[which + i] = apart;
    for (const ParameterSpec& parameter : space.members()[i].space.parameters()) {
      const Named& of = named[parameter.name];
      Column& column = made.columns.emplace_back();
      column.first = of.first;
      column.values.resize(parameter.values.size());
      if (of.values.size() < 2) continue;
      double least = 0, most = 0;
      if (of.ordered) {
        least = most = of.place(of.values[0]);
        for (const Value& value : of.values) {
          least = std::min(least, of.place(value));
          most = std::max(most, of.place(value));
        }
      }
      for (std::size_t position = 0; position < parameter.values.size(); ++position) {
        const Value& value = parameter.values[position];
        auto& coordinates = column.values[position];
        if (of.ordered) {
          const double range = most > least ? most - least : 1;
          coordinates = {static_cast<float>((of.place(value) - least) / range)};
          if (of.divisible) {
            double most_halvings = 1, least_halvings = 64;
            for (const Value& each : of.values) {
              most_halvings = std::max(most_halvings, halvings(each));
              least_halvings = std::min(least_halvings, halvings(each));
            }
            coordinates.push_back(static_cast<float>((halvings(value) - least_halvings) /
                                                     (most_halvings - least_halvings)));
          }
        } else {
          for (const Value& each : of.values) coordinates.push_back(each == value ? apart : 0);
        }
      }
    }
  }
}

void Features::describe(Candidate candidate, std::span<float> row) const {
  const SearchSpace::Member& member = space_.member_of(candidate);
  const auto& made = templates_[static_cast<std::size_t>(&member - space_.members().data())];
  std::copy(made.rest.begin(), made.rest.end(), row.begin());
  const auto point = member.space.point(candidate - member.first);
  for (std::size_t i = 0; i < made.columns.size(); ++i) {
    const auto& coordinates = made.columns[i].values[point[i]];
    std::copy(coordinates.begin(), coordinates.end(), row.begin() + made.columns[i].first);
  }
}

}  // namespace cudadent
