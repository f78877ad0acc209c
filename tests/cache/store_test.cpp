// What the store remembers, and what it takes for the same thing.
#include "cache/store.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "cache/database_file.h"
#include "cache/records.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

std::vector<TrialRecord> trials_of(Store& store, const ProblemRecord& problem) {
  return store.trials(problem.op, problem.problem_key, problem.device_kind);
}

std::optional<WinnerRecord> winner_of(Store& store, const ProblemRecord& problem) {
  return store.winner(problem.op, problem.tuning_key, problem.device_kind);
}

TEST_CASE("a trial comes back as it was stored") {
  Store store(":memory:");
  TrialRecord stored = gemm_trial();
  stored.trial.status = TrialStatus::wrong_result;
  stored.trial.message = "wrong by 3 %\nand 'quoted' \xce\xb1";
  store.put_trial(stored);

  const std::vector<TrialRecord> found = trials_of(store, stored.problem);
  REQUIRE(found.size() == 1);
  const TrialRecord& record = found.front();
  CHECK(record.problem.op == "gemm");
  CHECK(record.problem.tuning_key == stored.problem.tuning_key);
  CHECK(record.problem.problem_key == stored.problem.problem_key);
  CHECK(record.problem.description == stored.problem.description);
  CHECK(record.problem.device_kind == stored.problem.device_kind);
  CHECK(record.template_hash == stored.template_hash);
  CHECK(record.compiler == stored.compiler);
  CHECK(record.measurement == stored.measurement);
  CHECK(record.specialization_hash == stored.specialization_hash);
  REQUIRE(record.resources.size() == 1);
  CHECK(record.resources[0].entry == "gemm");
  CHECK(record.resources[0].registers == 168);
  CHECK(record.resources[0].spill_bytes == 0);
  CHECK(record.resources[0].local_bytes == -1);  // the compiler did not say
  CHECK(record.resources[0].shared_bytes == 1024);
  CHECK(record.trial.kernel_template == "wgmma");
  CHECK(record.trial.configuration == stored.trial.configuration);
  CHECK(record.trial.status == TrialStatus::wrong_result);
  CHECK(record.trial.message == stored.trial.message);
  CHECK(record.trial.samples == stored.trial.samples);  // to the last bit
  CHECK(record.trial.median == stored.trial.median);
  CHECK(record.trial.spread == stored.trial.spread);
  CHECK(record.trial.error == stored.trial.error);
  CHECK(record.trial.compile_seconds == stored.trial.compile_seconds);
  CHECK(record.trial.figures == stored.trial.figures);
  CHECK(record.trial.from_cache);
  CHECK(record.created.size() == std::string("2026-01-31T12:00:00.000Z").size());
  CHECK(record.created.back() == 'Z');
}

TEST_CASE("a tuning run comes back as it was stored, and is stored once") {
  Store store(":memory:");
  RunRecord stored;
  stored.problem = gemm_problem();
  stored.started = "2026-01-31T12:00:00.000Z";
  stored.machine = "a host";
  stored.version = "0.1.0";
  stored.device_name = "a device";
  stored.driver = "580.1";
  stored.uuid = "GPU-1";
  stored.device_facts = {{"device.sm", std::int64_t{90}}, {"device.clock_hertz", 1.98e9}};
  stored.compiler = "nvrtc 13.0.88";
  stored.measurement = "events 1";
  stored.strategy = "random";
  stored.seed = 0xFFFFFFFFFFFFFFFF;
  stored.stopped_by = "time";
  stored.candidates = 1'000'000;
  stored.measured = 40;
  stored.failed = 3;
  stored.recalled = 7;
  stored.isolated = true;
  stored.worker_restarts = 2;
  stored.flops = 2e12;
  stored.bytes = 1e8;
  stored.elapsed = 10.5;
  stored.enumerate_seconds = 0.1;
  stored.compile_seconds = 60;
  stored.measure_seconds = 5;
  stored.verify_seconds = 2;
  stored.search_seconds = 0.2;
  stored.idle_seconds = 3;
  stored.prepare_seconds = 4;
  stored.objective = "watts";
  store.put_run(stored);
  store.put_run(stored);
  RunRecord later = stored;
  later.started = "2026-01-31T13:00:00.000Z";
  store.put_run(later);

  const auto found = store.runs("gemm", stored.problem.problem_key, stored.problem.device_kind);
  REQUIRE(found.size() == 2);
  const RunRecord& record = found.front();
  CHECK(record.problem.description == stored.problem.description);
  CHECK(record.started == stored.started);
  CHECK(record.machine == stored.machine);
  CHECK(record.version == stored.version);
  CHECK(record.device_name == stored.device_name);
  CHECK(record.driver == stored.driver);
  CHECK(record.uuid == stored.uuid);
  CHECK(record.device_facts == stored.device_facts);
  CHECK(record.compiler == stored.compiler);
  CHECK(record.measurement == stored.measurement);
  CHECK(record.strategy == stored.strategy);
  CHECK(record.seed == stored.seed);
  CHECK(record.stopped_by == stored.stopped_by);
  CHECK(record.candidates == stored.candidates);
  CHECK(record.measured == stored.measured);
  CHECK(record.failed == stored.failed);
  CHECK(record.recalled == stored.recalled);
  CHECK(record.isolated);
  CHECK(record.worker_restarts == stored.worker_restarts);
  CHECK(record.flops == stored.flops);
  CHECK(record.bytes == stored.bytes);
  CHECK(record.elapsed == stored.elapsed);
  CHECK(record.enumerate_seconds == stored.enumerate_seconds);
  CHECK(record.compile_seconds == stored.compile_seconds);
  CHECK(record.measure_seconds == stored.measure_seconds);
  CHECK(record.verify_seconds == stored.verify_seconds);
  CHECK(record.search_seconds == stored.search_seconds);
  CHECK(record.idle_seconds == stored.idle_seconds);
  CHECK(record.prepare_seconds == stored.prepare_seconds);
  CHECK(record.objective == stored.objective);
  CHECK(found.back().started == later.started);
  CHECK(store.runs().size() == 2);
  CHECK(store.runs("rms_norm").empty());
}

