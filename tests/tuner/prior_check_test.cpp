#include "tuner/prior_check.h"

#include <doctest/doctest.h>

namespace cudadent {
namespace {

TEST_CASE("a prior rules nothing out before it has been checked") {
  PriorCheck check;
  CHECK_FALSE(check.hopeless(1000, 1));
  for (std::size_t i = 0; i < PriorCheck::least_measured; ++i) check.learn(2, 1);
  CHECK(check.hopeless(1000, 1));
}

TEST_CASE("what would lose even with the luck of the luckiest is hopeless") {
  PriorCheck check;
  for (int i = 0; i < 20; ++i) check.learn(10, 1);  // ten times faster than predicted, in its unit
  check.learn(100, 2);                              // one was fifty times faster
  CHECK(check.at_best(100) == doctest::Approx(2));
  CHECK_FALSE(check.hopeless(70, 1));  // 1.4 s at best, against 1 s: within the margin
  CHECK(check.hopeless(80, 1));        // 1.6 s
}

TEST_CASE("what a prior cannot predict is neither learnt nor ruled out") {
  PriorCheck check;
  const double infinite = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 40; ++i) check.learn(infinite, 1);
  CHECK_FALSE(check.hopeless(1000, 1));
  for (int i = 0; i < 40; ++i) check.learn(1, 1);
  CHECK_FALSE(check.hopeless(infinite, 1));
}

}  // namespace
}  // namespace cudadent
