// The constraints of a tuning space, compiled for evaluation one parameter at a time.
//
// All constraints and derived values become one graph of operations (ExpressionGraph), in which known values and
// parameters with a single value are constants. A walk that binds one parameter after another then computes every
// node exactly once, as soon as it can be.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/language/expression_graph.h"
#include "tuner/tuning_space.h"

namespace cudadent {

// Borrows from the definition, which must outlive it.
class ConstraintProgram {
 public:
  using NodeIndex = ExpressionGraph::NodeIndex;
  using Node = ExpressionGraph::Node;  // variables are parameters

  struct Constraint {
    NodeIndex root = 0;
    std::uint32_t source = 0;  // index into the definition's constraints
    // One part of a conjunction: rejects when false, but whether its failure matters is for the
    // whole to say.
    bool part = false;
  };

  explicit ConstraintProgram(const SpaceDefinition& definition);

  [[nodiscard]] const ExpressionGraph& graph() const noexcept { return graph_; }
  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return graph_.nodes(); }
  [[nodiscard]] const std::vector<Constraint>& constraints() const noexcept { return constraints_; }
  // The node that stands for a parameter; nothing when no constraint depends on it.
  [[nodiscard]] std::optional<NodeIndex> variable(std::uint32_t parameter) const;

  // A node's value from those of its children; variables have none of their own.
  [[nodiscard]] static Operand evaluate(const Node& node,
                                        std::span<const Operand> values) noexcept {
    return ExpressionGraph::evaluate(node, values);
  }

  // Throws the Error of a constraint that fails under these positions of parameters' values.
  [[noreturn]] void report_failure(std::uint32_t constraint,
                                   std::span<const std::uint16_t> positions) const;

 private:
  void add_constraint(std::uint32_t source);

  const SpaceDefinition& definition_;
  ExpressionGraph graph_;
  std::vector<Constraint> constraints_;
};

}  // namespace cudadent
