#include "tuner/neighbours.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "runtime/device.h"
#include "runtime/value.h"

namespace cudadent {

namespace {

// Keys usually round extents up to powers of two: extents of adjacent buckets are at most so far apart.
constexpr double next_bucket = 2;

bool is_dimension(const OperatorManifest& op, const std::string& name) {
  return std::find(op.dimensions.begin(), op.dimensions.end(), name) != op.dimensions.end();
}

// Distance in log-shape; nothing when the problems differ in more than their dimensions.
std::optional<double> distance(const OperatorManifest& op, const Values& a, const Values& b) {
  double sum = 0;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    if (other == b.end()) return std::nullopt;
    if (!is_dimension(op, name)) {
      if (value != other->second) return std::nullopt;
      continue;
    }
    const auto log_extent = [&](const Value& extent) {
      return std::log2(static_cast<double>(as_integer(extent, name)) + 1);
    };
    sum += std::abs(log_extent(value) - log_extent(other->second));
  }
  return sum;
}

// How many values of two tuning keys differ.
std::size_t differences(const std::string& key, const std::string& other) {
  const auto a = values_from_json(nlohmann::json::parse(key));
  const auto b = values_from_json(nlohmann::json::parse(other));
  std::size_t count = 0;
  for (const auto& [name, value] : a) {
    const auto found = b.find(name);
    if (found == b.end() || found->second != value) ++count;
  }
  return count;
}

// Device::kind() names the architecture as one of its words.
bool same_architecture(const Device& device, const std::string& kind) {
  return (" " + kind + " ").find(" " + device.architecture + " ") != std::string::npos;
}

std::optional<Neighbour> neighbour_of(const Problem& problem, const Device& device,
                                      WinnerRecord winner) {
  const bool here = winner.problem.device_kind == device.kind();
  const std::string key = problem.tuning_key();
  if (here ? winner.problem.tuning_key == key
           : !same_architecture(device, winner.problem.device_kind))
    return std::nullopt;
  const Values other = values_from_json(nlohmann::json::parse(winner.problem.problem_key));
  const auto far = distance(*problem.op, problem.values, other);
  if (!far) return std::nullopt;
  Provenance relation = Provenance::nearest;
  if (!here)
    relation = Provenance::other_device;
  else if (*far <= next_bucket && differences(key, winner.problem.tuning_key) == 1)
    relation = Provenance::neighbour;
  return Neighbour{std::move(winner), relation, *far};
}

}  // namespace

std::vector<Neighbour> neighbours_of(const Problem& problem, const Device& device, Store& store) {
  std::vector<Neighbour> neighbours;
  for (auto& winner : store.winners(problem.op->name)) {
    try {
      if (auto neighbour = neighbour_of(problem, device, std::move(winner)))
        neighbours.push_back(std::move(*neighbour));
    } catch (const std::exception&) {
      // A row that does not read as a problem of this operator (any more) is nobody's neighbour.
    }
  }
  std::stable_sort(neighbours.begin(), neighbours.end(), [](const auto& a, const auto& b) {
    return std::tie(a.relation, a.distance) < std::tie(b.relation, b.distance);
  });
  return neighbours;
}

}  // namespace cudadent
