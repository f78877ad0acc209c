#include "tuner/t1_file.h"

#include <doctest/doctest.h>

#include "runtime/language/value.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"

namespace {

using namespace cudadent;
using namespace cudadent::tests;

const std::string small = R"json({
  "General": {"FormatVersion": "0.0.1", "BenchmarkName": "small"},
  "ConfigurationSpace": {
    "TuningParameters": [
      {"Name": "X", "Type": "int", "Values": "[1] + list(range(32, 128+1, 32))", "Default": 32},
      {"Name": "T", "Type": "int", "Values": "[2**i for i in range(0, 4)]"},
      {"Name": "MODE", "Type": "string", "Values": ["a", "b"]}],
    "Conditions": [
      {"Expression": "32 <= X * T <= 256", "Parameters": ["X", "T"]},
      {"Expression": "MODE == 'a' or T > 1", "Parameters": ["MODE", "T"]}]},
  "KernelSpecification": {"Language": "CUDA"}})json";

// A file with one parameter of these values, and this condition.
std::string file_with(const std::string& values, const std::string& condition) {
  return R"json({"ConfigurationSpace": {"TuningParameters": [{"Name": "A", "Values": )json" +
         values + R"json(}], "Conditions": [{"Expression": ")json" + condition + R"json("}]}})json";
}

TEST_CASE("a T1 file is a tuning space") {
  const TuningSpace space(parse_t1(small, "small"));
  CHECK(space.raw_size() == 5 * 4 * 2);
  std::uint64_t expected = 0;
  for (const int x : {1, 32, 64, 96, 128}) {
    for (const int t : {1, 2, 4, 8}) {
      if (x * t >= 32 && x * t <= 256) expected += t > 1 ? 2 : 1;
    }
  }
  CHECK(space.size() == expected);
}

TEST_CASE("golden: what a T1 file is understood as") {
  const SpaceDefinition space = parse_t1(small, "small");
  std::string text;
  for (const auto& parameter : space.parameters) {
    text += parameter.name + ":";
    for (const auto& value : parameter.values) text += " " + to_literal(value);
    text += "\n";
  }
  for (const auto& constraint : space.constraints) text += constraint.tree() + "\n";
  check_golden("t1.txt", text);
}

TEST_CASE("conditions may be missing") {
  const char* text = R"json({"ConfigurationSpace": {"TuningParameters":
      [{"Name": "A", "Values": "range(7)"}], "Conditions": null}})json";
  CHECK(TuningSpace(parse_t1(text, "plain")).size() == 7);
}

TEST_CASE("what is not T1 is refused, and nothing in it is run") {
  const auto refuses = [](const std::string& text, std::string_view why) {
    const auto error = error_of([&] { TuningSpace(parse_t1(text, "file.json")); });
    REQUIRE(error);
    return mentions(error->what(), {"file.json", why});
  };
  CHECK(refuses("nonsense", "not JSON"));
  CHECK(refuses("{}", "no ConfigurationSpace"));
  CHECK(refuses(R"({"ConfigurationSpace": {}})", "no TuningParameters"));
  CHECK(refuses(R"({"ConfigurationSpace": {"TuningParameters": [{"Values": "[1]"}]}})", "no Name"));
  CHECK(refuses(file_with("3", "A > 0"), "neither a string nor a list"));
  CHECK(refuses(file_with("\"__import__('os').system('true')\"", "A > 0"), "values of A"));
  CHECK(refuses(file_with("\"[1]\"", "A.__class__()"), "a condition"));
}

}  // namespace
