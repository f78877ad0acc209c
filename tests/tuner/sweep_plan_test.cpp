// What a sweep's file means.
#include <doctest/doctest.h>

#include "runtime/language/value.h"
#include "tests/support/errors.h"
#include "tests/support/folder.h"
#include "tuner/sweep/json_reader.h"
#include "tuner/sweep/plan.h"
#include "tuner/sweep/sweep.h"

namespace cudadent {
namespace {

using namespace tests;

std::string message_of(const auto& action) {
  const auto error = error_of(action);
  return error ? error->what() : "no error";
}

SweepPlan plan_of(const std::string& text, const Suites& suites = Suites({})) {
  return parse_sweep(parse_json(text, "test.json"), "test.json", suites);
}

// "m=1 n=2; m=1 n=4": in order.
std::string problems_of(const SweepPlan& plan) {
  std::string text;
  for (const auto& problem : plan.problems)
    text += (text.empty() ? "" : "; ") + to_text(problem.problem);
  return text;
}

std::string problems_of(const std::string& text) { return problems_of(plan_of(text)); }

TEST_CASE("a problem is one value a name, or all combinations of several") {
  CHECK(problems_of(R"({"problems": [{"op": "gemm", "problem": {"m": 1, "dtype": "bf16"}}]})") ==
        "dtype=bf16 m=1");
  CHECK(problems_of(R"({"problems": [{"op": "gemm", "problem": {"m": [1, 2], "n": [3, 4]}}]})") ==
        "m=1 n=3; m=1 n=4; m=2 n=3; m=2 n=4");
}

TEST_CASE("ranges grow by a step or a factor, and hold both ends") {
  CHECK(problems_of(
            R"({"problems": [{"op": "o", "problem": {"n": {"from": 1, "to": 10, "step": 3}}}]})") ==
        "n=1; n=4; n=7; n=10");
  CHECK(
      problems_of(
          R"({"problems": [{"op": "o", "problem": {"n": {"from": 1, "to": 9, "factor": 2}}}]})") ==
      "n=1; n=2; n=4; n=8");
  CHECK(
      problems_of(
          R"({"problems": [{"op": "o", "problem": {"n": {"from": 2, "to": 10, "factor": 1.5}}}]})") ==
      "n=2; n=3; n=5; n=7");
  CHECK(
      problems_of(
          R"({"problems": [{"op": "o", "problem": {"n": [7, {"from": 1, "to": 2, "step": 1}]}}]})") ==
      "n=7; n=1; n=2");
  CHECK(
      problems_of(
          R"({"problems": [{"op": "o", "problem": {"x": {"from": 0.5, "to": 1, "step": 0.25}}}]})") ==
      "x=0.5; x=0.75; x=1");
}

TEST_CASE("\"each\" lists what belongs together, and combines with the rest") {
  CHECK(problems_of(R"({"problems": [{"op": "o", "problem": {"m": [1, 2]},
                                       "each": [{"n": 3, "k": 4}, {"n": 5, "k": 6}]}]})") ==
        "k=4 m=1 n=3; k=6 m=1 n=5; k=4 m=2 n=3; k=6 m=2 n=5");
}

TEST_CASE("the higher priority goes first, equal ones as written") {
  const auto plan = plan_of(R"({"budget": "1h", "per_problem": "20", "problems": [
      {"op": "a", "problem": {}}, {"op": "b", "priority": 5, "budget": "1m", "problem": {}},
      {"op": "c", "problem": {}}]})");
  REQUIRE(plan.problems.size() == 3);
  CHECK(plan.problems[0].op == "b");
  CHECK(plan.problems[0].budget->seconds == 60);
  CHECK(plan.problems[1].op == "a");
  CHECK(plan.problems[2].op == "c");
  CHECK(plan.total_seconds == 3600);
  CHECK(plan.per_problem->trials == 20);
}

TEST_CASE("a suite is the layers of a model, for the numbers of tokens asked for") {
  const auto plan = plan_of(R"({"problems": [{"suite": "llama-3-8b", "with": {"tokens": [1, 512]},
                                               "ops": ["gemm"], "problem": {"dtype": "bf16"}}]})");
  REQUIRE(plan.problems.size() == 10);
  CHECK(plan.problems[0].op == "gemm");
  CHECK(to_text(plan.problems[0].problem) == "dtype=bf16 k=4096 m=1 n=6144");
  CHECK(to_text(plan.problems[1].problem) == "dtype=bf16 k=4096 m=512 n=6144");
  CHECK(plan.problems[0].label == "llama-3-8b: query, key and value");
}

