// A group of coupled parameters as a tree of choices in which equal subtrees are shared.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tuner/constraint_program.h"

namespace cudadent {

class ChoiceTree {
 public:
  // Walks `parameters` (indices into the program's definition) in this order. Throws Error as
  // TuningSpace's constructor does.
  ChoiceTree(const ConstraintProgram& program, const std::vector<ParameterSpec>& specs,
             std::vector<std::uint32_t> parameters);
  // The tree of exactly these points, at least one, of `parameters` positions each.
  ChoiceTree(std::size_t parameters, std::vector<std::vector<std::uint16_t>> points);

  [[nodiscard]] std::span<const std::uint32_t> parameters() const noexcept { return parameters_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return nodes_[root_].size; }  // saturating
  // The same without an end, rounded.
  [[nodiscard]] double real_size() const;
  // Fills in the positions of this group's parameters.
  void locate(std::uint64_t index, std::span<std::uint16_t> positions) const;
  [[nodiscard]] std::optional<std::uint64_t> index_of(
      std::span<const std::uint16_t> positions) const;
  // Moves this group's positions to a choice that is there with the fewest steps along the lists of values.
  void move_to_nearest(std::span<std::uint16_t> positions) const;

 private:
  friend class ChoiceTreeBuilder;

  struct Node {
    std::uint64_t size = 0;  // complete choices below, saturating
    std::uint32_t first_edge = 0;
    std::uint32_t edge_count = 0;
  };
  struct Edge {
    std::uint64_t before = 0;  // choices below earlier edges of the node, saturating
    std::uint32_t child = 0;
    std::uint16_t position = 0;  // of the value
  };

  [[nodiscard]] std::span<const Edge> edges(const Node& node) const noexcept {
    return std::span(edges_).subspan(node.first_edge, node.edge_count);
  }

  using Points = std::span<const std::vector<std::uint16_t>>;
  std::uint32_t add(Points sorted, std::size_t depth);

  std::vector<std::uint32_t> parameters_;
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::uint32_t root_ = 0;
};

}  // namespace cudadent
