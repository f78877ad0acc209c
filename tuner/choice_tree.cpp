#include "tuner/choice_tree.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "tuner/choice_tree_parts.h"

namespace cudadent {

using choices::last_node;
using choices::saturating_add;

ChoiceTree::ChoiceTree(std::size_t parameters, std::vector<std::vector<std::uint16_t>> points)
    : parameters_(parameters), nodes_(2) {
  std::iota(parameters_.begin(), parameters_.end(), 0U);
  nodes_[last_node].size = 1;
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  root_ = add(points, 0);
}

// The subtree of points that agree in the first `depth` positions.
std::uint32_t ChoiceTree::add(Points sorted, std::size_t depth) {
  if (depth == parameters_.size()) return last_node;
  std::vector<Edge> edges;
  Node node;
  while (!sorted.empty()) {
    const std::uint16_t position = sorted.front()[depth];
    const auto end = std::find_if(sorted.begin(), sorted.end(),
                                  [&](const auto& each) { return each[depth] != position; });
    const auto same = static_cast<std::size_t>(end - sorted.begin());
    const std::uint32_t child = add(sorted.first(same), depth + 1);
    edges.push_back({node.size, child, position});
    node.size += nodes_[child].size;
    sorted = sorted.subspan(same);
  }
  node.first_edge = static_cast<std::uint32_t>(edges_.size());
  node.edge_count = static_cast<std::uint32_t>(edges.size());
  edges_.insert(edges_.end(), edges.begin(), edges.end());
  nodes_.push_back(node);
  return static_cast<std::uint32_t>(nodes_.size() - 1);
}

double ChoiceTree::real_size() const {
  std::vector<double> sizes;  // by node: children come before their parents
  for (std::size_t i = 0; i <= root_; ++i) {
    double size = 0;
    for (const Edge& edge : edges(nodes_[i])) size += sizes[edge.child];
    sizes.push_back(nodes_[i].edge_count == 0 ? static_cast<double>(nodes_[i].size) : size);
  }
  return sizes[root_];
}

void ChoiceTree::locate(std::uint64_t index, std::span<std::uint16_t> positions) const {
  std::uint32_t at = root_;
  for (const std::uint32_t parameter : parameters_) {
    const auto choices = edges(nodes_[at]);
    const auto after = std::upper_bound(choices.begin(), choices.end(), index,
                                        [](auto i, const Edge& edge) { return i < edge.before; });
    const Edge& edge = *(after - 1);
    positions[parameter] = edge.position;
    index -= edge.before;
    at = edge.child;
  }
}

std::optional<std::uint64_t> ChoiceTree::index_of(std::span<const std::uint16_t> positions) const {
  std::uint32_t at = root_;
  std::uint64_t index = 0;
  for (const std::uint32_t parameter : parameters_) {
    const auto choices = edges(nodes_[at]);
    const auto found =
        std::lower_bound(choices.begin(), choices.end(), positions[parameter],
                         [](const Edge& edge, auto position) { return edge.position < position; });
    if (found == choices.end() || found->position != positions[parameter]) return std::nullopt;
    index = saturating_add(index, found->before);
    at = found->child;
  }
  return index;
}

void ChoiceTree::move_to_nearest(std::span<std::uint16_t> positions) const {
  constexpr std::uint32_t unknown = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> fewest(nodes_.size(),
                                    unknown);  // steps of the parameters below a node
  const auto steps = [&](const Edge& edge, std::size_t depth) {
    return static_cast<std::uint32_t>(
        std::abs(static_cast<int>(edge.position) - positions[parameters_[depth]]));
  };
  const auto look = [&](const auto& self, std::uint32_t node, std::size_t depth) -> std::uint32_t {
    if (depth == parameters_.size()) return 0;
    if (fewest[node] != unknown) return fewest[node];
    std::uint32_t least = unknown;
    for (const Edge& edge : edges(nodes_[node]))
      least = std::min(least, steps(edge, depth) + self(self, edge.child, depth + 1));
    return fewest[node] = least;
  };
  look(look, root_, 0);
  std::vector<std::uint16_t> chosen;
  std::uint32_t node = root_;
  for (std::size_t depth = 0; depth < parameters_.size(); ++depth) {
    const auto below = edges(nodes_[node]);
    const auto best = std::min_element(below.begin(), below.end(), [&](auto& a, auto& b) {
      return steps(a, depth) + look(look, a.child, depth + 1) <
             steps(b, depth) + look(look, b.child, depth + 1);
    });
    chosen.push_back(best->position);
    node = best->child;
  }
  for (std::size_t depth = 0; depth < parameters_.size(); ++depth)
    positions[parameters_[depth]] = chosen[depth];
}

}  // namespace cudadent
