// What the database is told of a run that has ended.
#include "tuner/run_record.h"

#include <doctest/doctest.h>

#include "cache/records.h"
#include "runtime/backends/host/backend.h"
#include "tests/support/tuning.h"

namespace cudadent {
namespace {

TEST_CASE("a run counts what it measured apart from what it knew") {
  const auto backend = make_host_backend({});
  TuneResult result;
  result.elapsed = 3600;
  result.measure_seconds = 1200;
  result.stopped_by = "time";
  for (const auto status : {TrialStatus::ok, TrialStatus::ok, TrialStatus::fault}) {
    result.trials.push_back({.status = status});
    result.trials.push_back({.status = status, .from_cache = true});
  }
  TuneOptions options;
  options.seed = 5;
  const RunRecord record = run_record({.op = "gemm"}, *backend, options, result);
  CHECK(record.problem.op == "gemm");
  CHECK(record.measured == 3);
  CHECK(record.failed == 1);
  CHECK(record.recalled == 3);
  CHECK(record.seed == 5);
  CHECK(record.strategy == "auto");
  CHECK(record.stopped_by == "time");
  CHECK(record.measure_seconds == 1200);
  CHECK(record.device_facts.at("device.kind") == Value(std::string("host")));
  CHECK(!record.machine.empty());
  // An hour ago, not now.
  CHECK(record.started < utc_now());
  CHECK(record.started > utc_time(std::chrono::system_clock::now() - std::chrono::hours(2)));
  CHECK(record.started < utc_time(std::chrono::system_clock::now() - std::chrono::minutes(59)));
}

TEST_CASE("tuning leaves a record of the run") {
  tests::Tuning tuning;
  tests::allow_kinds(tuning.folder, "('fast', 'slow')");
  const TuneResult result = tuning.tune();
  const auto runs = tuning.store.runs("twice");
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].problem.description == result.problem);
  CHECK(runs[0].measured == 2);
  CHECK(runs[0].candidates == 2);
  CHECK(runs[0].stopped_by == result.stopped_by);
  CHECK(runs[0].elapsed == result.elapsed);
}

}  // namespace
}  // namespace cudadent
