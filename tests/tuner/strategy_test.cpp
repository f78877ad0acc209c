#include "tuner/strategy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <set>

namespace {

using namespace cudadent;
using Landscape = std::function<std::optional<double>(const Values&)>;

std::int64_t integer(const Values& configuration, const char* name) {
  return std::get<std::int64_t>(configuration.find(name)->second);
}

// 4 parameters, 10,000 raw configurations, one in about three valid.
TuningSpace tiles(const char* values = "range(10)") {
  SpaceDefinition definition;
  for (const char* name : {"A", "B", "C", "D"}) {
    definition.parameters.push_back({name, Expression::parse_list(values)});
  }
  definition.constraints.push_back(Expression::parse("A <= B + 3"));
  definition.constraints.push_back(Expression::parse("C % 2 == 0 or D < 5"));
  return TuningSpace(std::move(definition));
}

// Sanitizers make arithmetic ten times slower. They look at memory: how good a search is they need not see.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

SearchSpace search_space(TuningSpace space, std::function<double(const Values&)> prior = {}) {
  std::vector<SearchSpace::Member> members;
  members.push_back({nullptr, std::move(space), 0, std::move(prior)});
  return SearchSpace(std::move(members));
}

// Smooth in the large, rough in the small; a tenth of it fails.
std::optional<double> rough(const Values& configuration) {
  const auto at = [&](const char* name) {
    return static_cast<double>(integer(configuration, name));
  };
  const double a = at("A") - 6, b = at("B") - 5, c = at("C") - 4, d = at("D") - 7;
  if (std::fmod(at("A") * 7 + at("B") * 3 + at("C") + at("D") * 5, 10) == 9) return std::nullopt;
  return 1 + 0.05 * (a * a + b * b + c * c + d * d + a * b / 2) +
         0.2 * std::fabs(std::sin(3 * a + 5 * b + 7 * c + 2 * d));
}

// Asks and tells in batches until `most` candidates are measured; returns them in order.
std::vector<Candidate> run(const SearchSpace& space, Strategy& strategy, const Landscape& landscape,
                           std::size_t most, std::size_t batch) {
  std::vector<Candidate> asked;
  while (asked.size() < most) {
    const auto candidates = strategy.ask(std::min(batch, most - asked.size()));
    if (candidates.empty()) break;
    for (const Candidate candidate : candidates) {
      asked.push_back(candidate);
      strategy.tell({candidate, landscape(space.configuration(candidate))});
    }
  }
  return asked;
}

double best_of(const SearchSpace& space, const std::vector<Candidate>& candidates,
               const Landscape& landscape) {
  double best = 1e9;
  for (const Candidate candidate : candidates) {
    best = std::min(best, landscape(space.configuration(candidate)).value_or(1e9));
  }
  return best;
}

double average_best(const char* name, const SearchSpace& space, std::size_t evaluations) {
  // Those that learn spread less, and take their time.
  const bool learns = std::string(name) == "auto" || std::string(name) == "surrogate";
  const std::uint64_t seeds = learns ? 8 : 40;
  double sum = 0;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const auto strategy = make_strategy(name, space, seed);
    sum += best_of(space, run(space, *strategy, rough, evaluations, 4), rough);
  }
  return sum / static_cast<double>(seeds);
}

TEST_CASE("auto is the first strategy, and an unknown one is told the others") {
  REQUIRE(strategies().size() >= 4);
  CHECK(strategies()[0].first == "auto");
  const SearchSpace space = search_space(tiles());
  for (const auto& [name, description] : strategies()) {
    CHECK(make_strategy(name, space, 0) != nullptr);
    CHECK_FALSE(description.empty());
  }
  CHECK_THROWS_WITH_AS(static_cast<void>(make_strategy("magic", space, 0)),
                       doctest::Contains("iterated_local_search"), Error);
}

TEST_CASE("every strategy covers the space, each candidate once") {
  const char* extents = sanitized ? "range(3)" : "range(5)";
  const SearchSpace space = search_space(tiles(extents));
  const SearchSpace guided = search_space(tiles(extents), [](const Values& configuration) {
    return static_cast<double>(integer(configuration, "A"));
  });
  for (const auto& [name, description] : strategies()) {
    for (const SearchSpace* each : {&space, &guided}) {
      for (const std::size_t batch : {std::size_t{1}, std::size_t{7}}) {
        CAPTURE(name);
        CAPTURE(batch);
        const auto strategy = make_strategy(name, *each, 3);
        const auto asked = run(*each, *strategy, rough, 1'000'000, batch);
        CHECK(asked.size() == each->size());
        CHECK(std::set<Candidate>(asked.begin(), asked.end()).size() == each->size());
        CHECK(strategy->ask(3).empty());
      }
    }
  }
}

