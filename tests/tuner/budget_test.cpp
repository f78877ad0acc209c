#include "tuner/budget.h"

#include <doctest/doctest.h>

#include <clocale>
#include <limits>
#include <string>

#include "tests/support/errors.h"

namespace cudadent {
namespace {

using namespace tests;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

TEST_CASE("budgets are times or numbers of trials") {
  CHECK(parse_budget("30s").seconds == 30);
  CHECK(parse_budget("1.5m").seconds == 90);
  CHECK(parse_budget("1.5min").seconds == 90);
  CHECK(parse_budget("2h").seconds == 7200);
  CHECK(parse_budget("250ms").seconds == 0.25);
  CHECK(parse_budget("30 s").seconds == 30);
  CHECK(parse_budget("99999999h").seconds == 99999999 * 3600.0);
  for (const char* text : {"200", "200 trials", "200trials"}) {
    CHECK(parse_budget(text).trials == 200);
    CHECK(parse_budget(text).seconds == 0);
  }
  for (const char* wrong :
       {"", "s", "0", "0s", "-3", "-3s", "3d", "nan", "nans", "infs", "inf", "1e400s", "2.5",
        "2.5 trials", "1e30", "3 s s", "1,5m", "0x10s", " 30s"})
    CHECK(fails(ErrorCode::invalid_argument, {"budget", wrong, "200 trials"},
                [&] { parse_budget(wrong); }));
}

TEST_CASE("budgets read the same under every locale") {
  const std::string before = std::setlocale(LC_NUMERIC, nullptr);
  bool any = false;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"})
    any = any || std::setlocale(LC_NUMERIC, name) != nullptr;
  if (!any) MESSAGE("skipped: no locale with a decimal comma is installed");
  CHECK(parse_budget("1.5m").seconds == 90);
  CHECK(fails(ErrorCode::invalid_argument, {"1,5m"}, [] { parse_budget("1,5m"); }));
  std::setlocale(LC_NUMERIC, before.c_str());
}

TEST_CASE("limits that are NaN, negative or no limit are refused by name") {
  CHECK_NOTHROW(check_options({}));
  CHECK_NOTHROW(check_budget({.seconds = infinity}));
  CHECK_NOTHROW(check_budget({.seconds = 0, .trials = 3, .patience = 2}));
  CHECK_NOTHROW(check_wait_for_others(0));
  CHECK_NOTHROW(check_wait_for_others(infinity));
  for (const double wrong : {nan, -1.0, -infinity}) {
    CHECK(fails(ErrorCode::invalid_argument, {"budget.seconds"},
                [&] { check_budget({.seconds = wrong}); }));
    CHECK(fails(ErrorCode::invalid_argument, {"wait_for_others"},
                [&] { check_wait_for_others(wrong); }));
    TuneOptions options;
    options.compile_timeout = wrong;
    CHECK(fails(ErrorCode::invalid_argument, {"compile_timeout", "above 0"},
                [&] { check_options(options); }));
  }
  TuneOptions options;
  options.run_timeout = 0;
  CHECK(fails(ErrorCode::invalid_argument, {"run_timeout", "above 0"},
              [&] { check_options(options); }));
  options = {};
  options.compile_workers = -2;
  CHECK(fails(ErrorCode::invalid_argument, {"compile_workers = -2"},
              [&] { check_options(options); }));
  CHECK(fails(ErrorCode::invalid_argument, {"budget.trials = -1"},
              [] { check_budget({.trials = -1}); }));
  CHECK(fails(ErrorCode::invalid_argument, {"budget.patience = -1"},
              [] { check_budget({.patience = -1}); }));
}

}  // namespace
}  // namespace cudadent
