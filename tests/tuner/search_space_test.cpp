#include "tuner/search_space.h"

#include <doctest/doctest.h>

namespace {

using namespace cudadent;

TuningSpace space_of(const char* values, const char* constraint) {
  SpaceDefinition definition;
  definition.parameters.push_back({"A", Expression::parse_list(values)});
  definition.constraints.push_back(Expression::parse(constraint));
  return TuningSpace(std::move(definition));
}

SearchSpace three_members() {
  std::vector<SearchSpace::Member> members;
  members.push_back({nullptr, space_of("range(5)", "A > 0"), 0, nullptr});
  members.push_back({nullptr, space_of("range(5)", "A > 9"), 0, nullptr});
  members.push_back({nullptr, space_of("range(10, 13)", "True"), 0, nullptr});
  return SearchSpace(std::move(members));
}

TEST_CASE("members lie one after another, empty ones are dropped") {
  const SearchSpace space = three_members();
  CHECK(space.size() == 7);
  REQUIRE(space.members().size() == 2);
  CHECK(space.members()[0].first == 0);
  CHECK(space.members()[1].first == 4);
  for (Candidate candidate = 0; candidate < space.size(); ++candidate) {
    const bool second = candidate >= 4;
    CHECK(&space.member_of(candidate) == &space.members()[second ? 1 : 0]);
    const auto a = std::get<std::int64_t>(space.configuration(candidate).at("A"));
    CHECK(a == static_cast<std::int64_t>(second ? candidate + 6 : candidate + 1));
  }
  CHECK_THROWS_AS(static_cast<void>(space.member_of(7)), Error);
}

TEST_CASE("neighbours stay within a member") {
  const SearchSpace space = three_members();
  CHECK(space.neighbours(3, Neighbourhood::adjacent) == std::vector<Candidate>{2});
  CHECK(space.neighbours(4, Neighbourhood::adjacent) == std::vector<Candidate>{5});
  CHECK(space.neighbours(6, Neighbourhood::hamming) == std::vector<Candidate>{4, 5});
}

TEST_CASE("a search space may be empty") {
  const SearchSpace space({});
  CHECK(space.size() == 0);
  CHECK_THROWS_AS(static_cast<void>(space.configuration(0)), Error);
}

}  // namespace
