// A tree of choices from constraints: every value of every parameter is tried, one parameter after another.
#include <algorithm>
#include <array>
#include <limits>

#include "runtime/base/cancellation.h"
#include "tuner/choice_lanes.h"
#include "tuner/choice_tree.h"
#include "tuner/choice_tree_parts.h"

namespace cudadent {

using choices::IndexSet;
using choices::last_node;
using choices::Memory;
using choices::mixed;
using choices::nothing;
using choices::saturating_add;

namespace {

constexpr std::uint32_t no_failure = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t no_lane = std::numeric_limits<std::uint32_t>::max();

}  // namespace

class ChoiceTreeBuilder {
 public:
  ChoiceTreeBuilder(ChoiceTree& tree, const ConstraintProgram& program,
                    const std::vector<ParameterSpec>& specs)
      : tree_(tree), program_(program), values_(program.nodes().size()), positions_(specs.size()) {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = program.nodes()[i].constant;
    make_levels(specs);
    tree_.nodes_.resize(2);
    tree_.nodes_[last_node].size = 1;
    tree_.root_ = build(0, no_failure);
  }

 private:
  using NodeIndex = ConstraintProgram::NodeIndex;

  // Computes one node; those of two operands, nearly all, take a short way.
  struct Step {
    NodeIndex node = 0;
    bool binary = false;
    Operation operation = Operation::constant;
    NodeIndex left = 0, right = 0;
  };

  // What happens when one parameter is bound.
  struct Level {
    std::uint32_t parameter = 0;
    std::optional<NodeIndex> variable;
    std::vector<Operand> values;
    std::vector<Step> computed;  // nodes that can be computed now, children first
    std::vector<ConstraintProgram::Constraint> checks;
    std::vector<NodeIndex> state;         // earlier nodes that this or a later level reads
    std::vector<ChoiceTree::Edge> edges;  // of the node being built; at most one a level at a time
    std::vector<std::uint64_t> key;
    Memory memory{0};
    // Of the last level, if it is all arithmetic of integers: each node's lanes side by side.
    bool laned = false;
    std::vector<std::int64_t> lanes;
  };

  // The level at which a node can be computed; −1 for constants, nothing if not in this group.
  [[nodiscard]] std::optional<int> level_of(NodeIndex node) const {
    int result = -1;
    for (const std::uint32_t parameter : program_.nodes()[node].variables) {
      const auto found = std::find(tree_.parameters_.begin(), tree_.parameters_.end(), parameter);
      if (found == tree_.parameters_.end()) return std::nullopt;
      result = std::max(result, static_cast<int>(found - tree_.parameters_.begin()));
    }
    return result;
  }

  void make_levels(const std::vector<ParameterSpec>& specs) {
    for (const std::uint32_t parameter : tree_.parameters_) {
      Level& level = levels_.emplace_back();
      level.parameter = parameter;
      level.variable = program_.variable(parameter);
      for (const Value& value : specs[parameter].values) level.values.push_back(Operand::of(value));
    }
    const std::vector<bool> needed = add_checks();
    std::vector<int> last_reader(needed.size(), -1);
    std::vector<int> computed_at(needed.size(), -1);
    for (NodeIndex i = 0; i < needed.size(); ++i) {
      if (!needed[i]) continue;
      computed_at[i] = *level_of(i);
      for (const NodeIndex child : program_.nodes()[i].children) {
        last_reader[child] = std::max(last_reader[child], computed_at[i]);
      }
      const bool variable = program_.nodes()[i].operation == Operation::name;
      if (!variable && computed_at[i] >= 0) {
        levels_[static_cast<std::size_t>(computed_at[i])].computed.push_back(step_for(i));
      }
    }
    for (NodeIndex i = 0; i < needed.size(); ++i) {
      if (computed_at[i] < 0) continue;
      for (int level = computed_at[i] + 1; level <= last_reader[i]; ++level) {
        levels_[static_cast<std::size_t>(level)].state.push_back(i);
      }
    }
    for (Level& level : levels_) {
      // One word a value, and a nibble for its kind; the first nibble is for a pending failure.
      level.key.resize(level.state.size() + (level.state.size() + 16) / 16);
      level.memory = Memory(level.key.size());
    }
    if (!levels_.empty()) make_lanes(levels_.back());
  }

