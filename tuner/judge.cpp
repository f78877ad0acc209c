#include "tuner/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "runtime/language/value.h"
#include "tuner/cost_model.h"
#include "tuner/neighbours.h"

namespace cudadent {

namespace {

constexpr double unknown = std::numeric_limits<double>::infinity();
constexpr double clearly_cheaper = 0.97;  // than what is proven
constexpr std::size_t spread_over =
    800;                               // configurations of a template that a prior is asked about,
constexpr std::size_t most_walks = 4;  // from the best of which walks lead downhill,
constexpr std::size_t most_steps = 150;     // asking about so many each
constexpr std::size_t most_corrected = 40;  // of a template, the least predicted
constexpr std::size_t most_evidence = 12;   // winners a template, the nearest
constexpr double problem_reach = 1;         // octaves over which a prior's error tells of another
constexpr double configuration_reach = 2;   // the same of parameters
constexpr double evidence_for_nothing =
    1;  // a prior's being right, in winners that are as near as can be

// |log2| of two numbers' ratio; 1 where values differ otherwise.
double difference(const Value& a, const Value& b) {
  if (a == b) return 0;
  const auto number = [](const Value& value) -> std::optional<double> {
    if (const auto* integer = std::get_if<std::int64_t>(&value))
      return static_cast<double>(*integer);
    if (const auto* real = std::get_if<double>(&value)) return *real;
    return std::nullopt;
  };
  const auto x = number(a), y = number(b);
  if (!x || !y) return 1;
  return std::abs(std::log2(std::abs(*x) + 1) - std::log2(std::abs(*y) + 1));
}

double distance(const Values& a, const Values& b) {
  double sum = 0;
  for (const auto& [name, value] : a) {
    const auto other = b.find(name);
    sum += other == b.end() ? 1 : difference(value, other->second);
  }
  return sum;
}

// How wrong one template's prior was about winners.
class Correction {
 public:
  void learn(Values configuration, double problem_distance, double log_error) {
    evidence_.push_back({std::move(configuration), problem_distance, log_error});
  }
  [[nodiscard]] bool full() const { return evidence_.size() >= most_evidence; }

  // What to multiply a prediction by.
  [[nodiscard]] double of(const Values& configuration) const {
    double sum = 0, weights = evidence_for_nothing;
    for (const auto& seen : evidence_) {
      const double weight =
          std::exp(-seen.problem_distance / problem_reach -
                   distance(configuration, seen.configuration) / configuration_reach);
      sum += weight * seen.log_error;
      weights += weight;
    }
    return std::exp(sum / weights);
  }

 private:
  struct Seen {
    Values configuration;
    double problem_distance = 0, log_error = 0;
  };
  std::vector<Seen> evidence_;
};

// The least of a prior among evenly spread configurations and those given, and downhill from the best of them.
std::vector<std::uint64_t> least_predicted(const SearchSpace::Member& member,
                                           const std::vector<std::uint64_t>& given) {
  std::vector<std::pair<double, std::uint64_t>> asked;
  std::set<std::uint64_t> known;
  const auto ask = [&](std::uint64_t index) -> std::optional<double> {
    if (!known.insert(index).second) return std::nullopt;
    const double cost = member.prior(member.space.configuration(index));
    if (!std::isfinite(cost)) return std::nullopt;
    asked.emplace_back(cost, index);
    return cost;
  };
  for (const std::uint64_t index : given) ask(index);
  const std::uint64_t stride = member.space.size() / spread_over + 1;
  for (std::uint64_t index = 0; index < member.space.size(); index += stride) {
    ask(index);
    if (index > member.space.size() - stride) break;  // the sum might overflow
  }
  std::sort(asked.begin(), asked.end());
  auto starts = asked;
  starts.resize(std::min(starts.size(), most_walks));
  for (auto [cost, place] : starts) {
    std::size_t steps = 0;
    for (bool better = true; better && steps < most_steps;) {
      better = false;
      for (const std::uint64_t index : member.space.neighbours(place, Neighbourhood::adjacent)) {
        ++steps;
        const auto found = ask(index);
        if (!found || *found >= cost) continue;
        std::tie(cost, place) = std::pair(*found, index);
        better = true;
      }
    }
  }
  std::sort(asked.begin(), asked.end());
  std::vector<std::uint64_t> result;
  for (const auto& [cost, index] : asked) result.push_back(index);
  return result;
}

class Judge {
 public:
  Judge(const SearchSpace& space, const OperatorEntry& entry, const Problem& problem,
        const Device& device, Store& store)
      : space_(space),
        entry_(entry),
        problem_(problem),
        device_(device),
        facts_(device.facts()),
        neighbours_(neighbours_of(problem, device, store)),
        corrections_(space.members().size()) {}

