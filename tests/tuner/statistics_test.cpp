#include "tuner/statistics.h"

#include <doctest/doctest.h>

namespace cudadent {
namespace {

TEST_CASE("quantiles are interpolated linearly, in any order of samples") {
  const std::vector<double> samples{4, 1, 3, 2};
  CHECK(quantile(samples, 0) == 1);
  CHECK(quantile(samples, 1) == 4);
  CHECK(quantile(samples, 0.5) == 2.5);
  CHECK(quantile(samples, 0.25) == 1.75);
  CHECK(median({5, 1, 3}) == 3);
  CHECK(median({7}) == 7);
  CHECK(median({}) == 0);
}

TEST_CASE("the spread is that of the middle half, so one bad sample hardly moves it") {
  CHECK(relative_spread({2, 2, 2}) == 0);
  CHECK(relative_spread({1, 2, 3, 4, 5}) == doctest::Approx(2.0 / 3));
  CHECK(relative_spread({2, 2, 2, 2, 2, 2, 1000}) == 0);
  CHECK(relative_spread({}) == 0);
  CHECK(relative_spread({0, 0}) == 0);
}

}  // namespace
}  // namespace cudadent
