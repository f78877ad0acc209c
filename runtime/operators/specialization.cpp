#include "runtime/operators/specialization.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <set>
#include <utility>

#include "runtime/base/hash.h"
#include "runtime/language/value.h"
#include "runtime/operators/prelude.h"

namespace cudadent {

namespace {

std::size_t index_of(const ParameterSpec& parameter, const Value& value) {
  const auto found = std::find(parameter.values.begin(), parameter.values.end(), value);
  return static_cast<std::size_t>(found - parameter.values.begin());
}

std::string literal_list(const std::vector<Value>& values) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(to_literal(value));
  return fmt::format("{}", fmt::join(texts, ", "));
}

// Whether every parameter has one of its values; the complaint, or nothing.
std::string why_ill_formed(const KernelTemplate& kernel, const Configuration& configuration) {
  for (const auto& [name, value] : configuration)
    if (kernel.parameter(name) == nullptr) {
      std::vector<std::string> known;
      for (const auto& parameter : kernel.parameters) known.push_back(parameter.name);
      return fmt::format("unknown parameter \"{}\"; known: {}", name, fmt::join(known, ", "));
    }
  for (const auto& parameter : kernel.parameters) {
    const auto found = configuration.find(parameter.name);
    if (found == configuration.end())
      return fmt::format("parameter {} has no value; expected one of {}", parameter.name,
                         literal_list(parameter.values));
    if (index_of(parameter, found->second) == parameter.values.size())
      return fmt::format("{}={} is not allowed; expected one of {}", parameter.name,
                         to_text(found->second), literal_list(parameter.values));
  }
  return {};
}

std::string first_broken(const std::vector<Expression>& conditions, const Scope& scope) {
  for (const auto& condition : conditions)
    if (!is_true(condition.evaluate(scope))) return condition.text();
  return {};
}

std::uint32_t extent(const Expression& expression, const Scope& scope, std::string_view what,
                     std::int64_t limit) {
  const std::int64_t value = as_integer(expression.evaluate(scope), what);
  if (value < 1 || value > limit)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} '{}' is {}, expected 1 to {}", what,
                                                         expression.text(), value, limit));
  return static_cast<std::uint32_t>(value);
}

std::array<std::uint32_t, 3> extents(const std::vector<Expression>& expressions, const Scope& scope,
                                     std::string_view what, std::int64_t limit) {
  std::array<std::uint32_t, 3> values{1, 1, 1};
  for (std::size_t i = 0; i < expressions.size(); ++i)
    values[i] = extent(expressions[i], scope, what, limit);
  return values;
}

// Turns a template's launch specifications into numbers.
class Planner {
 public:
  Planner(const KernelTemplate& kernel, const Problem& problem, const Scope& scope)
      : kernel_(kernel), op_(*problem.op), problem_(problem), scope_(scope) {}

  LaunchPlan plan() const {
    LaunchPlan plan;
    if (problem_.has_no_work()) return plan;
    for (const auto& spec : kernel_.workspaces) plan.workspaces.push_back(workspace(spec));
    for (const auto& spec : kernel_.tensor_maps) plan.tensor_maps.push_back(tensor_map(spec));
    for (const auto& spec : kernel_.launches)
      if (!spec.when || is_true(spec.when->evaluate(scope_))) plan.launches.push_back(launch(spec));
    return plan;
  }

