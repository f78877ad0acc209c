#include "tuner/tuning_space.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <random>
#include <set>

#include "tests/support/errors.h"
#include "tuner/search_space.h"

namespace {

using namespace cudadent;
using cudadent::tests::fails;

ParameterSpec parameter(std::string name, const char* values) {
  return {std::move(name), Expression::parse_list(values)};
}

SpaceDefinition definition(std::vector<ParameterSpec> parameters,
                           std::initializer_list<const char*> constraints, Values known = {}) {
  SpaceDefinition result;
  result.parameters = std::move(parameters);
  for (const char* text : constraints) result.constraints.push_back(Expression::parse(text));
  result.known = std::move(known);
  return result;
}

std::string message_of(const SpaceDefinition& broken) {
  try {
    return fmt::format("no error but {} configurations", TuningSpace(broken).size());
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_manifest);
    return error.what();
  }
}

bool mentions(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE(text);
  return found;
}

// ------------------------------------------------------------------------------ brute force

bool satisfies(const SpaceDefinition& space, const TuningSpace::Point& point) {
  Values values = space.known;
  for (std::size_t i = 0; i < point.size(); ++i) {
    values[space.parameters[i].name] = space.parameters[i].values[point[i]];
  }
  for (const auto& [name, expression] : space.let)
    values[name] = expression.evaluate(Scope(values));
  for (const Expression& constraint : space.constraints) {
    if (!Operand::of(constraint.evaluate(Scope(values))).is_true()) return false;
  }
  return true;
}

std::set<TuningSpace::Point> brute_force(const SpaceDefinition& space) {
  std::set<TuningSpace::Point> valid;
  TuningSpace::Point point(space.parameters.size(), 0);
  while (true) {
    if (satisfies(space, point)) valid.insert(point);
    std::size_t i = 0;
    while (i < point.size() && ++point[i] == space.parameters[i].values.size()) point[i++] = 0;
    if (i == point.size()) return valid;
  }
}

bool are_neighbours(const TuningSpace::Point& a, const TuningSpace::Point& b, Neighbourhood kind) {
  int changed = 0, distance = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    ++changed;
    distance = std::abs(int{a[i]} - int{b[i]});
  }
  return changed == 1 && (kind == Neighbourhood::hamming || distance == 1);
}

void check_against_brute_force(const SpaceDefinition& definition) {
  const std::set<TuningSpace::Point> valid = brute_force(definition);
  const TuningSpace space(definition);
  REQUIRE(space.size() == valid.size());
  std::set<TuningSpace::Point> seen;
  for (std::uint64_t i = 0; i < space.size(); ++i) {
    const TuningSpace::Point point = space.point(i);
    REQUIRE(valid.contains(point));
    REQUIRE(seen.insert(point).second);
    REQUIRE(space.index_of(point) == i);
    REQUIRE(space.index_of(space.configuration(i)) == i);
  }
  for (std::uint64_t i = 0; i < space.size(); i += 1 + space.size() / 8) {
    for (const auto kind : {Neighbourhood::adjacent, Neighbourhood::hamming}) {
      std::set<TuningSpace::Point> expected, found;
      for (const auto& point : valid) {
        if (are_neighbours(point, space.point(i), kind)) expected.insert(point);
      }
      for (const std::uint64_t neighbour : space.neighbours(i, kind)) {
        REQUIRE(found.insert(space.point(neighbour)).second);
      }
      REQUIRE(found == expected);
    }
  }
}

SpaceDefinition random_definition(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  SpaceDefinition result;
  result.known = {{"limit", static_cast<std::int64_t>(below(30))}, {"kind", std::string("bf16")}};
  const std::size_t count = 1 + below(6);
  const auto name = [&] { return fmt::format("P{}", below(count)); };
  for (std::size_t i = 0; i < count; ++i) {
    ParameterSpec& spec = result.parameters.emplace_back();
    spec.name = fmt::format("P{}", i);
    const std::uint64_t values = 1 + below(5);
    for (std::uint64_t v = 0; v < values; ++v) {
      spec.values.emplace_back(static_cast<std::int64_t>(2 * v + below(2)));
    }
  }
  result.let.emplace_back("area", Expression::parse(fmt::format("{}*{} + 1", name(), name())));
  result.let.emplace_back("double", Expression::parse(fmt::format("area*2 - {}", name())));
  const auto constraint = [&]() -> std::string {
    switch (below(9)) {
      case 0:
        return fmt::format("{} + {} <= limit", name(), name());
      case 1:
        return fmt::format("area % ({} + 1) == 0", name());
      case 2:
        return fmt::format("double > {} or {} == 0", name(), name());
      case 3:
        return fmt::format("0 <= {} <= {} < 20", name(), name());
      case 4:
        return fmt::format("{} in (0, 1, {}) and {} != 4", name(), name(), name());
      case 5:
        return fmt::format("kind == 'f32' or {} % 2 == {} % 2", name(), name());
      case 6:
        return fmt::format("max({}, {}) >= min({}, area)", name(), name(), name());
      case 7:
        return fmt::format("(10 // {0} if {0} > 0 else 1) * {1} < 12", name(), name());
      default:
        return fmt::format("not ({} == 1 and {} == 1)", name(), name());
    }
  };
  for (std::uint64_t i = below(5); i > 0; --i) {
    result.constraints.push_back(Expression::parse(constraint()));
  }
  return result;
}

