#include "tuner/constraint_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <variant>

namespace cudadent {
namespace {

using NodeIndex = ConstraintProgram::NodeIndex;

// Calls `function` with the values of some nodes side by side, without allocating for a few.
template <class Function>
Operand gathered(std::span<const NodeIndex> nodes, std::span<const Operand> values,
                 Function&& function) {
  std::array<Operand, 8> few;
  std::vector<Operand> many;
  std::span<Operand> list = std::span(few).first(std::min(nodes.size(), few.size()));
  if (nodes.size() > few.size()) {
    many.resize(nodes.size());
    list = many;
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) list[i] = values[nodes[i]];
  return function(std::span<const Operand>(list));
}

Operand first_decisive(std::span<const NodeIndex> nodes, std::span<const Operand> values,
                       bool stop) {
  Operand operand;
  for (const NodeIndex node : nodes) {
    operand = values[node];
    if (operand.is_failure() || operand.is_true() == stop) break;
  }
  return operand;
}

bool is_junction(Operation operation) {
  return operation == Operation::logical_and || operation == Operation::logical_or;
}

}  // namespace

ConstraintProgram::ConstraintProgram(const SpaceDefinition& definition) : definition_(definition) {
  for (std::uint32_t i = 0; i < definition.parameters.size(); ++i) {
    const ParameterSpec& parameter = definition.parameters[i];
    if (parameter.values.size() == 1) {
      names_[parameter.name] = add_constant(Operand::of(parameter.values[0]));
      continue;
    }
    Node node(Operation::name);
    node.parameters = {i};
    nodes_.push_back(std::move(node));
    names_[parameter.name] = static_cast<NodeIndex>(nodes_.size() - 1);
  }
  for (const auto& [name, expression] : definition.let) names_[name] = compile(expression);
  for (std::uint32_t i = 0; i < definition.constraints.size(); ++i) add_constraint(i);
}

void ConstraintProgram::add_constraint(std::uint32_t source) {
  const NodeIndex root = compile(definition_.constraints[source]);
  const Node& node = nodes_[root];
  if (node.operation == Operation::logical_and) {
    for (const NodeIndex child : node.children) constraints_.push_back({child, source, true});
  }
  constraints_.push_back({root, source, false});
}

std::optional<NodeIndex> ConstraintProgram::variable(std::uint32_t parameter) const {
  const auto found = names_.find(definition_.parameters[parameter].name);
  if (found == names_.end()) return std::nullopt;
  const Node& node = nodes_[found->second];
  const bool is_it = node.operation == Operation::name && node.parameters[0] == parameter;
  return is_it ? std::optional(found->second) : std::nullopt;
}

// ------------------------------------------------------------------------------------ compiling

NodeIndex ConstraintProgram::compile(const Expression& expression) {
  std::vector<NodeIndex> compiled;  // by the expression's node index: children come first
  for (const Expression::Node& node : expression.nodes()) {
    const auto children = expression.children(node);
    switch (node.operation) {
      case Operation::constant:
        compiled.push_back(add_constant(Operand::of(expression.constant_of(node))));
        break;
      case Operation::name:
        compiled.push_back(compile_name(expression.names()[node.index]));
        break;
      case Operation::list:
        compiled.push_back(0);  // its elements become children of the comparison
        break;
      case Operation::chain:
        compiled.push_back(compile_chain(expression, node, compiled));
        break;
      case Operation::in:
      case Operation::not_in:
        compiled.push_back(add_comparison(node.operation, expression, children[1],
                                          compiled[children[0]], compiled));
        break;
      default: {
        Node copy(node.operation, node.function);
        for (const std::uint32_t child : children) copy.children.push_back(compiled[child]);
        compiled.push_back(add(std::move(copy)));
      }
    }
  }
  return compiled[expression.root()];
}

// a < b < c is (a < b and b < c), with b evaluated once: here b is one node anyway.
NodeIndex ConstraintProgram::compile_chain(const Expression& expression,
                                           const Expression::Node& node,
                                           const std::vector<NodeIndex>& compiled) {
  const auto children = expression.children(node);
  const auto comparisons = expression.comparisons(node);
  Node conjunction(Operation::logical_and);
  for (std::size_t i = 0; i < comparisons.size(); ++i) {
    conjunction.children.push_back(add_comparison(comparisons[i], expression, children[i + 1],
                                                  compiled[children[i]], compiled));
  }
  return add(std::move(conjunction));
}

NodeIndex ConstraintProgram::add_comparison(Operation operation, const Expression& expression,
                                            std::uint32_t right, NodeIndex left,
                                            const std::vector<NodeIndex>& compiled) {
  Node node(operation);
  node.children = {left};
  const Expression::Node& other = expression.nodes()[right];
  if (other.operation == Operation::list) {
    node.list = true;
    for (const std::uint32_t child : expression.children(other)) {
      node.children.push_back(compiled[child]);
    }
  } else {
    node.children.push_back(compiled[right]);
  }
  return add(std::move(node));
}

NodeIndex ConstraintProgram::compile_name(const std::string& name) {
  if (const auto found = names_.find(name); found != names_.end()) return found->second;
  const auto known = definition_.known.find(name);
  if (known == definition_.known.end()) {
    return add_constant(Operand::failed(Failure::unknown_name));
  }
  return add_constant(Operand::of(known->second));
}

NodeIndex ConstraintProgram::add_constant(const Operand& value) {
  const auto same = [&](const Node& node) {
    const Operand& other = node.constant;
    if (node.operation != Operation::constant || other.kind != value.kind) return false;
    if (value.kind == Operand::Kind::text) return *other.text == *value.text;
    if (value.is_failure() && other.failure != value.failure) return false;
    return other.bits() == value.bits() && other.detail == value.detail;
  };
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), same);
  if (found != nodes_.end()) return static_cast<NodeIndex>(found - nodes_.begin());
  Node node;
  node.constant = value;
  nodes_.push_back(std::move(node));
  return static_cast<NodeIndex>(nodes_.size() - 1);
}