 private:
  [[nodiscard]] WorkspacePlan workspace(const WorkspaceSpec& spec) const {
    WorkspacePlan plan{spec.name, 0, spec.zeroed};
    if (spec.when && !is_true(spec.when->evaluate(scope_))) return plan;
    const std::int64_t bytes = as_integer(spec.bytes.evaluate(scope_), spec.name);
    if (bytes < 0)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("workspace {} has {} bytes", spec.name, bytes));
    plan.bytes = static_cast<std::size_t>(bytes);
    return plan;
  }

  template <class Number>
  [[nodiscard]] Number number(const Expression& expression, std::string_view what) const {
    const std::int64_t value = as_integer(expression.evaluate(scope_), what);
    if (!std::in_range<Number>(value))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} '{}' is {}, expected 0 to {}", what, expression.text(), value,
                              std::numeric_limits<Number>::max()));
    return static_cast<Number>(value);
  }

  template <class Number>
  [[nodiscard]] std::vector<Number> numbers(const std::vector<Expression>& expressions,
                                            std::string_view what) const {
    std::vector<Number> values;
    for (const auto& expression : expressions) values.push_back(number<Number>(expression, what));
    return values;
  }

  [[nodiscard]] TensorMapPlan tensor_map(const TensorMapSpec& spec) const {
    TensorMapPlan plan;
    plan.name = spec.name;
    const std::string described = to_text(spec.tensor.evaluate(scope_));
    const auto tensor = op_.tensor_index(described);
    plan.of_workspace = !tensor.has_value();
    plan.index = static_cast<std::int32_t>(tensor ? *tensor : workspace_index(described));
    plan.dtype = spec.dtype.empty() ? problem_.dtype_of(op_.tensors[*tensor]) : dtype(spec.dtype);
    if (spec.when && !is_true(spec.when->evaluate(scope_))) {
      plan.dimensions = {0};  // a map of nothing: none is made
      return plan;
    }
    plan.dimensions = numbers<std::uint64_t>(spec.dimensions, spec.name);
    plan.box = numbers<std::uint32_t>(spec.box, spec.name);
    plan.strides = numbers<std::uint64_t>(spec.strides, spec.name);
    complete(plan, spec.strides.empty());
    if (spec.swizzle)
      plan.swizzle = static_cast<int>(as_integer(spec.swizzle->evaluate(scope_), "swizzle"));
    if (spec.l2_promotion)
      plan.l2_promotion =
          static_cast<int>(as_integer(spec.l2_promotion->evaluate(scope_), "l2_promotion"));
    return plan;
  }

  // A data type's name, or a dtype symbol.
  [[nodiscard]] DataType dtype(const std::string& name) const {
    const auto symbol = problem_.values.find(name);
    const auto type =
        data_type_named(symbol == problem_.values.end() ? name : to_text(symbol->second));
    if (!type)
      throw Error(ErrorCode::invalid_manifest,
                  fmt::format("{}: unknown data type \"{}\"", kernel_.origin, name));
    return *type;
  }

  [[nodiscard]] std::size_t workspace_index(std::string_view name) const {
    if (const auto index = kernel_.workspace_index(name)) return *index;
    throw Error(
        ErrorCode::invalid_manifest,
        fmt::format("{}: \"{}\" is neither a tensor nor a workspace", kernel_.origin, name));
  }

  [[nodiscard]] KernelLaunch launch(const LaunchSpec& spec) const {
    KernelLaunch launch;
    launch.entry = spec.entry;
    launch.grid = extents(spec.grid, scope_, "grid", std::numeric_limits<std::int32_t>::max());
    launch.block = extents(spec.block, scope_, "block", 1024);
    launch.cluster = extents(spec.cluster, scope_, "cluster", 16);
    if (spec.shared_memory)
      launch.shared_memory = number<std::uint32_t>(*spec.shared_memory, "shared_memory");
    for (const auto& argument : spec.arguments)
      launch.arguments.push_back(argument.value ? computed(argument) : pointed(argument.name));
    return launch;
  }

  [[nodiscard]] Argument computed(const ArgumentSpec& spec) const {
    const Value value = spec.value->evaluate(scope_);
    Argument argument;
    if (spec.type == "f32" || (spec.type.empty() && std::holds_alternative<double>(value))) {
      argument.kind = Argument::Kind::f32;
      argument.real = as_real(value, spec.value->text());
      return argument;
    }
    argument.integer = as_integer(value, spec.value->text());
    argument.kind = spec.type == "i64" ? Argument::Kind::i64 : Argument::Kind::i32;
    if (argument.kind == Argument::Kind::i32 &&
        argument.integer != static_cast<std::int32_t>(argument.integer))
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}/{}: argument '{}' is {}, which does not fit 32 bits", op_.name,
                              kernel_.name, spec.value->text(), argument.integer));
    return argument;
  }

  // The manifest's parser has made sure that the name is one of these.
  [[nodiscard]] Argument pointed(const std::string& name) const {
    const auto indexed = [](Argument::Kind kind, std::size_t index) {
      return Argument{kind, static_cast<std::int32_t>(index), 0, 0};
    };
    for (std::size_t i = 0; i < kernel_.tensor_maps.size(); ++i)
      if (kernel_.tensor_maps[i].name == name) return indexed(Argument::Kind::tensor_map, i);
    if (const auto tensor = op_.tensor_index(name)) return indexed(Argument::Kind::tensor, *tensor);
    if (const auto scalar = op_.scalar_index(name)) return indexed(Argument::Kind::scalar, *scalar);
    return indexed(Argument::Kind::workspace, workspace_index(name));
  }

  const KernelTemplate& kernel_;
  const OperatorManifest& op_;
  const Problem& problem_;
  const Scope& scope_;
};

// The listed value nearest to the wanted one: itself, else the closest number, else the first.
std::size_t nearest_value(const ParameterSpec& parameter, const Value& wanted) {
  const std::size_t exact = index_of(parameter, wanted);
  if (exact < parameter.values.size()) return exact;
  if (!is_number(wanted)) return 0;
  std::size_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < parameter.values.size(); ++i) {
    if (!is_number(parameter.values[i])) continue;
    const double distance =
        std::abs(as_real(parameter.values[i], parameter.name) - as_real(wanted, parameter.name));
    if (distance < best_distance) best = i, best_distance = distance;
  }
  return best;
}

// Value positions, one a parameter.
using Positions = std::vector<std::size_t>;

