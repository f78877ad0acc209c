#include "tuner/neighbours.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "runtime/language/device.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// Keys round extents up to powers of two at most: extents of adjacent buckets are at most so far apart.
constexpr double next_bucket = 2;

// The values of a key that tell problems apart which may share no winner: without strides, and with the
// dimensions that keys leave out when they are 1.
Values values_of(const OperatorManifest& op, const std::string& key) {
  Values values = values_from_json(nlohmann::json::parse(key));
  for (const auto& name : op.strides) values.erase(name);
  for (const auto& name : op.optional_dimensions) values.emplace(name, std::int64_t{1});
  return values;
}

int sign_of(double number) { return number > 0 ? 1 : number < 0 ? -1 : 0; }

// Distance in log-shape; nothing when the problems differ in more than their dimensions and scalars, or
// in the sign of a scalar: zero and negative ones often stand for "none".
std::optional<double> distance(const OperatorManifest& op, const Values& a, const Values& b) {
  if (a.size() != b.size()) return std::nullopt;
  double sum = 0;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    if (other == b.end()) return std::nullopt;
    if (!op.is_dimension(name) && !op.scalar_index(name)) {
      if (value != other->second) return std::nullopt;
      continue;
    }
    const double here = as_real(value, name), there = as_real(other->second, name);
    if (!op.is_dimension(name) && sign_of(here) != sign_of(there)) return std::nullopt;
    sum += std::abs(std::log2(std::abs(here) + 1) - std::log2(std::abs(there) + 1));
  }
  return sum;
}

// How many values of two tuning keys differ.
std::size_t differences(const Values& a, const Values& b) {
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

// A problem as its neighbours see it.
struct Place {
  const OperatorManifest& op;
  const Device& device;
  std::string key;  // of tuning
  Values exact, tuning;

  Place(const Problem& problem, const Device& where)
      : op(*problem.op),
        device(where),
        key(problem.tuning_key()),
        exact(values_of(op, problem.key())),
        tuning(values_of(op, key)) {}
};

std::optional<Neighbour> neighbour_of(const Place& place, WinnerRecord winner) {
  const bool here = winner.problem.device_kind == place.device.kind();
  if (here ? winner.problem.tuning_key == place.key
           : !same_architecture(place.device, winner.problem.device_kind))
    return std::nullopt;
  const auto far = distance(place.op, place.exact, values_of(place.op, winner.problem.problem_key));
  if (!far) return std::nullopt;
  Provenance relation = Provenance::nearest;
  if (!here)
    relation = Provenance::other_device;
  else if (*far <= next_bucket &&
           differences(place.tuning, values_of(place.op, winner.problem.tuning_key)) == 1)
    relation = Provenance::neighbour;
  return Neighbour{std::move(winner), relation, *far};
}

// A sibling's winner for the very problem says more than this device's for another shape.
int rank_of(const Neighbour& neighbour, const std::string& key) {
  if (neighbour.relation == Provenance::neighbour) return 0;
  if (neighbour.winner.problem.tuning_key == key) return 1;
  return neighbour.relation == Provenance::nearest ? 2 : 3;
}

}  // namespace

std::vector<Neighbour> neighbours_of(const Problem& problem, const Device& device, Store& store) {
  const Place place(problem, device);
  std::vector<Neighbour> neighbours;
  for (auto& winner : store.winners(problem.op->name)) {
    try {
      if (auto neighbour = neighbour_of(place, std::move(winner)))
        neighbours.push_back(std::move(*neighbour));
    } catch (const std::exception&) {
      // A row that does not read as a problem of this operator (any more) is nobody's neighbour.
    }
  }
  std::stable_sort(neighbours.begin(), neighbours.end(), [&](const auto& a, const auto& b) {
    return std::pair(rank_of(a, place.key), a.distance) <
           std::pair(rank_of(b, place.key), b.distance);
  });
  return neighbours;
}

}  // namespace cudadent