TEST_CASE("every suite that ships is made of problems of operators that ship") {
  TemplateLibrary library({});
  const Suites suites({});
  CHECK(suites.all().size() >= 5);
  for (const auto& [name, suite] : suites.all()) {
    CAPTURE(name);
    CHECK(!suite.source.empty());
    const auto plan = plan_of(R"({"problems": [{"suite": ")" + name +
                              R"(", "with": {"tokens": 16}, "problem": {"dtype": "bf16"}}]})");
    CHECK(plan.problems.size() == suite.layers.size());
    for (const auto& problem : plan.problems)
      CHECK_NOTHROW(make_problem(library.find(problem.op)->manifest, problem.problem));
  }
}

TEST_CASE("suites of one's own: in the sweep, and in a template folder") {
  CHECK(problems_of(R"({"suites": [{"suite": "mine", "problems": [
                            {"op": "gemm", "problem": {"m": "$rows", "n": 3}}]}],
                        "problems": [{"suite": "mine", "with": {"rows": [1, 2]}}]})") ==
        "m=1 n=3; m=2 n=3");
  const Folder folder;
  folder.write("suites/ours.json",
               R"({"suite": "ours", "problems": [{"op": "gemm", "problem": {"m": 7}}]})");
  CHECK(problems_of(plan_of(R"({"problems": [{"suite": "ours"}]})", Suites({folder.path()}))) ==
        "m=7");
}

TEST_CASE("complaints say where, what and what else") {
  const auto complaint = [](const std::string& text) { return message_of([&] { plan_of(text); }); };
  CHECK(mentions(complaint("{"), {"test.json", "not JSON"}));
  CHECK(mentions(complaint("{}"), {"problems", "missing"}));
  CHECK(mentions(complaint(R"({"problems": [{}]})"), {"problems[0]", "\"op\"", "\"suite\""}));
  CHECK(mentions(complaint(R"({"problems": [{"op": "o", "prolbem": {}}]})"),
                 {"problems[0]", "prolbem", "problem"}));
  CHECK(mentions(complaint(R"({"problems": [{"op": "o", "problem": {"m": []}}]})"),
                 {"problems[0]", "m", "empty"}));
  CHECK(
      mentions(complaint(R"({"problems": [{"op": "o", "problem": {"m": null}}]})"), {"m", "null"}));
  CHECK(
      mentions(complaint(R"({"problems": [{"op": "o", "problem": {"m": {"from": 1, "to": 9}}}]})"),
               {"m", "step", "factor"}));
  CHECK(mentions(
      complaint(
          R"({"problems": [{"op": "o", "problem": {"m": {"from": 9, "to": 1, "step": 1}}}]})"),
      {"goes up"}));
  CHECK(mentions(
      complaint(
          R"({"problems": [{"op": "o", "problem": {"m": {"from": 1, "to": 1e9, "step": 1}}}]})"),
      {"more than"}));
  CHECK(mentions(complaint(R"({"problems": [{"suite": "gpt-9"}]})"), {"gpt-9", "llama-3-8b"}));
  CHECK(mentions(complaint(R"({"problems": [{"suite": "llama-3-8b"}]})"), {"tokens", "with"}));
  CHECK(mentions(complaint(R"({"budget": "100", "problems": []})"), {"budget", "per_problem"}));
  CHECK(mentions(complaint(R"({"problems": [{"op": "o", "priority": 0}]})"), {"priority"}));
}

TEST_CASE("a shared budget goes by priority, and devices share the work") {
  CHECK(share_of_budget(100, 1, 4, 1) == doctest::Approx(25));
  CHECK(share_of_budget(100, 3, 4, 1) == doctest::Approx(75));
  CHECK(share_of_budget(100, 1, 4, 2) == doctest::Approx(50));
  CHECK(share_of_budget(100, 1, 1, 8) == doctest::Approx(100));  // never more than is left
}

}  // namespace
}  // namespace cudadent