  std::vector<Judged> ranking() {
    const bool compare = std::all_of(space_.members().begin(), space_.members().end(),
                                     [](const auto& member) { return bool(member.prior); });
    if (compare) learn();
    for (const auto& neighbour : neighbours_)
      if (const auto candidate = find(neighbour.winner))
        add({*candidate, neighbour.relation, neighbour.winner.seconds, unknown});
    const std::size_t winners = all_.size();
    for (const auto& member : space_.members())
      if (const auto index = default_index(member, problem_, device_))
        add({member.first + *index, Provenance::defaulted, 0, unknown});
    for (const auto& member : space_.members()) add_least(member);
    for (auto& judged : all_) judged.predicted_seconds = cost_of(judged.candidate);
    const auto first = all_.begin() + static_cast<std::ptrdiff_t>(compare ? 0 : winners);
    std::stable_sort(first, all_.end(),
                     [](const Judged& a, const Judged& b) { return cautious(a) < cautious(b); });
    return std::move(all_);
  }

 private:
  static double cautious(const Judged& judged) {
    const bool proven = judged.provenance != Provenance::predicted;
    return judged.predicted_seconds / (proven ? 1 : clearly_cheaper);
  }

  [[nodiscard]] std::size_t place_of(const SearchSpace::Member& member) const {
    return static_cast<std::size_t>(&member - space_.members().data());
  }

  void add(const Judged& judged) {
    if (known_.insert(judged.candidate).second) all_.push_back(judged);
  }

  void add_least(const SearchSpace::Member& member) {
    if (!member.prior) return;
    std::vector<std::uint64_t> given;
    for (const auto& judged : all_)
      if (&space_.member_of(judged.candidate) == &member)
        given.push_back(judged.candidate - member.first);
    auto least = least_predicted(member, given);
    least.resize(std::min(least.size(), most_corrected));
    for (const std::uint64_t index : least)
      add({member.first + index, Provenance::predicted, 0, unknown});
  }

  [[nodiscard]] std::optional<Candidate> find(const WinnerRecord& winner) const {
    for (const auto& member : space_.members()) {
      if (member.kernel_template == nullptr || member.kernel_template->hash != winner.template_hash)
        continue;
      if (const auto index = member.space.index_of(winner.configuration))
        return member.first + *index;
    }
    return std::nullopt;
  }

  // What each prior says of what won on this kind of device, beside what was measured.
  void learn() {
    for (const auto& neighbour : neighbours_) {
      const WinnerRecord& winner = neighbour.winner;
      if (neighbour.relation == Provenance::other_device || winner.seconds <= 0) continue;
      for (const auto& member : space_.members()) {
        Correction& correction = corrections_[place_of(member)];
        if (member.kernel_template->hash != winner.template_hash || correction.full()) continue;
        const double predicted = prior_there(*member.kernel_template, winner);
        if (predicted > 0 && std::isfinite(predicted))
          correction.learn(winner.configuration, neighbour.distance,
                           std::log(winner.seconds / predicted));
      }
    }
  }

  [[nodiscard]] double prior_there(const KernelTemplate& kernel, const WinnerRecord& winner) const {
    try {
      const Values values = values_from_json(nlohmann::json::parse(winner.problem.problem_key));
      const Problem problem = make_problem(entry_.manifest, values);
      return CostModel(kernel, problem, facts_)(winner.configuration);
    } catch (const std::exception&) {
      return unknown;  // a problem that does not read as one (any more) says nothing
    }
  }

  [[nodiscard]] double cost_of(Candidate candidate) const {
    const auto& member = space_.member_of(candidate);
    if (!member.prior) return unknown;
    const Values configuration = space_.configuration(candidate);
    const double predicted = member.prior(configuration);
    return predicted * corrections_[place_of(member)].of(configuration);
  }

  const SearchSpace& space_;
  const OperatorEntry& entry_;
  const Problem& problem_;
  const Device& device_;
  const Values facts_;
  const std::vector<Neighbour> neighbours_;
  std::vector<Correction> corrections_;  // by member of the space
  std::vector<Judged> all_;
  std::set<Candidate> known_;
};

}  // namespace

std::vector<Judged> judged(const SearchSpace& space, const OperatorEntry& entry,
                           const Problem& problem, const Device& device, Store& store) {
  return Judge(space, entry, problem, device, store).ranking();
}

std::vector<Candidate> diverse(const SearchSpace& space, const std::vector<Judged>& ranking,
                               std::size_t most) {
  std::vector<Candidate> chosen;
  std::set<std::tuple<const SearchSpace::Member*, std::string, std::string>> seen;
  for (const auto& judged : ranking) {
    if (chosen.size() >= most) break;
    const auto& member = space.member_of(judged.candidate);
    bool brings = false;
    for (const auto& [name, value] : space.configuration(judged.candidate))
      brings = seen.emplace(&member, name, to_text(value)).second || brings;
    if (brings) chosen.push_back(judged.candidate);
  }
  return chosen;
}

}  // namespace cudadent