Positions wanted_positions(const KernelTemplate& kernel, const Problem& problem,
                           const Values& facts) {
  Values wanted;
  for (const auto& name : kernel.default_order)
    wanted[name] =
        kernel.defaults.at(name).evaluate(Scope(facts).with(problem.values).with(wanted));
  Positions positions;
  for (const auto& parameter : kernel.parameters) {
    const auto found = wanted.find(parameter.name);
    positions.push_back(found == wanted.end() ? 0 : nearest_value(parameter, found->second));
  }
  return positions;
}

Configuration configuration_at(const KernelTemplate& kernel, const Positions& positions) {
  Configuration configuration;
  for (std::size_t i = 0; i < positions.size(); ++i)
    configuration[kernel.parameters[i].name] = kernel.parameters[i].values[positions[i]];
  return configuration;
}

}  // namespace

Values evaluate_let(const KernelTemplate& kernel, const Problem& problem,
                    const Configuration& configuration, const Values& device_facts) {
  Values visible = device_facts;
  visible.insert(problem.values.begin(), problem.values.end());
  visible.insert(configuration.begin(), configuration.end());
  for (const auto& [name, expression] : kernel.let)
    visible[name] = expression.evaluate(Scope(visible));
  return visible;
}

std::string why_unfit(const KernelTemplate& kernel, const Problem& problem, const Device& device) {
  if (kernel.backend != device.backend) return fmt::format("backend {}", kernel.backend);
  const Values facts = device.facts();
  return first_broken(kernel.requires_, Scope(facts).with(problem.values));
}

std::string why_invalid(const KernelTemplate& kernel, const Problem& problem,
                        const Configuration& configuration, const Device& device) {
  if (auto complaint = why_ill_formed(kernel, configuration); !complaint.empty()) return complaint;
  const Values visible = evaluate_let(kernel, problem, configuration, device.facts());
  const std::string broken = first_broken(kernel.constraints, Scope(visible));
  return broken.empty() ? std::string() : fmt::format("constraint '{}' does not hold", broken);
}

Configuration wanted_default(const KernelTemplate& kernel, const Problem& problem,
                             const Device& device) {
  return configuration_at(kernel, wanted_positions(kernel, problem, device.facts()));
}

std::optional<Configuration> default_configuration(const KernelTemplate& kernel,
                                                   const Problem& problem, const Device& device) {
  const Values facts = device.facts();
  // Breadth first over single steps along the value lists, so that the first valid configuration
  // met is one of the nearest.
  constexpr std::size_t most_visited = 100000;
  std::queue<Positions> queue;
  std::set<Positions> visited;
  const auto visit = [&](Positions positions) {
    if (visited.insert(positions).second) queue.push(std::move(positions));
  };
  visit(wanted_positions(kernel, problem, facts));
  while (!queue.empty() && visited.size() < most_visited) {
    const Positions here = std::move(queue.front());
    queue.pop();
    Configuration configuration = configuration_at(kernel, here);
    const Values visible = evaluate_let(kernel, problem, configuration, facts);
    if (first_broken(kernel.constraints, Scope(visible)).empty()) return configuration;
    for (std::size_t i = 0; i < here.size(); ++i) {
      Positions next = here;
      if (here[i] > 0) next[i] = here[i] - 1, visit(next);
      if (here[i] + 1 < kernel.parameters[i].values.size()) next[i] = here[i] + 1, visit(next);
    }
  }
  return std::nullopt;
}

Specialization specialize(std::shared_ptr<const KernelTemplate> kernel_template,
                          const Problem& problem, const Configuration& configuration,
                          const Device& device) {
  const KernelTemplate& kernel = *kernel_template;
  const auto describe = [&] {
    return fmt::format("{}/{} {} for {} on {}", kernel.op, kernel.name, to_text(configuration),
                       problem.describe(), device.architecture);
  };
  if (const auto unfit = why_unfit(kernel, problem, device); !unfit.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: the template requires '{}'", describe(), unfit));
  if (const auto invalid = why_invalid(kernel, problem, configuration, device); !invalid.empty())
    throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", describe(), invalid));

  const Values visible = evaluate_let(kernel, problem, configuration, device.facts());
  Specialization result;
  result.description = describe();
  result.configuration = configuration;
  result.architecture = device.architecture;
  result.compile_options = kernel.compile_options;
  result.source = kernel.shared_source + generate_prelude(kernel, problem, visible, device) +
                  kernel.source + generate_tail(kernel);
  for (const auto& launch : kernel.launches)
    if (std::find(result.entries.begin(), result.entries.end(), launch.entry) ==
        result.entries.end())
      result.entries.push_back(launch.entry);
  result.hash =
      content_hash({result.source, fmt::format("{}", fmt::join(result.compile_options, "\n")),
                    result.architecture});
  const Scope scope(visible);
  result.plan = Planner(kernel, problem, scope).plan();
  result.kernel_template = std::move(kernel_template);
  return result;
}

}  // namespace cudadent
