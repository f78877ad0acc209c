#include "runtime/operators/strides.h"

#include <doctest/doctest.h>

namespace cudadent {
namespace {

using Numbers = std::vector<std::int64_t>;

TEST_CASE("packed strides step over what lies inside") {
  CHECK(packed_strides(Numbers{2, 3, 4}) == Numbers{12, 4, 1});
  CHECK(packed_strides(Numbers{2, 0, 4}) == Numbers{4, 4, 1});
  CHECK(packed_strides(Numbers{}).empty());
}

TEST_CASE("a span goes from the first element to behind the last") {
  CHECK(span_of(Numbers{2, 3, 4}, Numbers{12, 4, 1}) == 24);
  CHECK(span_of(Numbers{2, 3, 4}, Numbers{100, 10, 1}) == 124);
  CHECK(span_of(Numbers{2, 3, 4}, Numbers{0, 0, 1}) == 4);
  CHECK(span_of(Numbers{2, 0, 4}, Numbers{100, 10, 1}) == 0);
  CHECK(span_of(Numbers{}, Numbers{}) == 1);
}

TEST_CASE("whether strides keep elements apart") {
  CHECK(steps_over_its_inside(Numbers{2, 3, 4}, Numbers{12, 4, 1}));
  CHECK(steps_over_its_inside(Numbers{2, 3, 4}, Numbers{100, 10, 1}));
  CHECK(steps_over_its_inside(Numbers{4, 3}, Numbers{1, 4}));  // transposed
  CHECK(
      steps_over_its_inside(Numbers{2, 3, 4}, Numbers{4, 8, 1}));  // dimensions that swapped places
  CHECK(!steps_over_its_inside(Numbers{2, 3, 4}, Numbers{12, 3, 1}));
  CHECK(!steps_over_its_inside(Numbers{2, 3, 4}, Numbers{8, 4, 1}));
  CHECK(!steps_over_its_inside(Numbers{2, 4}, Numbers{0, 1}));
  // A dimension of one element is not stepped along, nor is a tensor of none.
  CHECK(steps_over_its_inside(Numbers{1, 4}, Numbers{0, 1}));
  CHECK(steps_over_its_inside(Numbers{2, 0}, Numbers{0, 0}));
}

TEST_CASE("whether rows start at multiples of 16 bytes") {
  const auto aligned = [](const Numbers& shape, const Numbers& strides) {
    return rows_are_multiples_of(16, shape, strides, 2);
  };
  CHECK(aligned({2, 3, 5}, {24, 8, 1}));
  CHECK(!aligned({2, 3, 5}, {24, 9, 1}));
  CHECK(!aligned({2, 3, 5}, {28, 8, 1}));
  CHECK(aligned({2, 1, 5}, {24, 9, 1}));  // never stepped over
  CHECK(aligned({2, 3, 5}, {0, 8, 1}));   // shared
  CHECK(!aligned({3, 5}, {16, 8}));       // elements that do not lie side by side
  CHECK(aligned({3, 1}, {16, 8}));
  CHECK(aligned({0, 3, 5}, {15, 5, 1}));  // nothing to start anywhere
}

}  // namespace
}  // namespace cudadent
