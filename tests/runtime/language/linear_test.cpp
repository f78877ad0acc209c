#include "runtime/language/linear.h"

#include <doctest/doctest.h>

namespace cudadent {
namespace {

TEST_CASE("what is linear in its only name") {
  const auto of = [](const char* text) { return linear_in_its_name(Expression::parse(text)); };
  CHECK(of("batch + 1")->factor == 1);
  CHECK(of("batch + 1")->offset == 1);
  CHECK(of("2*(n - 3)")->factor == 2);
  CHECK(of("2*(n - 3)")->offset == -6);
  CHECK(of("10 - -n")->offset == 10);
  for (const char* text : {"n + m", "n*n", "ceil_div(n, 128)", "n // 2", "n / 2", "7", "-n",
                           "n + 0.5", "n if n > 1 else 1"})
    CHECK_MESSAGE(!of(text), text);
}

}  // namespace
}  // namespace cudadent
