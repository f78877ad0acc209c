// The files that the cache reads and writes, as they are.
#include "tests/support/golden.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cache/formats/exchange.h"
#include "cache/formats/portable.h"
#include "cache/schema.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

constexpr const char* then = "2026-01-31T12:00:00.000Z";

std::vector<TrialRecord> trials() {
  std::vector<TrialRecord> records{gemm_trial(1), gemm_trial(2), gemm_trial(3)};
  records[1].trial.status = TrialStatus::wrong_result;
  records[1].trial.message = "c: relative error 0.5";
  records[2].trial.status = TrialStatus::compile_error;
  records[2].trial.samples.clear();
  for (auto& record : records) record.created = then;
  return records;
}

RunRecord run() {
  RunRecord record;
  record.problem = gemm_problem();
  record.started = then;
  record.machine = "a-host";
  record.version = "0.1.0";
  record.device_name = "a device";
  record.device_facts = {{"device.sm", std::int64_t{90}}, {"device.memory_bandwidth", 4.8e12}};
  record.compiler = "nvrtc 13.0.88";
  record.measurement = "events 1";
  record.strategy = "automatic";
  record.seed = 7;
  record.stopped_by = "trials";
  record.candidates = 1234;
  record.measured = 3;
  record.failed = 2;
  record.isolated = true;
  record.flops = 1e9;
  record.elapsed = 2.5;
  return record;
}

TEST_CASE("golden: an export of winners, trials and runs") {
  Contents contents{{gemm_winner()}, trials(), {run()}};
  contents.winners.front().created = then;
  tests::check_golden("export.json", to_portable(contents).dump(1) + "\n");
}

TEST_CASE("golden: trials in the formats of other tuners") {
  tests::check_golden("export.t4.json", to_t4(trials()).dump(1) + "\n");
  tests::check_golden("export.kernel_tuner.json", to_kernel_tuner(trials()).dump(1) + "\n");
}

TEST_CASE("golden: the database's schema") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  static_cast<void>(Store(file));
  std::string text =
      fmt::format("application_id {}\nuser_version {}\n\n", run_sql(file, "PRAGMA application_id"),
                  run_sql(file, "PRAGMA user_version"));
  text += run_sql(file,
                  "SELECT group_concat(sql, ';\n\n') FROM (SELECT sql FROM sqlite_master WHERE sql "
                  "IS NOT NULL ORDER BY name)");
  tests::check_golden("schema.sql", text + ";\n");
}

}  // namespace
}  // namespace cudadent