TEST_CASE("a strategy survives a space where everything fails, and the empty one") {
  const SearchSpace space = search_space(tiles("range(3)"));
  const SearchSpace empty({});
  for (const auto& [name, description] : strategies()) {
    CAPTURE(name);
    const auto fails = [](const Values&) { return std::optional<double>(); };
    CHECK(run(space, *make_strategy(name, space, 1), fails, 1000, 5).size() == space.size());
    CHECK(make_strategy(name, empty, 1)->ask(4).empty());
  }
}

TEST_CASE("batches are served while results are awaited, in any order of telling") {
  const SearchSpace space = search_space(tiles());
  for (const auto& [name, description] : strategies()) {
    CAPTURE(name);
    const auto strategy = make_strategy(name, space, 5);
    std::vector<Candidate> waiting;
    std::set<Candidate> seen;
    for (int round = 0; round < (sanitized ? 30 : 100); ++round) {
      const auto more = strategy->ask(3);
      CHECK_FALSE(more.empty());
      for (const Candidate candidate : more) CHECK(seen.insert(candidate).second);
      waiting.insert(waiting.begin(), more.begin(), more.end());
      if (waiting.size() < 12) continue;
      for (int i = 0; i < 3; ++i) {
        strategy->tell({waiting.back(), rough(space.configuration(waiting.back()))});
        waiting.pop_back();
      }
    }
  }
}

TEST_CASE("what was told unasked is not asked, and is told twice without harm") {
  const SearchSpace space = search_space(tiles("range(4)"));
  for (const auto& [name, description] : strategies()) {
    CAPTURE(name);
    const auto strategy = make_strategy(name, space, 2);
    for (Candidate known = 0; known < space.size(); known += 2) {
      strategy->tell({known, rough(space.configuration(known))});
      strategy->tell({known, 1e-3});
    }
    const auto asked = run(space, *strategy, rough, 1000, 3);
    CHECK(asked.size() == space.size() / 2);
    for (const Candidate candidate : asked) CHECK(candidate % 2 == 1);
  }
}

TEST_CASE("the same seed and results give the same search; another seed another") {
  const SearchSpace space = search_space(tiles());
  for (const auto& [name, description] : strategies()) {
    CAPTURE(name);
    const auto path = [&, strategy_name = name](std::uint64_t seed) {
      const auto strategy = make_strategy(strategy_name, space, seed);
      return run(space, *strategy, rough, sanitized ? 40 : 150, 4);
    };
    CHECK(path(1) == path(1));
    if (name != "exhaustive") CHECK(path(1) != path(2));
  }
}

TEST_CASE("exhaustive follows the prior where there is one, else the index") {
  const auto cost = [](const Values& configuration) {
    return static_cast<double>(-integer(configuration, "B"));
  };
  const SearchSpace guided = search_space(tiles("range(6)"), cost);
  const auto guided_search = make_strategy("exhaustive", guided, 0);
  const auto order = guided_search->ask(1'000'000);
  for (std::size_t i = 1; i < order.size(); ++i) {
    CHECK(cost(guided.configuration(order[i - 1])) <= cost(guided.configuration(order[i])));
  }
  const SearchSpace plain = search_space(tiles("range(6)"));
  const auto plain_order = make_strategy("exhaustive", plain, 0)->ask(1'000'000);
  CHECK(plain_order.size() == plain.size());
  CHECK(std::is_sorted(plain_order.begin(), plain_order.end()));
}

TEST_CASE("random sampling neither lists the space nor favours a part of it") {
  SpaceDefinition large;
  for (int i = 0; i < 60; ++i) {
    large.parameters.push_back({"F" + std::to_string(i), Expression::parse_list("[0, 1]")});
  }
  const SearchSpace space = search_space(TuningSpace(std::move(large)));
  const auto asked = make_strategy("random", space, 9)->ask(4000);
  std::size_t upper = 0;
  for (const Candidate candidate : asked) upper += candidate >= space.size() / 2 ? 1 : 0;
  CHECK(upper > 1850);
  CHECK(upper < 2150);
  CHECK(std::set<Candidate>(asked.begin(), asked.end()).size() == 4000);
}

TEST_CASE("auto begins with the prior's favourites among others") {
  const auto prior = [](const Values& configuration) {
    return std::abs(static_cast<double>(integer(configuration, "A")) - 6) +
           std::abs(static_cast<double>(integer(configuration, "B")) - 5) +
           std::abs(static_cast<double>(integer(configuration, "C")) - 4) +
           std::abs(static_cast<double>(integer(configuration, "D")) - 7);
  };
  const SearchSpace space = search_space(tiles(), prior);
  const auto first = make_strategy("auto", space, 4)->ask(12);
  CHECK(prior(space.configuration(first[0])) == 0);
  std::size_t liked = 0;
  for (const Candidate each : first) liked += prior(space.configuration(each)) <= 3 ? 1 : 0;
  CHECK(liked >= 6);
  CHECK(liked < 12);
  if (!sanitized) CHECK(average_best("auto", space, 30) < average_best("random", space, 30) - 0.1);
}

