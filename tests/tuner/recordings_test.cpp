// Readers of recorded spaces, on extracts of published ones, damaged ones included.
#include "tuner/replay/recordings.h"

#include <doctest/doctest.h>

#include "cache/store.h"
#include "tests/support/errors.h"
#include "tests/support/folder.h"

namespace {

using namespace cudadent;
using namespace cudadent::tests;

// Both spellings of times, a failure by name, one by its number, units of its own.
const std::string t4 = R"({
  "metadata": {"timeunit": "miliseconds"},
  "results": [
    {"timestamp": "2023-12-22 09:54:05", "configuration": {"block_size_x": 16, "read_only": 0},
     "times": {"compilation": 918.6, "runtimes": [3.9, 3.8]}, "invalidity": "correct",
     "correctness": 1, "measurements": [{"name": "time", "value": 3.875, "unit": ""}],
     "objectives": ["time"]},
    {"configuration": {"block_size_x": 32, "read_only": 0},
     "times": {"compilation_time": 3055.9, "benchmark": [1]}, "invalidity": "runtime",
     "correctness": 0, "measurements": [{"name": "time", "value": "RuntimeFailedConfig"}],
     "objectives": ["time"]},
    {"configuration": {"block_size_x": 16, "read_only": 1}, "invalidity": "correct",
     "measurements": [{"name": "GFLOP/s", "value": 5}, {"name": "time", "value": 1500, "unit": "us"}]},
    {"configuration": {"block_size_x": 32, "read_only": 1}, "invalidity": "correctness",
     "measurements": [{"name": "time", "value": 0.1, "unit": "ms"}]}
  ],
  "schema_version": "1.0.0"
})";

// As a run that was ended leaves it: no closing braces, a comma at the end.
const std::string kernel_tuner = R"({
"device_name": "NVIDIA A100-PCIE-40GB",
"kernel_name": "convolution_kernel",
"tune_params_keys": ["block_size_x", "tile"],
"tune_params": {"block_size_x": [16, 32], "tile": [1, 2]},
"objective": "time",
"cache": {
"16,1": {"block_size_x": 16, "tile": 1, "time": 3.5, "times": [3.4, 3.6], "compile_time": 9.1},
"32,1": {"block_size_x": 32, "tile": 1, "time": "RuntimeFailedConfig", "compile_time": 8965.4},
"16,2": {"block_size_x": 16, "tile": 2, "time": 1e20, "__error__": "CompilationFailedConfig"},
"32,2": {"block_size_x": 32, "tile": 2, "time": 2.25},
)";

std::optional<double> time_of(const std::vector<RecordedConfiguration>& records, std::size_t i) {
  return records.at(i).seconds;
}

TEST_CASE("a T4 file gives every configuration, failures included") {
  const auto records = parse_recording(t4, "extract");
  REQUIRE(records.size() == 4);
  CHECK(time_of(records, 0) == doctest::Approx(3.875e-3));
  CHECK_FALSE(time_of(records, 1));
  CHECK(time_of(records, 2) == doctest::Approx(1.5e-3));
  CHECK_FALSE(time_of(records, 3));
  CHECK(std::get<std::int64_t>(records[2].configuration.at("read_only")) == 1);
}

TEST_CASE("what a broken-off file holds completely is used") {
  const auto cut = t4.find("\"correctness\",");
  CHECK(parse_recording(t4.substr(0, cut), "extract").size() == 3);
  CHECK(parse_recording(t4.substr(0, t4.rfind(']')), "extract").size() == 4);
  const auto records = parse_recording(kernel_tuner, "extract");
  CHECK(records.size() == 4);
  CHECK(parse_recording(kernel_tuner + "}}", "extract").size() == 4);
}

TEST_CASE("a Kernel Tuner cache writes failures in two ways") {
  const auto records = parse_recording(kernel_tuner, "extract");
  std::size_t failed = 0;
  for (const auto& record : records) failed += record.seconds ? 0 : 1;
  CHECK(failed == 2);
  const RecordedSpace space("extract", records);
  CHECK(space.space().size() == 4);
  CHECK(space.optimum() == doctest::Approx(2.25e-3));
}

TEST_CASE("a recorded space has its configurations and no others, and neighbours among them") {
  const auto value = [](std::int64_t i) { return Value(i); };
  std::vector<RecordedConfiguration> records;
  for (std::int64_t a = 0; a < 4; ++a) {
    for (std::int64_t b = 0; b < 3; ++b) {
      if ((a + b) % 2 == 0) continue;
      records.push_back(
          {"", {{"A", value(a * 16)}, {"B", value(b)}}, 1.0 + static_cast<double>(a)});
    }
  }
  records.push_back(records[0]);
  records.back().seconds = 0.5;  // measured again, faster
  const RecordedSpace recorded("small", records);
  const SearchSpace& space = recorded.space();
  REQUIRE(space.size() == records.size() - 1);
  CHECK(recorded.optimum() == 0.5);
  for (Candidate candidate = 0; candidate < space.size(); ++candidate) {
    const auto& member = space.members()[0].space;
    CHECK(member.index_of(space.configuration(candidate)) == candidate);
    for (const Candidate each : space.neighbours(candidate, Neighbourhood::hamming)) {
      CHECK(each < space.size());
      CHECK(each != candidate);
    }
    CHECK_FALSE(space.neighbours(candidate, Neighbourhood::hamming).empty());
  }
  CHECK_FALSE(space.members()[0].space.index_of(Values{{"A", value(0)}, {"B", value(0)}}));
}

