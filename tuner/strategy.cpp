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

constexpr std::array<Entry, 4> entries{{
    {"auto", "the prior's favourites and random ones, then local search from the best",
     make_automatic},
    {"exhaustive", "every configuration, in the order of the prior where there is one",
     make_exhaustive},
    {"iterated_local_search", "climbs to a local optimum, jumps away, climbs again",
     make_iterated_local_search},
    {"random", "every configuration in random order", make_random},
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