NodeIndex ConstraintProgram::add(Node node) {
  if (const auto simple = simplified(node)) return *simple;
  Key key{node.operation, node.function, node.list, node.children};
  if (const auto found = known_nodes_.find(key); found != known_nodes_.end()) return found->second;
  std::set<std::uint32_t> parameters;
  for (const NodeIndex child : node.children) {
    parameters.insert(nodes_[child].parameters.begin(), nodes_[child].parameters.end());
  }
  node.parameters.assign(parameters.begin(), parameters.end());
  nodes_.push_back(std::move(node));
  const auto index = static_cast<NodeIndex>(nodes_.size() - 1);
  known_nodes_.emplace(std::move(key), index);
  return index;
}

// A node that is already there or a constant, where `node` amounts to one. May shorten `node`.
std::optional<NodeIndex> ConstraintProgram::simplified(Node& node) {
  if (is_junction(node.operation)) {
    if (const auto simple = simplified_junction(node)) return simple;
  }
  if (node.operation == Operation::conditional && is_constant(node.children[0])) {
    const Operand& condition = nodes_[node.children[0]].constant;
    if (condition.is_failure()) return node.children[0];
    return node.children[condition.is_true() ? 1 : 2];
  }
  const bool constant = std::all_of(node.children.begin(), node.children.end(),
                                    [&](NodeIndex child) { return is_constant(child); });
  if (!constant) return std::nullopt;
  Node copy = node;
  std::vector<Operand> values;
  for (NodeIndex i = 0; i < copy.children.size(); ++i) {
    values.push_back(nodes_[copy.children[i]].constant);
    copy.children[i] = i;
  }
  return add_constant(evaluate(copy, values));
}

// Drops constants that decide nothing, and what can never be reached.
std::optional<NodeIndex> ConstraintProgram::simplified_junction(Node& node) {
  const bool stop = node.operation == Operation::logical_or;
  std::vector<NodeIndex> kept;
  for (std::size_t i = 0; i < node.children.size(); ++i) {
    const NodeIndex child = node.children[i];
    const bool last = i + 1 == node.children.size();
    if (!is_constant(child)) {
      kept.push_back(child);
      continue;
    }
    const Operand& value = nodes_[child].constant;
    const bool decides = value.is_failure() || value.is_true() == stop;
    if (decides || last) kept.push_back(child);
    if (decides) break;
  }
  node.children = std::move(kept);
  return node.children.size() == 1 ? std::optional(node.children[0]) : std::nullopt;
}

// ----------------------------------------------------------------------------------- evaluating

Operand ConstraintProgram::evaluate(const Node& node, std::span<const Operand> values) const {
  const std::span<const NodeIndex> children = node.children;
  switch (node.operation) {
    case Operation::constant:
      return node.constant;
    case Operation::negate:
    case Operation::positive:
    case Operation::logical_not:
      return apply(node.operation, values[children[0]]);
    case Operation::logical_and:
    case Operation::logical_or:
      return first_decisive(children, values, node.operation == Operation::logical_or);
    case Operation::conditional: {
      const Operand& condition = values[children[0]];
      if (condition.is_failure()) return condition;
      return values[children[condition.is_true() ? 1 : 2]];
    }
    case Operation::in:
    case Operation::not_in:
      if (!node.list) break;
      return gathered(children.subspan(1), values, [&](auto list) {
        return contained(node.operation, values[children[0]], list);
      });
    case Operation::call:
      return gathered(children, values, [&](auto list) { return call(node.function, list); });
    default:
      break;
  }
  return apply(node.operation, values[children[0]], values[children[1]]);
}

namespace {

using Failures = std::map<std::string, Error, std::less<>>;  // of derived values

// What an expression evaluates to, or why it does not; a derived value it needed is blamed first.
std::variant<Value, Error> outcome(const Expression& expression, const Values& values,
                                   const Failures& failed) {
  for (const std::string& name : expression.names()) {
    const auto found = failed.find(name);
    if (found == failed.end()) continue;
    // Only if it matters: not where a branch does without it.
    const std::string blamed = fmt::format("unknown name '{}'", name);
    try {
      return expression.evaluate(Scope(values));
    } catch (const Error& error) {
      const bool mattered = std::string_view(error.what()).find(blamed) != std::string_view::npos;
      if (mattered) return found->second;
    }
  }
  try {
    return expression.evaluate(Scope(values));
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace

void ConstraintProgram::report_failure(std::uint32_t constraint,
                                       std::span<const std::uint16_t> positions) const {
  Values values = definition_.known;
  for (std::size_t i = 0; i < definition_.parameters.size(); ++i) {
    const ParameterSpec& parameter = definition_.parameters[i];
    values[parameter.name] = parameter.values[positions[i]];
  }
  Failures failed;
  for (const auto& [name, expression] : definition_.let) {
    auto result = outcome(expression, values, failed);
    if (const auto* error = std::get_if<Error>(&result)) {
      failed.insert_or_assign(name, *error);
    } else {
      values[name] = std::get<Value>(result);
    }
  }
  const Expression& expression = definition_.constraints[constraint];
  const auto result = outcome(expression, values, failed);
  if (const auto* error = std::get_if<Error>(&result)) {
    throw Error(error->code(),
                fmt::format("constraint '{}': {}", expression.text(), error->what()));
  }
  throw Error(ErrorCode::internal,
              fmt::format("constraint '{}' failed, and then did not", expression.text()));
}

}  // namespace cudadent
