#include "tuner/tuning_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tuner/choice_tree.h"
#include "tuner/constraint_program.h"

namespace cudadent {
namespace {

constexpr std::size_t most_values = 65535;  // positions have 16 bits

double raw_size_of(const std::vector<ParameterSpec>& parameters) {
  double size = 1;
  for (const ParameterSpec& parameter : parameters)
    size *= static_cast<double>(parameter.values.size());
  return size;
}

void check_parameters(const std::vector<ParameterSpec>& parameters) {
  for (const ParameterSpec& parameter : parameters) {
    if (parameter.values.size() > most_values) {
      throw Error(ErrorCode::unsupported,
                  fmt::format("parameter {} has {} values; at most {} are possible", parameter.name,
                              parameter.values.size(), most_values));
    }
    const auto same = [&](const ParameterSpec& each) { return each.name == parameter.name; };
    if (std::count_if(parameters.begin(), parameters.end(), same) > 1) {
      throw Error(ErrorCode::invalid_manifest,
                  fmt::format("parameter {} is declared twice", parameter.name));
    }
  }
}

// Parameters connected by constraints: each group ascending, groups by their first parameter.
std::vector<std::vector<std::uint32_t>> coupled(const ConstraintProgram& program,
                                                std::size_t parameters) {
  std::vector<std::uint32_t> group(parameters);
  std::iota(group.begin(), group.end(), 0U);
  for (const auto& constraint : program.constraints()) {
    const auto& together = program.nodes()[constraint.root].variables;
    for (const std::uint32_t parameter : together) {
      const std::uint32_t from = group[parameter], to = group[together[0]];
      std::replace(group.begin(), group.end(), std::max(from, to), std::min(from, to));
    }
  }
  std::vector<std::vector<std::uint32_t>> result;
  for (std::uint32_t first = 0; first < parameters; ++first) {
    std::vector<std::uint32_t> members;
    for (std::uint32_t i = first; i < parameters; ++i) {
      if (group[i] == first) members.push_back(i);
    }
    if (!members.empty()) result.push_back(std::move(members));
  }
  return result;
}

// Orders a group so that constraints apply early: again and again the parameters still missing for
// the constraint that needs the fewest more combinations, the earliest declared in a tie.
std::vector<std::uint32_t> ordered(const ConstraintProgram& program,
                                   const std::vector<ParameterSpec>& specs,
                                   const std::vector<std::uint32_t>& group) {
  std::vector<std::uint32_t> order;
  std::vector<bool> bound(specs.size(), false);
  const auto missing = [&](const ConstraintProgram::Constraint& constraint) {
    std::vector<std::uint32_t> result;
    for (const std::uint32_t parameter : program.nodes()[constraint.root].variables) {
      if (!bound[parameter]) result.push_back(parameter);
    }
    return result;
  };
  const auto belongs = [&](std::uint32_t parameter) {
    return std::binary_search(group.begin(), group.end(), parameter);
  };
  while (true) {
    std::vector<std::uint32_t> next;
    double least = std::numeric_limits<double>::infinity();
    for (const auto& constraint : program.constraints()) {
      const auto parameters = missing(constraint);
      if (parameters.empty() || !belongs(parameters[0])) continue;
      double combinations = 1;
      for (const std::uint32_t parameter : parameters) {
        combinations *= static_cast<double>(specs[parameter].values.size());
      }
      if (combinations >= least) continue;
      least = combinations;
      next = parameters;
    }
    if (next.empty()) break;
    // Many values last: the innermost level is the cheapest, and does all of them at once.
    std::stable_sort(next.begin(), next.end(), [&](std::uint32_t a, std::uint32_t b) {
      return specs[a].values.size() < specs[b].values.size();
    });
    for (const std::uint32_t parameter : next) bound[parameter] = true;
    order.insert(order.end(), next.begin(), next.end());
  }
  for (const std::uint32_t parameter : group) {
    if (!bound[parameter]) order.push_back(parameter);
  }
  return order;
}

// Whether the constraints that no parameter touches hold.
bool constants_hold(const ConstraintProgram& program, std::size_t parameters) {
  std::optional<std::uint32_t> failed;
  for (const auto& constraint : program.constraints()) {
    const auto& node = program.nodes()[constraint.root];
    if (node.operation != Operation::constant) continue;
    if (node.constant.is_failure()) {
      if (!constraint.part && !failed) failed = constraint.source;
    } else if (!node.constant.is_true()) {
      return false;
    }
  }
  if (failed) program.report_failure(*failed, std::vector<std::uint16_t>(parameters));
  return true;
}

bool same_value(const Value& a, const Value& b) {
  return a == b || apply(Operation::equal, Operand::of(a), Operand::of(b)).is_true();
}

}  // namespace

void refuse_unless_indexable(double configurations) {
  // A little less than 2^64: sizes near it are rounded here.
  constexpr double most = 0x1p64 * (1 - 1e-9);
  if (configurations < most) return;
  throw Error(
      ErrorCode::unsupported,
      fmt::format("a tuning space of {:.4g} configurations is larger than can be searched (at "
                  "most {:.4g}): give its parameters fewer values, or constrain them",
                  configurations, most));
}

struct TuningSpace::Group {
  ChoiceTree tree;
  std::uint64_t stride = 1;  // configurations of the groups after this one
};

SpaceDefinition space_definition(const KernelTemplate& kernel_template, const Problem& problem,
                                 const Device& device) {
  return space_definition(kernel_template, problem, device.facts());
}

SpaceDefinition space_definition(const KernelTemplate& kernel_template, const Problem& problem,
                                 Values device_facts) {
  SpaceDefinition definition;
  definition.parameters = kernel_template.parameters;
  definition.let = kernel_template.let;
  definition.constraints = kernel_template.constraints;
  definition.known = problem.values;
  definition.known.merge(device_facts);
  return definition;
}

TuningSpace::~TuningSpace() = default;
TuningSpace::TuningSpace(TuningSpace&&) noexcept = default;
TuningSpace& TuningSpace::operator=(TuningSpace&&) noexcept = default;

TuningSpace::TuningSpace(SpaceDefinition definition) : definition_(std::move(definition)) {
  const auto& specs = definition_.parameters;
  check_parameters(specs);
  raw_size_ = raw_size_of(specs);
  if (raw_size_ == 0) return;
  const ConstraintProgram program(definition_);
  if (!constants_hold(program, specs.size())) return;
  size_ = 1;
  for (const auto& group : coupled(program, specs.size())) {
    groups_.push_back({ChoiceTree(program, specs, ordered(program, specs, group)), 1});
  }
  double size = 1;
  for (std::size_t i = groups_.size(); i-- > 0;) {
    groups_[i].stride = size_;
    size_ *= groups_[i].tree.size();
    size *= groups_[i].tree.real_size();
  }
  refuse_unless_indexable(size);
}

TuningSpace::TuningSpace(std::vector<ParameterSpec> parameters, const std::vector<Point>& points) {
  definition_.parameters = std::move(parameters);
  check_parameters(definition_.parameters);
  raw_size_ = raw_size_of(definition_.parameters);
  for (const Point& point : points) {
    bool fits = point.size() == definition_.parameters.size();
    for (std::size_t i = 0; fits && i < point.size(); ++i) {
      fits = point[i] < definition_.parameters[i].values.size();
    }
    if (!fits) throw Error(ErrorCode::internal, "a point outside of its tuning space");
  }
  if (points.empty()) return;
  groups_.push_back({ChoiceTree(definition_.parameters.size(), points), 1});
  size_ = groups_[0].tree.size();
}

std::uint64_t TuningSpace::size() const noexcept { return size_; }
double TuningSpace::raw_size() const noexcept { return raw_size_; }
const std::vector<ParameterSpec>& TuningSpace::parameters() const noexcept {
  return definition_.parameters;
}

TuningSpace::Point TuningSpace::point(std::uint64_t index) const {
  if (index >= size_) {
    throw Error(ErrorCode::internal,
                fmt::format("configuration {} of a tuning space of {}", index, size_));
  }
  Point result(definition_.parameters.size());
  for (const Group& group : groups_) {
    group.tree.locate(index / group.stride, result);
    index %= group.stride;
  }
  return result;
}

std::optional<std::uint64_t> TuningSpace::index_of(const Point& point) const {
  if (size_ == 0 || point.size() != definition_.parameters.size()) return std::nullopt;
  std::uint64_t result = 0;
  for (const Group& group : groups_) {
    const auto part = group.tree.index_of(point);
    if (!part) return std::nullopt;
    result += *part * group.stride;
  }
  return result;
}

Values TuningSpace::configuration(std::uint64_t index) const {
  const Point positions = point(index);
  Values result;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const ParameterSpec& parameter = definition_.parameters[i];
    result.emplace(parameter.name, parameter.values[positions[i]]);
  }
  return result;
}