// ------------------------------------------------------------------------------------ tests

TEST_CASE("random small spaces are what trying every combination finds") {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    check_against_brute_force(random_definition(seed));
  }
}

TEST_CASE("a space without parameters has the empty configuration, if its constraints hold") {
  const TuningSpace one(definition({}, {"m % 8 == 0"}, {{"m", std::int64_t{64}}}));
  CHECK(one.size() == 1);
  CHECK(one.raw_size() == 1);
  CHECK(one.configuration(0).empty());
  CHECK(one.index_of(Values{}) == 0U);
  CHECK(one.neighbours(0, Neighbourhood::hamming).empty());
  CHECK(TuningSpace(definition({}, {"m % 8 == 0"}, {{"m", std::int64_t{65}}})).size() == 0);
}

TEST_CASE("nothing is found in an empty space") {
  const TuningSpace space(definition({parameter("A", "[1, 2]")}, {"A > 2"}));
  CHECK(space.size() == 0);
  CHECK(space.raw_size() == 2);
  CHECK_FALSE(space.index_of(TuningSpace::Point{0}));
  CHECK_THROWS_AS(static_cast<void>(space.point(0)), Error);
  CHECK(TuningSpace(definition({parameter("A", "[]")}, {})).size() == 0);
}

TEST_CASE(
    "a space too large for indices is refused with its size, one that constraints make small is "
    "not") {
  std::vector<ParameterSpec> flags;
  for (int i = 0; i < 70; ++i) flags.push_back(parameter(fmt::format("F{}", i), "[0, 1]"));
  CHECK(fails(ErrorCode::unsupported, {"1.181e+21 configurations", "1.845e+19", "constrain"},
              [&] { TuningSpace(definition(flags, {})); }));
  std::string all = "F0";
  for (int i = 1; i < 70; ++i) all += fmt::format(" + F{}", i);
  const std::string at_most_three = all + " <= 3", at_least_three = all + " >= 3";
  const TuningSpace three(definition(flags, {at_most_three.c_str()}));
  CHECK(three.size() == 1 + 70 + 70 * 69 / 2 + 70 * 69 * 68 / 6);
  CHECK(three.raw_size() == 0x1p70);
  // In one group of parameters, where the tree's own count is too small for it.
  CHECK(fails(ErrorCode::unsupported, {"1.181e+21 configurations"},
              [&] { TuningSpace(definition(flags, {at_least_three.c_str()})); }));
  // The largest that do have indices: every parameter takes each of its values.
  flags.resize(63);
  const TuningSpace large(definition(flags, {}));
  CHECK(large.size() == std::uint64_t{1} << 63U);
  for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{12345}, large.size() - 1})
    CHECK(large.index_of(large.point(index)) == index);
  CHECK(large.point(large.size() - 1) == TuningSpace::Point(63, 1));
  // And several templates together.
  std::vector<SearchSpace::Member> members;
  for (int i = 0; i < 2; ++i)
    members.push_back({nullptr, TuningSpace(definition(flags, {})), 0, {}});
  CHECK(fails(ErrorCode::unsupported, {"1.845e+19 configurations"},
              [&] { SearchSpace(std::move(members)); }));
}

