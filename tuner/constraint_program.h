// The constraints of a tuning space, compiled for evaluation one parameter at a time.
//
// All constraints and derived values become one graph of operations in which equal subexpressions are
// one node, known values and parameters with a single value are constants, and whatever follows from
// constants alone is folded away. A walk that binds one parameter after another then computes every
// node exactly once, as soon as it can be.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/operand.h"
#include "tuner/tuning_space.h"

namespace cudadent {

// Borrows from the definition, which must outlive it.
class ConstraintProgram {
 public:
  using NodeIndex = std::uint32_t;

  struct Node {
    Node() = default;
    explicit Node(Operation kind, BuiltIn of = BuiltIn::min) : operation(kind), function(of) {}

    Operation operation = Operation::constant;
    BuiltIn function = BuiltIn::min;  // of a call
    bool list = false;                // of in, not_in: children are the needle and the elements
    std::vector<NodeIndex> children;
    Operand constant;
    std::vector<std::uint32_t> parameters;  // that it depends on, ascending
  };

  struct Constraint {
    NodeIndex root = 0;
    std::uint32_t source = 0;  // index into the definition's constraints
    // One part of a conjunction: rejects when false, but whether its failure matters is for the
    // whole to say.
    bool part = false;
  };

  explicit ConstraintProgram(const SpaceDefinition& definition);

  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] const std::vector<Constraint>& constraints() const noexcept { return constraints_; }
  // The node that stands for a parameter; nothing when no constraint depends on it.
  [[nodiscard]] std::optional<NodeIndex> variable(std::uint32_t parameter) const;

  // A node's value from those of its children; variables have none of their own.
  [[nodiscard]] Operand evaluate(const Node& node, std::span<const Operand> values) const;

  // Throws the Error of a constraint that fails under these positions of parameters' values.
  [[noreturn]] void report_failure(std::uint32_t constraint,
                                   std::span<const std::uint16_t> positions) const;

 private:
  using Key = std::tuple<Operation, BuiltIn, bool, std::vector<NodeIndex>>;

  NodeIndex compile(const Expression& expression);
  NodeIndex compile_chain(const Expression& expression, const Expression::Node& node,
                          const std::vector<NodeIndex>& compiled);
  NodeIndex compile_name(const std::string& name);
  NodeIndex add(Node node);
  NodeIndex add_constant(const Operand& value);
  NodeIndex add_comparison(Operation operation, const Expression& expression, std::uint32_t right,
                           NodeIndex left, const std::vector<NodeIndex>& compiled);
  std::optional<NodeIndex> simplified(Node& node);
  std::optional<NodeIndex> simplified_junction(Node& node);
  [[nodiscard]] bool is_constant(NodeIndex node) const {
    return nodes_[node].operation == Operation::constant;
  }
  void add_constraint(std::uint32_t source);

  const SpaceDefinition& definition_;
  std::vector<Node> nodes_;
  std::vector<Constraint> constraints_;
  std::map<Key, NodeIndex> known_nodes_;
  std::map<std::string, NodeIndex, std::less<>> names_;  // parameters and derived values so far
};

}  // namespace cudadent