TEST_CASE("every status comes back") {
  for (int number = 0; number <= static_cast<int>(TrialStatus::wrong_result); ++number) {
    const auto status = static_cast<TrialStatus>(number);
    CHECK(decode_status(name_of(status)) == status);
  }
}

TEST_CASE("results that are not finite are kept, bytes that are not text do no harm") {
  Store store(":memory:");
  TrialRecord stored = gemm_trial();
  stored.trial.error = std::numeric_limits<double>::quiet_NaN();
  stored.trial.median = std::numeric_limits<double>::infinity();
  stored.trial.samples = {std::numeric_limits<double>::infinity(), 1.0};
  stored.trial.message = std::string("cut \xff\xfe off\0here", 16);
  stored.resources[0].entry = "\xff";
  store.put_trial(stored);

  const auto found = trials_of(store, stored.problem);
  REQUIRE(found.size() == 1);
  CHECK(std::isnan(found[0].trial.error));
  CHECK(std::isinf(found[0].trial.median));
  REQUIRE(found[0].trial.samples.size() == 2);
  CHECK(std::isnan(found[0].trial.samples[0]));
  CHECK(found[0].trial.samples[1] == 1.0);
  CHECK(found[0].trial.message == stored.trial.message);
}

TEST_CASE("a configuration that could not come back is refused") {
  Store store(":memory:");
  TrialRecord record = gemm_trial();
  record.trial.configuration["SCALE"] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(store.put_trial(record), Error);
  CHECK(store.counts().trials == 0);
}

TEST_CASE("a trial replaces the one of the same key and no other") {
  Store store(":memory:");
  const TrialRecord original = gemm_trial();
  store.put_trial(original);

  TrialRecord again = original;
  again.trial.median = 2.0;
  again.specialization_hash = "another";
  store.put_trial(again);
  REQUIRE(store.counts().trials == 1);
  CHECK(trials_of(store, original.problem)[0].trial.median == 2.0);

  std::int64_t expected = 1;
  const auto put_variant = [&](const auto& change) {
    TrialRecord variant = original;
    change(variant);
    store.put_trial(variant);
    CHECK(store.counts().trials == ++expected);
  };
  put_variant([](TrialRecord& record) { record.problem.op = "other"; });
  put_variant([](TrialRecord& record) { record.problem.problem_key = "other"; });
  put_variant([](TrialRecord& record) { record.problem.device_kind = "other"; });
  put_variant([](TrialRecord& record) { record.template_hash = "other"; });
  put_variant([](TrialRecord& record) { record.compiler = "other"; });
  put_variant([](TrialRecord& record) { record.measurement = "other"; });
  put_variant([](TrialRecord& record) { record.trial.configuration["BM"] = std::int64_t{64}; });
  // 128 and 128.0 are different values.
  put_variant([](TrialRecord& record) { record.trial.configuration["BM"] = 128.0; });
  CHECK(store.problems().size() == 4);
  CHECK(store.problems("other").size() == 1);
  CHECK(store.problems("gemm", "other").size() == 1);
}