std::optional<std::uint64_t> TuningSpace::index_of(const Values& configuration) const {
  if (configuration.size() != definition_.parameters.size()) return std::nullopt;
  Point point;
  for (const ParameterSpec& parameter : definition_.parameters) {
    const auto given = configuration.find(parameter.name);
    if (given == configuration.end()) return std::nullopt;
    const auto found =
        std::find_if(parameter.values.begin(), parameter.values.end(),
                     [&](const Value& value) { return same_value(value, given->second); });
    if (found == parameter.values.end()) return std::nullopt;
    point.push_back(static_cast<std::uint16_t>(found - parameter.values.begin()));
  }
  return index_of(point);
}

std::optional<std::uint64_t> TuningSpace::nearest(const Values& configuration) const {
  if (size_ == 0) return std::nullopt;
  Point point;
  for (const ParameterSpec& parameter : definition_.parameters) {
    const auto given = configuration.find(parameter.name);
    const auto found =
        given == configuration.end()
            ? parameter.values.end()
            : std::find_if(parameter.values.begin(), parameter.values.end(),
                           [&](const Value& value) { return same_value(value, given->second); });
    point.push_back(found == parameter.values.end()
                        ? std::uint16_t{0}
                        : static_cast<std::uint16_t>(found - parameter.values.begin()));
  }
  for (const Group& group : groups_) group.tree.move_to_nearest(point);
  return index_of(point);
}

std::vector<std::uint64_t> TuningSpace::neighbours(std::uint64_t index, Neighbourhood kind) const {
  std::vector<std::uint64_t> result;
  Point changed = point(index);
  for (std::size_t i = 0; i < changed.size(); ++i) {
    const std::uint16_t here = changed[i];
    const auto count = static_cast<std::uint16_t>(definition_.parameters[i].values.size());
    const bool adjacent = kind == Neighbourhood::adjacent;
    const int first = adjacent ? std::max(here - 1, 0) : 0;
    const int last = adjacent ? std::min(here + 1, count - 1) : count - 1;
    for (int position = first; position <= last; ++position) {
      if (position == here) continue;
      changed[i] = static_cast<std::uint16_t>(position);
      if (const auto neighbour = index_of(changed)) result.push_back(*neighbour);
    }
    changed[i] = here;
  }
  return result;
}

}  // namespace cudadent
