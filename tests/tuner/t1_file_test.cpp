#include "tuner/t1_file.h"

#include <doctest/doctest.h>

#include "tests/support/errors.h"

namespace {

using namespace cudadent;
using namespace cudadent::tests;

TEST_CASE("a T1 file is a tuning space") {
  const TuningSpace space(parse_t1(R"({
    "General": {"FormatVersion": "0.0.1", "BenchmarkName": "small"},
    "ConfigurationSpace": {
      "TuningParameters": [
        {"Name": "X", "Type": "int", "Values": "[1] + list(range(32, 128+1, 32))", "Default": 32},
        {"Name": "T", "Type": "int", "Values": "[2**i for i in range(0, 4)]"},
        {"Name": "MODE", "Type": "string", "Values": ["a", "b"]}],
      "Conditions": [
        {"Expression": "32 <= X * T <= 256", "Parameters": ["X", "T"]},
        {"Expression": "MODE == 'a' or T > 1", "Parameters": ["MODE", "T"]}]
}
, "KernelSpecification" : { "Language" : "CUDA" }
})",
                                   "small"));
CHECK(space.raw_size() == 5 * 4 * 2);
std::uint64_t expected = 0;
for (const int x : {1, 32, 64, 96, 128}) {
  for (const int t : {1, 2, 4, 8}) {
    if (x * t >= 32 && x * t <= 256) expected += t > 1 ? 2 : 1;
  }
}
CHECK(space.size() == expected);
}

TEST_CASE("parameters alone are a space too") {
  const char* text = R"({"ConfigurationSpace": {"TuningParameters":
      [{"Name": "A", "Values": "range(7)"}], "Conditions": null
}
})";
  CHECK(TuningSpace(parse_t1(text, "plain")).size() == 7);
}

TEST_CASE("what is not T1 is refused, and nothing in it is run") {
  const auto refusal = [](const std::string& text) {
    const auto error = error_of([&] { TuningSpace(parse_t1(text, "file.json")); });
    REQUIRE(error);
    CHECK(mentions(error->what(), {"file.json"}));
    return std::string(error->what());
  };
  CHECK(mentions(refusal("nonsense"), {"not JSON"}));
  CHECK(mentions(refusal("{}"), {"no ConfigurationSpace"}));
  CHECK(mentions(refusal(R"({"ConfigurationSpace": {}})"), {"no TuningParameters"}));
  CHECK(mentions(refusal(R"({"ConfigurationSpace": {"TuningParameters": [{"Values": "[1]"}]}})"),
                 {"no Name"}));
  CHECK(mentions(refusal(R"({"ConfigurationSpace": {"TuningParameters":
        [{"Name": "A", "Values": "__import__('os').system('true')"
}]
}
})"),
                 {"values of A"}));
CHECK(mentions(refusal(R"({"ConfigurationSpace": {"TuningParameters":
        [{"Name": "A", "Values": 3}]}})"),
               {"neither a string nor a list"}));
  CHECK(mentions(refusal(R"({"ConfigurationSpace": {"TuningParameters":
        [{"Name": "A", "Values": "[1]"}], "Conditions": [{"Expression": "A.__class__()"
  }]
  }
  })"),
                 {"a condition"}));
  }

  }  // namespace
