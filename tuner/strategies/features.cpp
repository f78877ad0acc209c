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

struct Range {
  double min = 0, max = 0;
};

Range places_of(const Named& named) {
  if (!named.ordered) return {};
  Range range{named.place(named.values[0]), named.place(named.values[0])};
  for (const Value& value : named.values) {
    range.min = std::min(range.min, named.place(value));
    range.max = std::max(range.max, named.place(value));
  }
  return range;
}

constexpr float apart = 0.70710678F;  // two ones make a distance of one

// Numbers by their place in order, and by how often two divides them where that tells; others by one of their own.
std::vector<float> coordinates_of(const Named& named, const Range& places, const Value& value) {
  std::vector<float> coordinates;
  if (!named.ordered) {
    for (const Value& each : named.values) coordinates.push_back(each == value ? apart : 0);
    return coordinates;
  }
  const double range = places.max > places.min ? places.max - places.min : 1;
  coordinates.push_back(static_cast<float>((named.place(value) - places.min) / range));
  if (!named.divisible) return coordinates;
  double min_halvings = 64, max_halvings = 1;
  for (const Value& each : named.values) {
    min_halvings = std::min(min_halvings, halvings(each));
    max_halvings = std::max(max_halvings, halvings(each));
  }
  coordinates.push_back(
      static_cast<float>((halvings(value) - min_halvings) / (max_halvings - min_halvings)));
  return coordinates;
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
      const Range places = places_of(of);
      for (std::size_t position = 0; position < parameter.values.size(); ++position)
        column.values[position] = coordinates_of(of, places, parameter.values[position]);
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