TEST_CASE("compressed files are read, and damaged ones refused by name") {
  const std::string compressed(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2d\x8d\x41\x0a\xc3\x30\x0c\x04\xff\xb2\xe7"
      "\x10\x92\x1e\x7d\xeb\x3b\x4a\x29\xc2\x51\x5b\x81\xed\x80\x25\x07\x8a\xc9\xdf\xa3\x86"
      "\xa0\x93\xb4\x3b\x9a\x0e\x8d\x5f\xce\xf4\xda\xb8\xaa\xac\x05\x01\xf3\x38\x8d\x13\x06"
      "\x64\x36\x5a\xc8\x08\xa1\xc3\x24\x73\x2b\x62\x1e\x67\x49\xa2\x1c\xd7\xb2\x28\xf6\x01"
      "\x95\xb5\x25\x53\x84\x47\x87\x1f\xdf\xf2\x69\x95\xec\xfc\xd4\x71\x47\x98\xbd\x23\x65"
      "\xa3\x24\x8b\xd8\xcf\xf9\xb8\xd6\xca\xd1\x4e\x01\x69\xab\x9c\xb9\x5c\x7c\xa1\xcc\xde"
      "\xf8\xcb\x3c\x76\xa6\xf9\x7a\x1b\xa7\x01\x97\x1b\xfb\xd3\xe7\x00\x8a\xd5\x0d\x51\xb4"
      "\x00\x00\x00",
      150);
  Folder folder;
  folder.write("space.t4.json.gz", compressed);
  folder.write("cut.t4.json.gz", compressed.substr(0, 60));
  folder.write("changed.t4.json.gz", compressed.substr(0, 40) + "changed" + compressed.substr(47));
#ifdef CUDADENT_ZLIB
  CHECK(read_recorded_space(folder / "space.t4.json.gz").optimum() == doctest::Approx(2e-3));
  CHECK_THROWS_WITH_AS(static_cast<void>(read_recorded_space(folder / "cut.t4.json.gz")),
                       doctest::Contains("cut.t4.json.gz cannot be decompressed"), Error);
  CHECK_THROWS_AS(static_cast<void>(read_recorded_space(folder / "changed.t4.json.gz")), Error);
#else
  CHECK_THROWS_WITH_AS(static_cast<void>(read_recorded_space(folder / "space.t4.json.gz")),
                       doctest::Contains("without zlib"), Error);
#endif
}

TEST_CASE("what is no recorded space is refused with a reason") {
  Folder folder;
  const auto refusal = [&](const std::string& text) {
    folder.write("file.json", text);
    const auto error = error_of([&] { read_recorded_space(folder / "file.json"); });
    REQUIRE(error);
    CHECK(error->code() == ErrorCode::invalid_argument);
    CHECK(mentions(error->what(), {"file.json"}));
    return std::string(error->what());
  };
  CHECK(mentions(refusal("hello"), {"not JSON"}));
  CHECK(mentions(refusal("{}"), {"neither T4", "Kernel Tuner"}));
  CHECK(mentions(refusal("[1, 2]"), {"neither T4"}));
  CHECK(mentions(refusal(R"({"results": 3})"), {"without results"}));
  CHECK(mentions(refusal(R"({"results": [{}]})"), {"results[0]", "has no configuration"}));
  CHECK(mentions(refusal(R"({"results": [{"configuration": {"A": [1]}}]})"), {"plain values"}));
  CHECK(mentions(refusal(R"({"cache": {"1": {"A": 1}}, "tune_params_keys": ["B"]})"),
                 {"lacks", "B"}));
  CHECK(mentions(refusal(R"({"results": [{"configuration": {"A": 1}, "measurements":
        [{"name": "time", "value": 1, "unit": "fortnights"}]}]})"),
                 {"fortnights"}));
  const auto missing = error_of([&] { read_recorded_space(folder / "nowhere.json"); });
  REQUIRE(missing);
  CHECK(mentions(missing->what(), {"nowhere.json", "cannot be read"}));
}

TEST_CASE("a space without a success, or of mixed parameters, is refused") {
  const std::vector<RecordedConfiguration> failed{{"", {{"A", std::int64_t{1}}}, std::nullopt}};
  CHECK_THROWS_WITH_AS(RecordedSpace("x", failed), doctest::Contains("none of 1"), Error);
  const std::vector<RecordedConfiguration> mixed{{"", {{"A", std::int64_t{1}}}, 1.0},
                                                 {"", {{"B", std::int64_t{1}}}, 1.0}};
  CHECK_THROWS_WITH_AS(RecordedSpace("x", mixed), doctest::Contains("same parameters"), Error);
}

TEST_CASE("the trials of a database are a recorded space, of all its templates") {
  Folder folder;
  Store store(folder / "cache.db");
  const auto put = [&](const char* problem, const char* name, std::int64_t value, double median) {
    TrialRecord record;
    record.problem = {"gemm", problem, problem, std::string("gemm ") + problem, "device"};
    record.template_hash = name;
    record.compiler = "compiler";
    record.measurement = "method";
    record.trial.kernel_template = name;
    record.trial.configuration = {{"A", value}};
    record.trial.status = median > 0 ? TrialStatus::ok : TrialStatus::compile_error;
    record.trial.median = median;
    store.put_trial(record);
  };
  put("m=1", "one", 1, 2.0);
  put("m=1", "one", 2, 0);
  put("m=1", "other", 1, 1.0);
  const RecordedSpace recorded = read_recorded_space(folder / "cache.db");
  CHECK(recorded.space().size() == 3);
  CHECK(recorded.space().members().size() == 2);
  CHECK(recorded.optimum() == 1.0);
  put("m=2", "one", 1, 4.0);
  CHECK_THROWS_WITH_AS(static_cast<void>(read_recorded_space(folder / "cache.db")),
                       doctest::Contains("--problem"), Error);
  CHECK(read_recorded_space(folder / "cache.db", "m=2").optimum() == 4.0);
}

}  // namespace