TEST_CASE("trials come oldest first, a given time of creation counts") {
  Store store(":memory:");
  for (std::int64_t number = 0; number < 3; ++number) store.put_trial(gemm_trial(number));
  TrialRecord imported = gemm_trial(3);
  imported.created = "2020-01-01T00:00:00.000Z";
  store.put_trial(imported);

  const auto found = trials_of(store, imported.problem);
  REQUIRE(found.size() == 4);
  CHECK(found[0].created == imported.created);
  for (std::size_t i = 1; i < 4; ++i) {
    CHECK(std::get<std::int64_t>(found[i].trial.configuration.at("NUMBER")) ==
          static_cast<std::int64_t>(i) - 1);
  }
}

TEST_CASE("a problem's tuning key and description follow its last trial") {
  Store store(":memory:");
  TrialRecord record = gemm_trial();
  store.put_trial(record);
  record.problem.tuning_key = "new";
  record.problem.description = "told better";
  store.put_trial(record);
  REQUIRE(store.problems().size() == 1);
  CHECK(store.problems()[0].tuning_key == "new");
  CHECK(store.problems()[0].description == "told better");
}

TEST_CASE("a winner comes back as it was stored") {
  Store store(":memory:");
  const WinnerRecord stored = gemm_winner();
  CHECK_FALSE(winner_of(store, stored.problem));
  store.put_winner(stored);

  const auto found = winner_of(store, stored.problem);
  REQUIRE(found);
  CHECK(found->problem.problem_key == stored.problem.problem_key);
  CHECK(found->problem.description == stored.problem.description);
  CHECK(found->template_hash == stored.template_hash);
  CHECK(found->kernel_template == stored.kernel_template);
  CHECK(found->configuration == stored.configuration);
  CHECK(std::holds_alternative<double>(found->configuration.at("SCALE")));
  CHECK(found->seconds == stored.seconds);
  CHECK(found->default_seconds == stored.default_seconds);
  CHECK(found->compiler == stored.compiler);
  CHECK(found->specialization_hash == stored.specialization_hash);
  CHECK(found->device_name == stored.device_name);
  CHECK(found->driver == stored.driver);
  CHECK(found->uuid == stored.uuid);
  CHECK_FALSE(found->created.empty());
}

TEST_CASE("there is one winner for an op, tuning key and kind of device") {
  Store store(":memory:");
  WinnerRecord record = gemm_winner();
  store.put_winner(record);
  record.problem.problem_key = "another problem of the same tuning key";
  record.template_hash = "template-2";
  store.put_winner(record);
  REQUIRE(store.winners().size() == 1);
  CHECK(winner_of(store, record.problem)->template_hash == "template-2");

  record.problem.tuning_key = "another";
  store.put_winner(record);
  record.problem.device_kind = "another";
  store.put_winner(record);
  record.problem.op = "rms_norm";
  store.put_winner(record);
  CHECK(store.winners().size() == 4);
  CHECK(store.winners("gemm").size() == 3);
  CHECK(store.winners("", "another").size() == 2);
  CHECK(store.winners("rms_norm", "another").size() == 1);
  CHECK(store.winners("rms_norm", "a device sm_90a").empty());
}

TEST_CASE("a binary comes back as it was stored, the newest of any compiler first") {
  Store store(":memory:");
  const Binary stored = gemm_binary();
  CHECK_FALSE(store.find_binary(stored.specialization_hash));
  store.put_binary(stored);

  const auto found = store.find_binary(stored.specialization_hash);
  REQUIRE(found);
  CHECK(found->specialization_hash == stored.specialization_hash);
  CHECK(found->architecture == stored.architecture);
  CHECK(found->compiler == stored.compiler);
  CHECK(found->image == stored.image);
  CHECK(found->resources.at(0).registers == 168);
  CHECK(found->compile_seconds == stored.compile_seconds);
  CHECK(found->log == stored.log);

  store.put_binary(gemm_binary("nvrtc 14.0.1"));
  CHECK(store.find_binary(stored.specialization_hash)->compiler == "nvrtc 14.0.1");
  store.put_binary(stored);  // stored again: the newest once more
  CHECK(store.find_binary(stored.specialization_hash)->compiler == stored.compiler);
  CHECK(store.counts().binaries == 2);
  CHECK(store.counts().binary_bytes == 200'000);
}

TEST_CASE("an empty image is refused") {
  Store store(":memory:");
  Binary binary = gemm_binary();
  binary.image.clear();
  CHECK_THROWS_AS(store.put_binary(binary), Error);
  CHECK(store.counts().binaries == 0);
}

TEST_CASE("a damaged binary counts as missing and goes with the next one stored") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  store.put_binary(gemm_binary("nvrtc 12"));
  store.put_binary(gemm_binary("nvrtc 13"));
  run_sql(file, "UPDATE binaries SET image = zeroblob(100000) WHERE compiler = 'nvrtc 13'");

  REQUIRE(store.find_binary("specialization-0"));
  CHECK(store.find_binary("specialization-0")->compiler == "nvrtc 12");
  run_sql(file, "UPDATE binaries SET image = x'' WHERE compiler = 'nvrtc 12'");
  CHECK_FALSE(store.find_binary("specialization-0"));
  CHECK(store.counts().binaries == 2);

  store.put_binary(gemm_binary("nvrtc 14"));
  CHECK(store.find_binary("specialization-0")->image == gemm_binary().image);
  CHECK(store.counts().binaries == 1);
}

