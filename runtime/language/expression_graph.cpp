#include "runtime/language/expression_graph.h"

#include <algorithm>
#include <set>

namespace cudadent {
namespace {

using NodeIndex = ExpressionGraph::NodeIndex;

bool is_junction(Operation operation) {
  return operation == Operation::logical_and || operation == Operation::logical_or;
}

}  // namespace

NodeIndex ExpressionGraph::add_variable(std::uint32_t number) {
  Node node;
  node.operation = Operation::name;
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
      default: {
        Node copy;
        static_cast<Action&>(copy) = node;
        for (const std::uint32_t child : children) copy.children.push_back(compiled[child]);
        compiled.push_back(add(std::move(copy)));
      }
    }
  }
  return compiled[expression.root()];
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
  return cudadent::evaluate(node, node.children, values);
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
    instructions_.push_back({node, i, static_cast<std::uint32_t>(children_.size()),
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
                              : evaluate(step, {children, step.child_count}, values);
  }
}

}  // namespace cudadent
