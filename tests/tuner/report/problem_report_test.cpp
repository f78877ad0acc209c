// What a report finds in a database.
#include "tuner/report/problem_report.h"

#include <doctest/doctest.h>

#include "tests/cache/support.h"
#include "tests/support/errors.h"

namespace cudadent {
namespace {

using namespace cache_tests;

const std::string gemm_key =
    R"({"activation":"none","aligned":true,"dtype":"bf16","has_bias":false,)"
    R"("k":64,"layout_b":"nk","m":64,"n":64,"out_dtype":"bf16"})";

TrialRecord trial_of(const std::string& key, std::int64_t number, double seconds) {
  TrialRecord record = gemm_trial(number);
  record.problem.problem_key = key;
  record.trial.median = seconds;
  return record;
}

WinnerRecord winner_of(const std::string& key, double seconds) {
  WinnerRecord record = gemm_winner();
  record.problem.problem_key = key;
  record.seconds = seconds;
  record.default_seconds = 2 * seconds;
  return record;
}

TEST_CASE("a problem's winner, trials and amounts of work come together") {
  Store store(":memory:");
  store.put_trial(trial_of(gemm_key, 1, 3e-6));
  store.put_trial(trial_of(gemm_key, 2, 2e-6));
  store.put_winner(winner_of(gemm_key, 2.1e-6));
  TemplateLibrary library({});
  const auto reports = report_problems(store, library, {}, {});
  REQUIRE(reports.size() == 1);
  const ProblemReport& report = reports[0];
  CHECK(report.data_type == "bf16");
  CHECK(report.trials.size() == 2);
  CHECK(report.flops == 2 * 64 * 64 * 64);  // no run says: the manifest does
  CHECK(report.bytes == 3 * 64 * 64 * 2);
  CHECK(report.best_seconds() == 2.1e-6);
  CHECK(report.speedup() == 2);
  CHECK(!report.winner_is_shared);
  // Nothing is known of the device: the fastest trial is the roof.
  CHECK(report.roofs.compute.rate == doctest::Approx(report.flops / 2e-6));
}

TEST_CASE("a run tells of the device and of operators that are not known here") {
  Store store(":memory:");
  TrialRecord trial = trial_of(R"({"dtype":"f16","n":5})", 1, 1e-3);
  trial.problem.op = "mystery";
  store.put_trial(trial);
  RunRecord run;
  run.problem = trial.problem;
  run.started = "2026";
  run.device_facts = nominal_cuda_device("sm_90a")->facts();
  run.flops = 5e9;
  run.bytes = 1e6;
  store.put_run(run);
  TemplateLibrary library({});
  const auto reports = report_problems(store, library, {}, {.op = "mystery"});
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].flops == 5e9);
  CHECK(reports[0].runs.size() == 1);
  CHECK(reports[0].roofs.memory.rate == 4.8e12);
  CHECK(!reports[0].winner);
  CHECK(reports[0].best_seconds() == 1e-3);
  CHECK(reports[0].speedup() == 0);
}

TEST_CASE("a winner of another problem of the key is not this problem's time") {
  Store store(":memory:");
  store.put_trial(trial_of(R"({"m":500})", 1, 3e-6));
  store.put_winner(winner_of(R"({"m":512})", 2e-6));
  TemplateLibrary library({});
  const auto reports = report_problems(store, library, {}, {});
  REQUIRE(reports.size() == 2);  // the one with trials, and the winner's
  CHECK(reports[0].winner_is_shared);
  CHECK(reports[0].best_seconds() == 3e-6);
  CHECK(reports[0].speedup() == 0);
  CHECK(reports[1].trials.empty());
  CHECK(reports[1].best_seconds() == 2e-6);
}

TEST_CASE("words and devices choose problems") {
  Store store(":memory:");
  store.put_trial(trial_of(R"({"m":500})", 1, 3e-6));
  store.put_trial(trial_of(R"({"m":512})", 1, 3e-6));
  TemplateLibrary library({});
  CHECK(report_problems(store, library, {}, {.op = "gemm"}).size() == 2);
  CHECK(report_problems(store, library, {}, {.values = {{"m", std::int64_t{512}}}}).size() == 1);
  CHECK(report_problems(store, library, {}, {.device_kind = gemm_problem().device_kind}).size() ==
        2);
  CHECK(tests::fails(ErrorCode::not_tuned, {"another", "gemm"},
                     [&] { report_problems(store, library, {}, {.device_kind = "another"}); }));
  CHECK(tests::fails(ErrorCode::not_tuned, {"m=1"}, [&] {
    report_problems(store, library, {}, {.values = {{"m", std::int64_t{1}}}});
  }));
  CHECK(tests::fails(ErrorCode::invalid_argument, {"\"gem\"", "has gemm"},
                     [&] { report_problems(store, library, {}, {.op = "gem"}); }));
  CHECK(tests::fails(ErrorCode::not_tuned, {"rms_norm"},
                     [&] { report_problems(store, library, {}, {.op = "rms_norm"}); }));
}

TEST_CASE("an empty database has nothing to report") {
  Store store(":memory:");
  TemplateLibrary library({});
  CHECK(tests::fails(ErrorCode::not_tuned, {"nothing to report", "cudadent-tune tune"},
                     [&] { report_problems(store, library, {}, {}); }));
}

}  // namespace
}  // namespace cudadent
