// Expressions compiled into one graph of operations, in which equal subexpressions are one node and whatever
// follows from constants alone is folded away: for what is evaluated again and again with other numbers.
// Constraints and priors of a tuning space are such graphs, and what a launch needs to know of its tensors.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/language/expression.h"
#include "runtime/language/operand.h"

namespace cudadent {

// Borrows text from the known values and from the expressions, which must outlive it.
class ExpressionGraph {
 public:
  using NodeIndex = std::uint32_t;

  struct Node : Action {
    std::vector<NodeIndex> children;
    Operand constant;
    std::vector<std::uint32_t> variables;  // that it depends on, ascending
  };

  // `known` are constants by name.
  explicit ExpressionGraph(const Values& known) : known_(&known) {}

  // A node for what is only known when the graph is evaluated; `number` is the caller's own for it.
  NodeIndex add_variable(std::uint32_t number);
  NodeIndex add_constant(const Operand& value);
  // What a name stands for in expressions compiled from now on, before the known values.
  void define(const std::string& name, NodeIndex node) { names_[name] = node; }
  [[nodiscard]] std::optional<NodeIndex> defined(const std::string& name) const;
  // A name that is neither defined nor known is an operand that has failed. Throws nothing.
  NodeIndex compile(const Expression& expression);

  // Children come before their parents.
  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] bool is_constant(NodeIndex node) const {
    return nodes_[node].operation == Operation::constant;
  }
  // A node's value from those of its children; variables have none of their own.
  [[nodiscard]] static Operand evaluate(const Node& node, std::span<const Operand> values) noexcept;

 private:
  using Key = std::tuple<Operation, BuiltIn, bool, std::vector<NodeIndex>>;

  NodeIndex compile_name(const std::string& name);
  NodeIndex add(Node node);
  std::optional<NodeIndex> simplified(Node& node);
  std::optional<NodeIndex> simplified_junction(Node& node);

  const Values* known_;
  std::vector<Node> nodes_;
  std::map<Key, NodeIndex> known_nodes_;
  std::map<std::string, NodeIndex, std::less<>> names_;
};

// The operations that some nodes of a graph need, in the order in which they are done, in one piece of memory.
// Values lie in an array by the graph's node numbers, constants among them. Borrows what the graph borrows.
class ExpressionProgram {
 public:
  using NodeIndex = ExpressionGraph::NodeIndex;
  // A part of the program.
  struct Range {
    std::uint32_t begin = 0, end = 0;
  };

  // Adds what `roots` need and no earlier part has computed; variables, and what they were computed from, must
  // stay as they were then.
  Range add(const ExpressionGraph& graph, std::span<const NodeIndex> roots);
  // As many as the graph has nodes, constants filled in.
  [[nodiscard]] static std::vector<Operand> values_for(const ExpressionGraph& graph);
  void run(Range part, std::span<Operand> values) const noexcept;

 private:
  struct Instruction : Action {
    std::uint32_t target = 0;
    std::uint32_t first_child = 0, child_count = 0;
  };
  std::vector<Instruction> instructions_;
  std::vector<NodeIndex> children_;
  std::vector<bool> done_;  // by node
};

}  // namespace cudadent