TEST_CASE("a large space is counted without being listed") {
  const TuningSpace hotspot(definition(
      {parameter("BX", "[1, 2, 4, 8, 16] + list(range(32, 1025, 32))"),
       parameter("BY", "[2**i for i in range(6)]"), parameter("TX", "range(1, 11)"),
       parameter("TY", "range(1, 11)"), parameter("T", "range(1, 11)"),
       parameter("UNROLL", "range(1, 11)"), parameter("POWER", "[0, 1]"),
       parameter("BLOCKS", "range(5)")},
      {"32 <= BX*BY <= 1024", "T % UNROLL == 0",
       "(BX*TX + T*2) * (BY*TY + T*2) * (2 + POWER) * 4 <= 49152",
       "BLOCKS == 0 or (BX*TX + T*2) * (BY*TY + T*2) * (2 + POWER) * 4 * BLOCKS <= 102400"}));
  CHECK(hotspot.raw_size() == 22'200'000);
  CHECK(hotspot.size() == 349'853);
  for (std::uint64_t i = 0; i < hotspot.size(); i += 997) {
    CHECK(hotspot.index_of(hotspot.point(i)) == i);
  }
}

TEST_CASE("the order of configurations depends on the definition alone") {
  const SpaceDefinition space = random_definition(7);
  const TuningSpace one(space), other(space);
  for (std::uint64_t i = 0; i < one.size(); ++i) CHECK(one.point(i) == other.point(i));
}

TEST_CASE("configurations are found by values equal as Python's are") {
  const TuningSpace space(
      definition({parameter("A", "[1, 2]"), parameter("B", "['x', True]")}, {}));
  const auto found = space.index_of(Values{{"A", 1.0}, {"B", std::int64_t{1}}});
  REQUIRE(found);
  CHECK(space.configuration(*found) == Values{{"A", std::int64_t{1}}, {"B", true}});
  CHECK_FALSE(space.index_of(Values{{"A", std::int64_t{3}}, {"B", true}}));
  CHECK_FALSE(space.index_of(Values{{"A", std::int64_t{1}}}));
  CHECK_FALSE(space.index_of(Values{{"A", std::int64_t{1}}, {"C", true}}));
}

TEST_CASE("the nearest configuration is one of the fewest steps away, as trying all shows") {
  const SpaceDefinition made =
      definition({parameter("A", "[1, 2, 4, 8]"), parameter("B", "[1, 2, 3]"),
                  parameter("C", "[0, 1, 2, 3]"), parameter("D", "[5, 6]")},
                 {"A*B >= 6", "C != 1", "C + D < 8 or A == 8"});
  const TuningSpace space(made);
  const auto steps = [&](const TuningSpace::Point& a, const TuningSpace::Point& b) {
    int sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(int{a[i]} - int{b[i]});
    return sum;
  };
  TuningSpace::Point point(4);
  for (point[0] = 0; point[0] < 4; ++point[0])
    for (point[1] = 0; point[1] < 3; ++point[1])
      for (point[2] = 0; point[2] < 4; ++point[2])
        for (point[3] = 0; point[3] < 2; ++point[3]) {
          Values wanted;
          for (std::size_t i = 0; i < point.size(); ++i)
            wanted[made.parameters[i].name] = made.parameters[i].values[point[i]];
          const auto found = space.nearest(wanted);
          REQUIRE(found);
          int fewest = std::numeric_limits<int>::max();
          for (std::uint64_t index = 0; index < space.size(); ++index)
            fewest = std::min(fewest, steps(point, space.point(index)));
          CHECK(steps(point, space.point(*found)) == fewest);
        }
  CHECK(!TuningSpace(definition({parameter("A", "[1]")}, {"A > 1"})).nearest({}));
}

TEST_CASE("a constraint that fails is an error only where no other constraint rejects") {
  const auto ab = [] { return std::vector{parameter("A", "[0, 1, 2]"), parameter("B", "[1, 2]")}; };
  const std::string failed = message_of(definition(ab(), {"B % A == 0"}));
  CHECK(mentions(failed, "constraint 'B % A == 0'"));
  CHECK(mentions(failed, "division by zero"));
  CHECK(mentions(failed, "A = 0"));
  CHECK(TuningSpace(definition(ab(), {"B % A == 0", "A > 0"})).size() == 3);
  CHECK(TuningSpace(definition(ab(), {"A == 0 or B % A == 0"})).size() == 5);
  CHECK(TuningSpace(definition(ab(), {"A > 0 and B % A == 0"})).size() == 3);
  CHECK(TuningSpace(definition(ab(), {"B % A == 0 and A > 0"})).size() == 3);
  const std::string unknown = message_of(definition(ab(), {"A < BM"}, {{"m", std::int64_t{1}}}));
  CHECK(mentions(unknown, "unknown name 'BM'; known: A, B, m"));
  CHECK(mentions(message_of(definition({}, {"1 // m"}, {{"m", std::int64_t{0}}})), "by zero"));
}

TEST_CASE("a derived value that fails is named") {
  SpaceDefinition space = definition({parameter("A", "[0, 1]")}, {"rate*2 > 1"});
  space.let.emplace_back("share", Expression::parse("1 / A"));
  space.let.emplace_back("rate", Expression::parse("share + 1"));
  CHECK(mentions(message_of(space), "constraint 'rate*2 > 1': expression '1 / A': division by"));
  space.constraints = {Expression::parse("A == 0 or rate*2 > 1")};
  CHECK(TuningSpace(space).size() == 2);
}

TEST_CASE("definitions that make no sense are rejected") {
  CHECK(mentions(message_of(definition({parameter("A", "[1]"), parameter("A", "[2]")}, {})),
                 "declared twice"));
}

}  // namespace
