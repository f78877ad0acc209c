#include "tuner/race.h"

#include <doctest/doctest.h>

#include <optional>
#include <random>

namespace cudadent {
namespace {

// Runs a race of entrants with these true times, samples scattered and the clock drifting.
struct Noise {
  double scatter = 0.02;  // standard deviation
  double drift = 0.0;     // slower by this a round
};

std::size_t run(Race& race, const std::vector<double>& times, Noise noise, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> scatter(0, noise.scatter);
  while (!race.decided()) {
    std::vector<double> seconds;
    const double clock = 1 + noise.drift * static_cast<double>(race.rounds());
    for (const std::size_t entrant : race.running())
      seconds.push_back(times[entrant] * clock * (1 + scatter(random)));
    race.add_round(seconds);
  }
  return race.leader();
}

TEST_CASE("a race: the fastest wins, and who is clearly slower leaves early") {
  Race race(3);
  CHECK(run(race, {2.0, 1.0, 1.5}, {}, 1) == 1);
  CHECK(race.rounds() < 8);
  CHECK(race.running() == std::vector<std::size_t>{1});
  CHECK(race.slowdown(0) == doctest::Approx(2).epsilon(0.1));
  CHECK(race.slowdown(1) == 1);
}

TEST_CASE("a race: three per cent are told apart in noise of two, with a drifting clock") {
  int right = 0;
  for (unsigned seed = 0; seed < 100; ++seed) {
    Race race(4);
    right += run(race, {1.03, 1.0, 1.04, 1.2}, {.scatter = 0.02, .drift = 0.01}, seed) == 1 ? 1 : 0;
  }
  CHECK(right >= 95);
}

TEST_CASE("a race between equals ends: it does not matter who wins") {
  Race race(2);
  run(race, {1.0, 1.0001}, {.scatter = 0.002}, 3);
  CHECK(race.rounds() < 40);
  Race exact(3);
  run(exact, {1.0, 1.0, 1.0}, {.scatter = 0}, 3);
  CHECK(exact.rounds() == 3);
}

TEST_CASE("a race that noise never decides ends after its rounds") {
  Race race(2, {.most_rounds = 5});
  run(race, {1.0, 1.001}, {.scatter = 0.3}, 4);
  CHECK(race.rounds() <= 5);
  CHECK(race.decided());
}

TEST_CASE(
    "a race: whatever a busy machine does to single rounds, nobody is reported faster than who "
    "wins") {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> chance(0, 1);
    Race race(5, {.most_rounds = 8});
    while (!race.decided()) {
      std::vector<double> seconds;
      for (std::size_t i = 0; i < race.running().size(); ++i)
        seconds.push_back(1 + 0.1 * chance(random) +
                          (chance(random) < 0.2 ? 3 * chance(random) : 0));
      race.add_round(seconds);
    }
    INFO("seed ", seed);
    CHECK(race.slowdown(race.leader()) == 1);
    for (std::size_t i = 0; i < 5; ++i) CHECK(race.slowdown(i) >= 1);
  }
}

TEST_CASE("a race: one round that stalls does not decide it") {
  Race race(2);
  for (const double stall : {1.0, 40.0, 1.0, 1.0, 1.0}) race.add_round({1.0 * stall, 1.2});
  CHECK(race.leader() == 0);
  CHECK(race.slowdown(1) == doctest::Approx(1.2));
}

TEST_CASE("a race: when the last one withdraws, those it had beaten come back") {
  Race race(3);
  for (int i = 0; i < 3; ++i) race.add_round(std::vector<double>{1.0, 2.0, 3.0});
  CHECK(race.running() == std::vector<std::size_t>{0});
  race.withdraw(0);
  CHECK(race.running() == std::vector<std::size_t>{1, 2});
  CHECK(race.leader() == 1);
}

TEST_CASE("a race: rounds in which some or all fail") {
  Race race(3);
  for (int i = 0; i < 3; ++i)
    race.run_round(
        [](std::size_t entrant) { return std::optional(1.0 + static_cast<double>(entrant)); });
  CHECK(race.running() == std::vector<std::size_t>{0});
  // The last one left fails: those it had beaten run in the next round, and this one does not count.
  race.run_round([](std::size_t) { return std::optional<double>(); });
  CHECK(race.rounds() == 3);
  CHECK(race.running() == std::vector<std::size_t>{1, 2});
  race.run_round([](std::size_t entrant) {
    return entrant == 1 ? std::optional<double>() : std::optional(3.0);
  });
  CHECK(race.rounds() == 4);
  CHECK(race.running() == std::vector<std::size_t>{2});
  race.run_round([](std::size_t) { return std::optional<double>(); });
  CHECK(race.running().empty());
  CHECK(race.decided());
}

TEST_CASE("a race: who withdraws never wins, and one alone runs once") {
  Race race(2);
  race.add_round({1.0, 2.0});
  race.withdraw(0);
  CHECK(race.decided());
  CHECK(race.leader() == 1);
  race.withdraw(1);
  CHECK(race.running().empty());
  CHECK(race.decided());
  Race alone(1);
  CHECK_FALSE(alone.decided());
  alone.add_round({1.0});
  CHECK(alone.decided());
  CHECK(alone.median_seconds(0) == 1.0);
}

}  // namespace
}  // namespace cudadent
