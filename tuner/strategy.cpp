#include "tuner/strategy.h"

#include <fmt/format.h>

#include <array>

#include "tuner/strategies/strategies.h"

namespace cudadent {
namespace {

struct Entry {
  const char* name;
  const char* description;
  std::unique_ptr<Strategy> (*make)(const SearchSpace& space, std::uint64_t seed);
};

constexpr std::array<Entry, 8> entries{{
    {"auto", "a model of what was measured, begun with the prior's favourites", make_automatic},
    {"exhaustive", "every configuration, in the order of the prior where there is one",
     make_exhaustive},
    {"genetic", "breeds new ones from the fastest", make_genetic},
    {"iterated_local_search", "climbs to a local optimum, jumps away, climbs again",
     make_iterated_local_search},
    {"multi_start_local_search", "climbs to local optima from one random place after another",
     make_multi_start_local_search},
    {"random", "every configuration in random order", make_random},
    {"simulated_annealing", "walks among neighbours, to slower ones too while it is hot",
     make_simulated_annealing},
    {"surrogate", "a model of what was measured, without a prior", make_surrogate},
}};

}  // namespace

std::unique_ptr<Strategy> make_strategy(std::string_view name, const SearchSpace& space,
                                        std::uint64_t seed) {
  std::string known;
  for (const Entry& entry : entries) {
    if (entry.name == name) return entry.make(space, seed);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.name);
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("unknown search strategy '{}'; known: {}", name, known));
}

std::vector<std::pair<std::string, std::string>> strategies() {
  std::vector<std::pair<std::string, std::string>> result;
  for (const Entry& entry : entries) result.emplace_back(entry.name, entry.description);
  return result;
}

}  // namespace cudadent