TEST_CASE("local search finds better configurations than chance") {
  if (sanitized) {
    MESSAGE("SKIPPED: how good a search is");
    return;
  }
  const SearchSpace space = search_space(tiles());
  for (const std::size_t evaluations : {std::size_t{60}, std::size_t{150}}) {
    const double random = average_best("random", space, evaluations);
    CHECK(average_best("iterated_local_search", space, evaluations) < random - 0.02);
    CHECK(average_best("auto", space, evaluations) < random - 0.02);
  }
}

TEST_CASE("every strategy but the plain ones soon finds the optimum of an easy space") {
  const SearchSpace space = search_space(tiles());
  const auto easy = [](const Values& configuration) -> std::optional<double> {
    double sum = 1;
    for (const char* name : {"A", "B", "C", "D"}) {
      const auto away = static_cast<double>(integer(configuration, name)) - 4;
      sum += 0.1 * away * away;
    }
    return sum;
  };
  for (const auto& [name, description] : strategies()) {
    if (name == "random" || name == "exhaustive") continue;
    CAPTURE(name);
    const bool learns = name == "auto" || name == "surrogate";
    const auto strategy = make_strategy(name, space, 11);
    const auto asked = run(space, *strategy, easy, learns ? 60 : 600, 1);
    CHECK(best_of(space, asked, easy) == doctest::Approx(1));
  }
}

TEST_CASE("auto profits from a good prior, and is not misled by a bad one") {
  if (sanitized) {
    MESSAGE("SKIPPED: how good a search is");
    return;
  }
  const auto cost = [](const Values& configuration) { return rough(configuration).value_or(3); };
  const SearchSpace good = search_space(tiles(), cost);
  const SearchSpace bad =
      search_space(tiles(), [&](const Values& configuration) { return 10 / cost(configuration); });
  const SearchSpace none = search_space(tiles());
  const double with_good = average_best("auto", good, 20);
  const double without = average_best("auto", none, 20);
  CHECK(with_good <= without);
  CHECK(average_best("auto", bad, 60) < average_best("random", none, 60));
}

TEST_CASE("auto searches several templates with different parameters at once") {
  std::vector<SearchSpace::Member> members;
  members.push_back({nullptr, tiles(), 0, {}});
  SpaceDefinition other;
  other.parameters.push_back({"A", Expression::parse_list("range(6)")});
  other.parameters.push_back({"LAYOUT", Expression::parse_list("['row', 'column', 'tiled']")});
  members.push_back({nullptr, TuningSpace(std::move(other)), 0, {}});
  const SearchSpace space(std::move(members));
  const auto time = [](const Values& configuration) -> std::optional<double> {
    if (!configuration.contains("LAYOUT")) return rough(configuration);
    const bool tiled = std::get<std::string>(configuration.at("LAYOUT")) == "tiled";
    return (tiled ? 0.5 : 4.0) + 0.1 * static_cast<double>(integer(configuration, "A"));
  };
  const auto asked = run(space, *make_strategy("auto", space, 3), time, 200, 4);
  CHECK(asked.size() == 200);
  CHECK(best_of(space, asked, time) < 1);
}

TEST_CASE("auto says when it expects no more, and not before it has looked around") {
  const SearchSpace space = search_space(tiles());
  const auto easy = [](const Values& configuration) -> std::optional<double> {
    const auto away = static_cast<double>(integer(configuration, "A")) - 5;
    return 1 + 0.2 * away * away + 0.1 * static_cast<double>(integer(configuration, "C"));
  };
  const auto strategy = make_strategy("auto", space, 3);
  CHECK_FALSE(strategy->converged());
  run(space, *strategy, easy, 40, 1);
  CHECK_FALSE(strategy->converged());
  run(space, *strategy, easy, 260, 1);
  CHECK(strategy->converged());
  CHECK_FALSE(make_strategy("random", space, 3)->converged());
}

TEST_CASE("auto looks at a part of a space too large to look at as a whole") {
  SpaceDefinition large;
  for (int i = 0; i < 12; ++i) {
    large.parameters.push_back({"P" + std::to_string(i), Expression::parse_list("range(16)")});
  }
  const SearchSpace space = search_space(TuningSpace(std::move(large)));
  const auto time = [](const Values& configuration) -> std::optional<double> {
    double sum = 1;
    for (const auto& [name, value] : configuration) {
      sum += 0.01 * std::fabs(static_cast<double>(std::get<std::int64_t>(value)) - 7);
    }
    return sum;
  };
  const auto found =
      best_of(space, run(space, *make_strategy("auto", space, 1), time, 100, 2), time);
  const auto chance =
      best_of(space, run(space, *make_strategy("random", space, 1), time, 100, 2), time);
  CHECK(found < chance - 0.03);
}

}  // namespace