  void make_lanes(Level& level) {
    if (!level.variable) return;
    for (const Step& step : level.computed) {
      if (!step.binary || step.operation == Operation::divide) return;
    }
    for (const Operand& value : level.values) {
      if (value.kind != Operand::Kind::integer) return;
    }
    level.laned = true;
    lane_of_.assign(values_.size(), no_lane);
    lane_of_[*level.variable] = 0;
    std::uint32_t lanes = 1;
    for (const Step& step : level.computed) lane_of_[step.node] = lanes++;
    level.lanes.resize(lanes * level.values.size());
    for (std::size_t i = 0; i < level.values.size(); ++i) level.lanes[i] = level.values[i].integer;
  }

  // Nothing when the node holds no integer.
  [[nodiscard]] std::optional<Lanes> lanes_of(const Level& level, NodeIndex node) const {
    if (lane_of_[node] != no_lane) {
      return Lanes{level.lanes.data() + lane_of_[node] * level.values.size(), 0};
    }
    if (!values_[node].is_integer()) return std::nullopt;
    return Lanes{nullptr, values_[node].integer};
  }

  // The edges of the last level, all values at once; false when they have to be taken one by one.
  bool bind_lanes(Level& level) {
    const std::size_t count = level.values.size();
    for (const Step& step : level.computed) {
      const auto left = lanes_of(level, step.left), right = lanes_of(level, step.right);
      if (!left || !right) return false;
      const std::span<std::int64_t> result(level.lanes.data() + lane_of_[step.node] * count, count);
      if (!apply_lanes(step.operation, *left, *right, result)) return false;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const bool kept = std::all_of(
          level.checks.begin(), level.checks.end(),
          [&](const auto& check) { return level.lanes[lane_of_[check.root] * count + i] != 0; });
      if (kept) level.edges.push_back({0, last_node, static_cast<std::uint16_t>(i)});
    }
    return true;
  }

  [[nodiscard]] Step step_for(NodeIndex index) const {
    const auto& node = program_.nodes()[index];
    const bool binary = node.operation >= Operation::add && node.operation <= Operation::not_equal;
    if (!binary) return {index, false, node.operation, 0, 0};
    return {index, true, node.operation, node.children[0], node.children[1]};
  }

  // Puts the constraints of this group where they can be checked; marks the nodes they read.
  std::vector<bool> add_checks() {
    std::vector<bool> needed(program_.nodes().size(), false);
    for (const auto& constraint : program_.constraints()) {
      const auto level = level_of(constraint.root);
      if (!level || *level < 0) continue;
      levels_[static_cast<std::size_t>(*level)].checks.push_back(constraint);
      needed[constraint.root] = true;
    }
    for (std::size_t i = needed.size(); i-- > 0;) {
      if (!needed[i]) continue;
      for (const NodeIndex child : program_.nodes()[i].children) needed[child] = true;
    }
    return needed;
  }

  // The subtree below the choices made so far. `failure` is a constraint that failed on the way:
  // it matters only if no other constraint rejects.
  std::uint32_t build(std::size_t depth, std::uint32_t failure) {
    if (depth == levels_.size()) {
      if (failure != no_failure) program_.report_failure(failure, positions_);
      return last_node;
    }
    if (++visits_ % 4096 == 0) Cancellation::check();
    Level& level = levels_[depth];
    const std::uint64_t hash = make_key(level, failure);
    if (const std::uint32_t* known = level.memory.find(level.key, hash)) return *known;
    level.edges.clear();
    if (level.laned && failure == no_failure && bind_lanes(level)) {
      return remembered(level, failure, hash);
    }
    for (std::size_t i = 0; i < level.values.size(); ++i) {
      const auto position = static_cast<std::uint16_t>(i);
      positions_[level.parameter] = position;
      std::uint32_t pending = failure;
      if (!bind(level, i, pending)) continue;
      const std::uint32_t child = build(depth + 1, pending);
      if (child != nothing) level.edges.push_back({0, child, position});
    }
    return remembered(level, failure, hash);
  }