TEST_CASE("a row that does not read as what was stored is as if it were not there") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  for (std::int64_t number = 0; number < 5; ++number) store.put_trial(gemm_trial(number));
  store.put_winner(gemm_winner());
  run_sql(file, "UPDATE trials SET status = 'unheard_of' WHERE id = 1");
  run_sql(file, "UPDATE trials SET samples = '[1, ' WHERE id = 2");
  run_sql(file, "UPDATE trials SET configuration = '[1]' WHERE id = 3");
  run_sql(file, "UPDATE trials SET resources = '{\"entry\": 1}' WHERE id = 4");
  run_sql(file, "UPDATE winners SET configuration = x'00ff'");

  CHECK(trials_of(store, gemm_problem()).size() == 1);
  CHECK_FALSE(winner_of(store, gemm_problem()));
  CHECK(store.winners().empty());
}

TEST_CASE("trials left behind by hand never become those of another problem") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  store.put_trial(gemm_trial());
  run_sql(file, "DELETE FROM problems");  // sqlite3 does not enforce foreign keys unless told to
  TrialRecord other = gemm_trial(7);
  other.problem.problem_key = "another";
  store.put_trial(other);
  CHECK(trials_of(store, other.problem).size() == 1);
  CHECK(trials_of(store, gemm_problem()).empty());
}

TEST_CASE("many threads use one store") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file);
  constexpr std::int64_t threads = 8;
  constexpr std::int64_t trials = 40;
  std::atomic<int> missing = 0;
  std::vector<std::thread> running;
  for (std::int64_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      for (std::int64_t number = 0; number < trials; ++number) {
        store.put_trial(gemm_trial(thread * trials + number));
        if (number % 8 == 0) {
          Binary binary = gemm_binary();
          binary.specialization_hash = fmt::format("{}-{}", thread, number);
          store.put_binary(binary);
          if (!store.find_binary(binary.specialization_hash)) ++missing;
          if (trials_of(store, gemm_problem()).empty()) ++missing;
        }
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  CHECK(missing == 0);
  CHECK(store.counts().trials == threads * trials);
  CHECK(store.counts().binaries == threads * trials / 8);
}

TEST_CASE("a reader does not wait for a writer that waits for another process") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  if (on_network_file_system(folder.path())) return;
  Store store(file);
  store.put_winner(gemm_winner());
  std::atomic<bool> stored{false};
  std::jthread writer;
  {
    sqlite::Connection other(file, sqlite::Connection::Access::read_write,
                             std::chrono::seconds(10));
    const sqlite::Transaction writing(other);
    writer = std::jthread([&] {
      store.put_trial(gemm_trial());
      stored = true;
    });
    for (int i = 0; i < 100; ++i) {  // at some time it has begun
      CHECK(winner_of(store, gemm_problem()));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(!stored);
  }
  writer.join();
  CHECK(store.counts().trials == 1);
}

TEST_CASE("two stores of one process share a file") {
  const TemporaryFolder folder;
  Store first(folder / "cudadent.db");
  {
    Store second(folder / "cudadent.db");
    second.put_winner(gemm_winner());
    CHECK(winner_of(first, gemm_problem()));
  }
  first.put_trial(gemm_trial());
  Store third(folder / "cudadent.db");
  CHECK(third.counts().trials == 1);
  CHECK(third.counts().winners == 1);
}

}  // namespace
}  // namespace cudadent
