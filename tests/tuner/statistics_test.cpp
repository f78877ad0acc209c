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

TEST_CASE("equal values share the mean of their ranks") {
  CHECK(ranks({30, 10, 20}) == std::vector<double>{3, 1, 2});
  CHECK(ranks({5, 7, 5, 5}) == std::vector<double>{2, 4, 2, 2});
  CHECK(ranks({1, 2, 2, 3}) == std::vector<double>{1, 2.5, 2.5, 4});
  CHECK(ranks({}).empty());
}

TEST_CASE("rank correlation sees order alone") {
  const std::vector<double> predicted{1, 2, 3, 4};
  CHECK(rank_correlation(predicted, {10, 11, 1000, 1e9}) == doctest::Approx(1));
  CHECK(rank_correlation(predicted, {4, 3, 2, 1}) == doctest::Approx(-1));
  // Squared differences of ranks 0, 1, 1, 0: 1 − 6·2 / (4·15).
  CHECK(rank_correlation(predicted, {1, 3, 2, 4}) == doctest::Approx(0.8));
  // With ties, Pearson's correlation of the ranks: 4.5 / √(4.5·5).
  CHECK(rank_correlation({1, 2, 2, 3}, predicted) == doctest::Approx(4.5 / std::sqrt(22.5)));
  CHECK(std::isnan(rank_correlation(predicted, {2, 2, 2, 2})));
  CHECK(std::isnan(rank_correlation({1}, {1})));
}

}  // namespace
}  // namespace cudadent
