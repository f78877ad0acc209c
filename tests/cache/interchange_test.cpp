// Databases as a whole: exported, imported, merged, pruned.
#include "cache/interchange.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "cache/formats/exchange.h"
#include "cache/formats/portable.h"
#include "support.h"
#include "tests/support/errors.h"

namespace cudadent {
namespace {

using namespace cache_tests;
using tests::fails;
using tests::mentions;

RunRecord gemm_run() {
  RunRecord run;
  run.problem = gemm_problem();
  run.started = "2026-01-31T12:00:00.000Z";
  run.machine = "a machine";
  run.device_facts = {{"device.sm", std::int64_t{90}}};
  run.seed = ~std::uint64_t{0};
  run.measured = 12;
  run.elapsed = 0.1;
  return run;
}

TrialRecord failed_trial(std::int64_t number, TrialStatus status) {
  TrialRecord record = gemm_trial(number);
  record.trial.status = status;
  record.trial.message = "why";
  record.trial.samples.clear();
  record.trial.median = 0;
  record.trial.error = std::numeric_limits<double>::infinity();
  record.trial.spread = std::numeric_limits<double>::quiet_NaN();
  return record;
}

void fill(const std::filesystem::path& file) {
  Store store(file);
  store.put_winner(gemm_winner());
  store.put_trial(gemm_trial(0));
  store.put_trial(gemm_trial(1));
  store.put_trial(failed_trial(2, TrialStatus::compile_timeout));
  store.put_run(gemm_run());
  store.put_binary(gemm_binary());
}

TEST_CASE("what is exported and imported is the same, to the last bit") {
  const TemporaryFolder folder;
  fill(folder / "a.db");
  const auto exported = to_portable(read_contents(folder / "a.db"));
  CHECK(exported.at("version") == portable_version);
  const std::string text = exported.dump();
  const auto report =
      merge_contents(folder / "b.db", from_portable(nlohmann::json::parse(text), "test"));
  CHECK(report.winners.added == 1);
  CHECK(report.trials.added == 3);
  CHECK(report.runs.added == 1);
  CHECK(to_portable(read_contents(folder / "b.db")).dump() == text);
  const auto trials = read_contents(folder / "b.db").trials;
  REQUIRE(trials.size() == 3);
  CHECK(trials[0].trial.samples == gemm_trial().trial.samples);
  CHECK(std::isnan(trials[2].trial.spread));
  CHECK(std::isinf(trials[2].trial.error));
}

TEST_CASE("figures and objectives are exported, and exports that have none are read") {
  TrialRecord trial = gemm_trial();
  WinnerRecord winner = gemm_winner();
  winner.objective = "watts";
  auto exported = to_portable({{winner}, {trial}, {gemm_run()}});
  auto read = from_portable(exported, "test");
  CHECK(read.trials.at(0).trial.figures == trial.trial.figures);
  CHECK(read.winners.at(0).objective == "watts");
  exported["trials"][0].erase("figures");
  exported["winners"][0].erase("objective");
  exported["runs"][0].erase("objective");
  exported["runs"][0].erase("prepare_seconds");
  read = from_portable(exported, "test");
  CHECK(read.trials.at(0).trial.figures.empty());
  CHECK(read.winners.at(0).objective == "seconds");
  CHECK(read.runs.at(0).objective == "seconds");
  exported["trials"][0]["figures"] = {{"watts", "many"}};
  CHECK(fails(ErrorCode::invalid_argument, {"x.json: trials[0]", "many"},
              [&] { from_portable(exported, "x.json"); }));
}

TEST_CASE("winners of different objectives do not compare by time: the newer stays") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  WinnerRecord ours = gemm_winner();
  ours.created = "2026-01-01T00:00:00.000Z";
  ours.seconds = 1.0;
  Store(file).put_winner(ours);
  WinnerRecord theirs = ours;
  theirs.objective = "watts";
  theirs.seconds = 2.0;
  theirs.created = "2026-02-01T00:00:00.000Z";
  merge_contents(file, {{theirs}, {}, {}});
  CHECK(read_contents(file).winners.at(0).objective == "watts");
}

TEST_CASE("a damaged export is refused with its place, and nothing of it is kept") {
  const TemporaryFolder folder;
  fill(folder / "a.db");
  auto exported = to_portable(read_contents(folder / "a.db"));
  const auto complaint = [](const nlohmann::json& json) {
    try {
      from_portable(json, "x.json");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  auto wrong = exported;
  wrong["trials"][1].erase("median");
  CHECK(contains(complaint(wrong), "x.json: trials[1]"));
  wrong = exported;
  wrong["winners"][0]["problem"] = 99;
  CHECK(contains(complaint(wrong), "winners[0]"));
  wrong = exported;
  wrong["version"] = portable_version + 1;
  CHECK(contains(complaint(wrong), "Update cudadent"));
  CHECK(contains(complaint({{"hello", 1}}), "format"));
  CHECK(contains(complaint(nlohmann::json::array()), "format"));
}

TEST_CASE("of two winners the faster stays where they compare, else the newer") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  WinnerRecord ours = gemm_winner();
  ours.created = "2026-01-01T00:00:00.000Z";
  ours.seconds = 1.0;
  Store(file).put_winner(ours);
  const auto seconds_after = [&](WinnerRecord theirs) {
    merge_contents(file, {{std::move(theirs)}, {}, {}});
    return read_contents(file).winners.at(0).seconds;
  };
  WinnerRecord theirs = ours;
  theirs.seconds = 2.0;
  theirs.created = "2026-02-01T00:00:00.000Z";
  CHECK(seconds_after(theirs) == 1.0);  // newer, but slower at the same
  theirs.seconds = 0.5;
  CHECK(seconds_after(theirs) == 0.5);
  theirs.template_hash = "template-2";
  theirs.seconds = 3.0;
  theirs.created = "2026-03-01T00:00:00.000Z";
  CHECK(seconds_after(theirs) == 3.0);  // of a newer template
  theirs.template_hash = "template-1";
  theirs.seconds = 0.1;
  theirs.created = "2026-02-01T00:00:00.000Z";
  CHECK(seconds_after(theirs) == 3.0);  // of an older one
}

TEST_CASE("merging is a union, twice is once, and a dry run changes nothing") {
  const TemporaryFolder folder;
  fill(folder / "a.db");
  { Store(folder / "b.db").put_trial(gemm_trial(7)); }
  const std::string before = contents(folder / "a.db");
  const auto merge = [&](bool dry_run) {
    return merge_contents(folder / "b.db", read_contents(folder / "a.db"),
                          {.dry_run = dry_run, .binaries_from = folder / "a.db"});
  };
  CHECK(merge(true).trials.added == 3);
  CHECK(Store(folder / "b.db").counts().trials == 1);
  CHECK(merge(false).binaries.added == 1);
  CHECK(Store(folder / "b.db").counts().trials == 4);
  CHECK(Store(folder / "b.db").find_binary("specialization-0"));
  const auto again = merge(false);
  CHECK(again.trials.added == 0);
  CHECK(again.trials.kept == 3);
  CHECK(again.runs.kept == 1);
  CHECK(again.binaries.kept == 1);
  CHECK(contents(folder / "a.db") == before);
}

TEST_CASE("pruning takes what the rules name, and says how much") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  fill(file);
  {
    Store store(file);
    TrialRecord outdated = gemm_trial(5);
    outdated.template_hash = "template-0";
    outdated.created = "2020-01-01T00:00:00.000Z";
    store.put_trial(outdated);
    TrialRecord other = gemm_trial(6);
    other.problem.device_kind = "another device";
    store.put_trial(other);
    Binary unused = gemm_binary();
    unused.specialization_hash = "nobody's";
    store.put_binary(unused);
  }
  PruneRules rules;
  rules.failed_trials = true;
  CHECK(prune_database(file, rules, true).trials == 1);
  CHECK(Store(file).counts().trials == 5);
  CHECK(prune_database(file, rules).trials == 1);
  rules = {};
  rules.current_templates = {{"gemm", {"template-1"}}};
  CHECK(prune_database(file, rules).trials == 1);
  rules = {};
  rules.device_kind = "another device";
  CHECK(prune_database(file, rules).trials == 1);
  CHECK(Store(file).problems().size() == 1);
  rules = {};
  rules.unused_binaries = true;
  const auto size = std::filesystem::file_size(file);
  const auto report = prune_database(file, rules);
  CHECK(report.binaries == 1);
  CHECK(report.bytes >= 90'000);
  CHECK(report.compacted);
  CHECK(std::filesystem::file_size(file) + 90'000 <= size);
  rules = {};
  rules.before = "2100-01-01T00:00:00.000Z";
  prune_database(file, rules);
  const auto left = Store(file).counts();
  CHECK(left.trials == 0);
  CHECK(left.binaries == 0);
  CHECK(left.winners == 1);  // those go only when asked for
  rules.old_winners = true;
  CHECK(prune_database(file, rules).winners == 1);
}

TEST_CASE("T4 and Kernel Tuner files hold configurations, times in milliseconds, and failures") {
  std::vector<TrialRecord> trials = {gemm_trial(0)};
  std::int64_t number = 1;  // of one digit: entries of a cache come sorted by text
  for (const TrialStatus status :
       {TrialStatus::compile_error, TrialStatus::compile_timeout, TrialStatus::invalid_resources,
        TrialStatus::launch_error, TrialStatus::fault, TrialStatus::timeout,
        TrialStatus::wrong_result, TrialStatus::timeout_once, TrialStatus::disturbed})
    trials.push_back(failed_trial(number++, status));
  for (auto& trial : trials) trial.created = "2026-01-31T12:00:00.000Z";
  const auto t4 = to_t4(trials);
  CHECK(t4.at("results").at(0).at("measurements").at(0).at("value") == doctest::Approx(0.015));
  CHECK(t4.at("results").at(0).at("times").at("runtimes").size() == 3);
  CHECK(t4.at("results").at(0).at("invalidity") == "correct");
  CHECK(t4.at("results").at(1).at("invalidity") == "compile");
  CHECK(t4.at("results").at(7).at("invalidity") == "correctness");

  const auto cache = to_kernel_tuner(trials);
  CHECK(cache.at("tune_params_keys") == nlohmann::ordered_json({"BM", "NUMBER"}));
  CHECK(cache.at("tune_params").at("NUMBER").size() == trials.size());
  CHECK(cache.at("cache").at("128,0").at("time") == doctest::Approx(0.015));
  CHECK(cache.at("cache").at("128,1").at("__error__") == "CompilationFailedConfig");

  for (const nlohmann::json& written : {t4, nlohmann::json::parse(cache.dump())}) {
    const auto read = from_exchange(written, {"", "", "gemm.json"}).trials;
    REQUIRE(read.size() == trials.size());
    CHECK(read[0].problem.op == "gemm");
    CHECK(read[0].problem.device_kind == "a device sm_90a");
    for (std::size_t i = 0; i < trials.size(); ++i) {
      CHECK(read[i].trial.status == trials[i].trial.status);
      CHECK(read[i].trial.configuration == trials[i].trial.configuration);
      CHECK(read[i].trial.median == doctest::Approx(trials[i].trial.median));
      CHECK(read[i].trial.figures == trials[i].trial.figures);
      CHECK(read[i].created == "2026-01-31T12:00:00.000Z");
    }
  }
}

TEST_CASE(
    "files of other tuners: what breaks off is read as far as it is whole, and what has no time "
    "failed") {
  const std::string cache =
      R"({"kernel_name": "k", "tune_params_keys": ["A"], "objective": "time", "cache": {
    "1": {"A": 1, "time": 2.0, "times": [2.0]}, "2": {"A": 2, "time": 0}, "3": {"A": 3, "time": -1},
    "4": {"A": 4}, "5": {"A": 5, "time": 3.0},
    "6": {"A": 6, "ti)";
  const std::string t4 = R"({"metadata": {"timeunit": "us"}, "results": [
    {"configuration": {"A": 1}, "measurements": [{"name": "time", "value": 2000}]},
    {"configuration": {"A": 2}, "measurements": [{"name": "time", "value": 0}]},
    {"configuration": {"A": 3}, "measurements": [{"name": "time", "value": -1, "unit": "ms"}]},
    {"configuration": {"A": 4}},
    {"configuration": {"A": 5}, "measurements": [{"name": "time", "value": 0.003, "unit": "s"}]},
    {"configuration": {"A")";
  for (const std::string& text : {cache, t4}) {
    const auto trials =
        from_exchange(parse_exchange(text, "cut.json"), {"", "", "cut.json"}).trials;
    REQUIRE(trials.size() == 5);
    CHECK(trials[0].trial.median == doctest::Approx(2e-3));
    CHECK(trials[4].trial.median == doctest::Approx(3e-3));
    for (const std::size_t i : {1, 2, 3}) {
      CHECK(trials[i].trial.status == TrialStatus::launch_error);
      CHECK(trials[i].trial.median == 0);
      CHECK(mentions(trials[i].trial.message, {"no time above 0"}));
    }
  }
  // Our own format is whole, or nothing.
  const std::string ours = to_portable({{}, {gemm_trial(1)}, {}}).dump();
  CHECK(fails(ErrorCode::invalid_argument, {"cut.json", "not JSON"},
              [&] { parse_exchange(ours.substr(0, ours.size() - 40), "cut.json"); }));
  auto wrong = nlohmann::json::parse(ours);
  for (const double median : {0.0, -1.0}) {
    wrong["trials"][0]["median"] = median;
    CHECK(fails(ErrorCode::invalid_argument, {"trials[0]", "ok with a median"},
                [&] { from_portable(wrong, "export.json"); }));
  }
}

TEST_CASE("templates of one problem become a parameter where there are several") {
  std::vector<TrialRecord> trials = {gemm_trial(0), gemm_trial(1)};
  trials[1].trial.kernel_template = "simt";
  trials[1].trial.configuration = {{"TILE", std::int64_t{8}}};
  const auto cache = to_kernel_tuner(trials);
  CHECK(cache.at("tune_params_keys").size() == 4);
  CHECK(cache.at("cache").contains("simt,none,none,8"));
}

}  // namespace
}  // namespace cudadent
