#include "runtime/language/expression_graph.h"

#include <algorithm>
#include <array>
#include <set>

namespace cudadent {
namespace {

using NodeIndex = ExpressionGraph::NodeIndex;

bool is_junction(Operation operation) {
  return operation == Operation::logical_and || operation == Operation::logical_or;
}

// `or` stops at the first true operand, `and` at the first false one.
Operand first_decisive(std::span<const NodeIndex> nodes, std::span<const Operand> values,
                       bool stop) noexcept {
  Operand operand;
  for (const NodeIndex node : nodes) {
    operand = values[node];
    if (operand.is_failure() || operand.is_true() == stop) break;
  }
  return operand;
}

// Whether the first is among the others, an element at a time: nothing is gathered.
Operand contained_in(Operation operation, std::span<const NodeIndex> nodes,
                     std::span<const Operand> values) noexcept {
  const Operand& needle = values[nodes[0]];
  if (needle.is_failure()) return needle;
  bool found = false;
  for (const NodeIndex node : nodes.subspan(1)) {
    const Operand one = contained(Operation::in, needle, std::span(&values[node], 1));
    if (one.is_failure()) return one;
    found = found || one.is_true();
  }
  return Operand::of(found == (operation == Operation::in));
}

// Of more than two arguments only min, max and gcd have any: they take the third to what the first two gave.
Operand call_of(BuiltIn function, std::span<const NodeIndex> nodes,
                std::span<const Operand> values) noexcept {
  for (const NodeIndex node : nodes)
    if (values[node].is_failure()) return values[node];
  if (nodes.size() == 1) return call(function, std::span(&values[nodes[0]], 1));
  std::array<Operand, 2> pair{values[nodes[0]]};
  for (const NodeIndex node : nodes.subspan(1)) {
    pair[1] = values[node];
    pair[0] = call(function, pair);
    if (pair[0].is_failure()) break;
  }
  return pair[0];
}

Operand evaluated(Operation operation, BuiltIn function, bool list,
                  std::span<const NodeIndex> children, std::span<const Operand> values) noexcept {
  switch (operation) {
    case Operation::negate:
    case Operation::positive:
    case Operation::logical_not:
      return apply(operation, values[children[0]]);
    case Operation::logical_and:
    case Operation::logical_or:
      return first_decisive(children, values, operation == Operation::logical_or);
    case Operation::conditional: {
      const Operand& condition = values[children[0]];
      if (condition.is_failure()) return condition;
      return values[children[condition.is_true() ? 1 : 2]];
    }
    case Operation::in:
    case Operation::not_in:
      if (list) return contained_in(operation, children, values);
      break;
    case Operation::call:
      return call_of(function, children, values);
    default:
      break;
  }
  return apply(operation, values[children[0]], values[children[1]]);
}

}  // namespace

NodeIndex ExpressionGraph::add_variable(std::uint32_t number) {
  Node node(Operation::name);
  node.variables = {number};
  nodes_.push_back(std::move(node));
  return static_cast<NodeIndex>(nodes_.size() - 1);
}

std::optional<NodeIndex> ExpressionGraph::defined(const std::string& name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? std::nullopt : std::optional(found->second);
}

// ------------------------------------------------------------------------------------ compiling

NodeIndex ExpressionGraph::compile(const Expression& expression) {
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
NodeIndex ExpressionGraph::compile_chain(const Expression& expression, const Expression::Node& node,
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

NodeIndex ExpressionGraph::add_comparison(Operation operation, const Expression& expression,
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

NodeIndex ExpressionGraph::compile_name(const std::string& name) {
  if (const auto found = names_.find(name); found != names_.end()) return found->second;
  const auto known = known_->find(name);
  if (known == known_->end()) {
    return add_constant(Operand::failed(Failure::unknown_name));
  }
  return add_constant(Operand::of(known->second));
}

NodeIndex ExpressionGraph::add_constant(const Operand& value) {
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

NodeIndex ExpressionGraph::add(Node node) {
  if (const auto simple = simplified(node)) return *simple;
  Key key{node.operation, node.function, node.list, node.children};
  if (const auto found = known_nodes_.find(key); found != known_nodes_.end()) return found->second;
  std::set<std::uint32_t> variables;
  for (const NodeIndex child : node.children) {
    variables.insert(nodes_[child].variables.begin(), nodes_[child].variables.end());
  }
  node.variables.assign(variables.begin(), variables.end());
  nodes_.push_back(std::move(node));
  const auto index = static_cast<NodeIndex>(nodes_.size() - 1);
  known_nodes_.emplace(std::move(key), index);
  return index;
}

// A node that is already there or a constant, where `node` amounts to one. May shorten `node`.
std::optional<NodeIndex> ExpressionGraph::simplified(Node& node) {
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
std::optional<NodeIndex> ExpressionGraph::simplified_junction(Node& node) {
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

Operand ExpressionGraph::evaluate(const Node& node, std::span<const Operand> values) noexcept {
  if (node.operation == Operation::constant) return node.constant;
  return evaluated(node.operation, node.function, node.list, node.children, values);
}

ExpressionProgram::Range ExpressionProgram::add(const ExpressionGraph& graph,
                                                std::span<const NodeIndex> roots) {
  const auto& nodes = graph.nodes();
  done_.resize(nodes.size());
  std::vector<bool> needed(nodes.size());
  for (const NodeIndex root : roots) needed[root] = true;
  for (std::size_t node = nodes.size(); node-- > 0;)  // parents come after their children
    if (needed[node] && !done_[node])
      for (const NodeIndex child : nodes[node].children) needed[child] = true;
  Range range{static_cast<std::uint32_t>(instructions_.size()), 0};
  for (NodeIndex i = 0; i < nodes.size(); ++i) {
    const auto& node = nodes[i];
    if (!needed[i] || done_[i] || node.operation == Operation::constant ||
        node.operation == Operation::name)
      continue;
    done_[i] = true;
    instructions_.push_back({node.operation, node.function, node.list, i,
                             static_cast<std::uint32_t>(children_.size()),
                             static_cast<std::uint32_t>(node.children.size())});
    children_.insert(children_.end(), node.children.begin(), node.children.end());
  }
  range.end = static_cast<std::uint32_t>(instructions_.size());
  return range;
}

std::vector<Operand> ExpressionProgram::values_for(const ExpressionGraph& graph) {
  std::vector<Operand> values;
  for (const auto& node : graph.nodes()) values.push_back(node.constant);
  return values;
}

void ExpressionProgram::run(Range part, std::span<Operand> values) const noexcept {
  for (std::uint32_t i = part.begin; i < part.end; ++i) {
    const Instruction& step = instructions_[i];
    const NodeIndex* children = children_.data() + step.first_child;
    // Nearly all are operations of two operands.
    values[step.target] = step.operation >= Operation::add && step.operation <= Operation::not_equal
                              ? apply(step.operation, values[children[0]], values[children[1]])
                              : evaluated(step.operation, step.function, step.list,
                                          {children, step.child_count}, values);
  }
}

}  // namespace cudadent