  // The node of the level's edges, known by the state from now on.
  std::uint32_t remembered(Level& level, std::uint32_t failure, std::uint64_t hash) {
    const std::uint32_t result = interned(level.edges);
    if (!level.memory.given_up()) {
      make_key(level, failure);  // deeper levels have not touched the state's values
      level.memory.insert(level.key, hash, result);
    }
    return result;
  }

  // Binds the level's parameter; false when a constraint rejects it.
  bool bind(const Level& level, std::size_t position, std::uint32_t& failure) {
    if (level.variable) values_[*level.variable] = level.values[position];
    for (const Step& step : level.computed) {
      values_[step.node] = step.binary
                               ? apply(step.operation, values_[step.left], values_[step.right])
                               : program_.evaluate(program_.nodes()[step.node], values_);
    }
    for (const auto& check : level.checks) {
      const Operand& verdict = values_[check.root];
      if (verdict.is_failure()) {
        if (!check.part && failure == no_failure) failure = check.source;
      } else if (!verdict.is_true()) {
        return false;
      }
    }
    return true;
  }

  std::uint64_t make_key(Level& level, std::uint32_t failure) const {
    if (level.memory.given_up()) return 0;
    const std::size_t count = level.state.size();
    std::fill(level.key.begin() + static_cast<long>(count), level.key.end(), 0);
    level.key[count] = failure == no_failure ? 0 : 1;
    for (std::size_t i = 0; i < count; ++i) {
      const Operand& value = values_[level.state[i]];
      const std::uint64_t detail = value.is_failure() ? 1 + value.detail : 0;
      level.key[i] = value.bits() + (detail << 8U) + static_cast<std::uint64_t>(value.failure);
      level.key[count + (i + 1) / 16] |= static_cast<std::uint64_t>(value.kind)
                                         << (4U * ((i + 1) % 16));
    }
    std::uint64_t hash = 0;
    for (const std::uint64_t word : level.key) hash = mixed(hash, word);
    return hash;
  }

  // The node with these edges, stored once.
  std::uint32_t interned(std::span<const ChoiceTree::Edge> edges) {
    if (edges.empty()) return nothing;
    std::uint64_t hash = edges.size();
    for (const auto& edge : edges) {
      hash = mixed(hash, (std::uint64_t{edge.child} << 16U) | edge.position);
    }
    const std::uint32_t* known = interned_.find(hash, [&](std::uint32_t index) {
      const auto others = tree_.edges(tree_.nodes_[index]);
      return std::equal(edges.begin(), edges.end(), others.begin(), others.end(),
                        [](const auto& a, const auto& b) {
                          return a.child == b.child && a.position == b.position;
                        });
    });
    if (known != nullptr) return *known;
    ChoiceTree::Node node;
    check_room(edges.size());
    node.first_edge = static_cast<std::uint32_t>(tree_.edges_.size());
    node.edge_count = static_cast<std::uint32_t>(edges.size());
    for (const auto& edge : edges) {
      tree_.edges_.push_back({node.size, edge.child, edge.position});
      node.size = saturating_add(node.size, tree_.nodes_[edge.child].size);
    }
    tree_.nodes_.push_back(node);
    const auto index = static_cast<std::uint32_t>(tree_.nodes_.size() - 1);
    interned_.insert(hash, index);
    return index;
  }

  void check_room(std::size_t more) const {
    constexpr std::size_t max_edges = 1U << 27U;  // 2 GB
    if (tree_.edges_.size() + more <= max_edges) return;
    throw Error(ErrorCode::unsupported,
                "the tuning space is too large and irregular to be listed: give its parameters "
                "fewer values, or its constraints more structure");
  }

  ChoiceTree& tree_;
  const ConstraintProgram& program_;
  std::vector<Operand> values_;  // by the program's nodes
  std::vector<std::uint16_t> positions_;
  std::vector<Level> levels_;
  std::vector<std::uint32_t> lane_of_;  // by the program's nodes
  IndexSet interned_;
  std::size_t visits_ = 0;
};

ChoiceTree::ChoiceTree(const ConstraintProgram& program, const std::vector<ParameterSpec>& specs,
                       std::vector<std::uint32_t> parameters)
    : parameters_(std::move(parameters)) {
  const ChoiceTreeBuilder builder(*this, program, specs);
  nodes_.shrink_to_fit();
  edges_.shrink_to_fit();
}

}  // namespace cudadent
