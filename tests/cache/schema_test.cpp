// Migration: how an empty or older database becomes a current one, and what is refused.
#include "cache/schema.h"

#include <doctest/doctest.h>

#include <array>
#include <thread>

#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;

constexpr std::array<std::string_view, 1> first = {"CREATE TABLE dogs (name TEXT);"};
constexpr std::array<std::string_view, 3> third = {
    first[0], "ALTER TABLE dogs ADD COLUMN age INTEGER DEFAULT 3; CREATE TABLE cats (name TEXT);",
    "UPDATE dogs SET age = age + 1;"};
constexpr std::array<std::string_view, 2> broken = {
    first[0], "CREATE TABLE cats (name TEXT); ALTER TABLE birds ADD COLUMN wings;"};

sqlite::Connection connect(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) std::ofstream(file).close();
  return {file, sqlite::Connection::Access::read_write, std::chrono::seconds(10)};
}

TEST_CASE("an older schema takes every step to the newest, with its rows") {
  const TemporaryFolder folder;
  sqlite::Connection connection = connect(folder / "a.db");
  bring_up_to_date(connection, first);
  CHECK(connection.query_integer("PRAGMA user_version") == 1);
  CHECK(connection.query_integer("PRAGMA application_id") == database_application_id);
  connection.execute("INSERT INTO dogs VALUES ('Bello')");

  bring_up_to_date(connection, third);
  CHECK(connection.query_integer("PRAGMA user_version") == 3);
  CHECK(connection.query_integer("SELECT age FROM dogs WHERE name = 'Bello'") == 4);
  bring_up_to_date(connection, third);  // nothing more to do
  CHECK(connection.query_integer("SELECT age FROM dogs WHERE name = 'Bello'") == 4);
}

TEST_CASE("a step that fails leaves the older schema whole") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  {
    sqlite::Connection connection = connect(file);
    bring_up_to_date(connection, first);
    CHECK(contains(cache_error([&] { bring_up_to_date(connection, broken); }), "birds"));
  }
  sqlite::Connection connection = connect(file);
  CHECK(connection.query_integer("PRAGMA user_version") == 1);
  CHECK(connection.query_integer("SELECT count(*) FROM sqlite_master WHERE name = 'cats'") == 0);
}

TEST_CASE("a database of the first version keeps what it holds and takes what the newest can") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  {
    sqlite::Connection connection = connect(file);
    bring_up_to_date(connection, database_migrations().first(1));
    connection.execute(
        "INSERT INTO problems (op, problem_key, device_kind, tuning_key, description)"
        " VALUES ('gemm', 'p', 'd', 't', 'gemm m=1')");
  }
  Store store(file);
  RunRecord run;
  run.problem = {"gemm", "t", "p", "gemm m=1", "d"};
  run.started = "2026";
  store.put_run(run);
  CHECK(store.runs("gemm", "p", "d").size() == 1);
  CHECK(run_sql(file, "SELECT count(*) FROM problems") == "1");
}

constexpr const char* rows_of_version_3 =
    "INSERT INTO problems (op, problem_key, device_kind, tuning_key, description)"
    " VALUES ('gemm', 'p', 'd', 't', 'gemm m=1');"
    "INSERT INTO trials (problem, kernel_template, template_hash, configuration, compiler,"
    " measurement, specialization_hash, status, message, samples, median, spread, error,"
    " compile_seconds, resources, created)"
    " VALUES (1, 'wgmma', 'h', '{}', 'c', 'm', 's', 'ok', '', '[1.5]', 1.5, 0, 0, 2, '[]', '2026');"
    "INSERT INTO winners (op, device_kind, tuning_key, problem_key, description, kernel_template,"
    " template_hash, configuration, seconds, default_seconds, compiler, specialization_hash,"
    " device_name, driver, uuid, created)"
    " VALUES ('gemm', 'd', 't', 'p', 'gemm m=1', 'wgmma', 'h', '{}', 1.5, 2, 'c', 's', 'n', 'r',"
    " 'u', '2026');";

TEST_CASE("rows of version 3 have no figures, and were tuned for time") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  {
    sqlite::Connection connection = connect(file);
    bring_up_to_date(connection, database_migrations().first(3));
    connection.execute(rows_of_version_3);
  }
  const auto check = [](Store& store) {
    const auto winner = store.winner("gemm", "t", "d");
    REQUIRE(winner.has_value());
    CHECK(winner->objective == "seconds");
    CHECK(winner->seconds == 1.5);
  };
  {
    // As a layer the file is only read, and stays as it is.
    Store store(folder / "own.db", {.layers = {file}});
    check(store);
    CHECK(run_sql(file, "PRAGMA user_version") == "3");
  }
  Store store(file);
  check(store);
  CHECK(run_sql(file, "PRAGMA user_version") == std::to_string(database_migrations().size()));
  const auto trials = store.trials("gemm", "p", "d");
  REQUIRE(trials.size() == 1);
  CHECK(trials.front().trial.figures.empty());
  CHECK(trials.front().trial.median == 1.5);
}

TEST_CASE("a newer schema is refused") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  sqlite::Connection connection = connect(file);
  bring_up_to_date(connection, third);
  const std::string message = cache_error([&] { bring_up_to_date(connection, first); });
  CHECK(contains(message, file.string()));
  CHECK(contains(message, "newer cudadent"));
  CHECK(contains(message, "schema 3"));
  CHECK(contains(message, "CUDADENT_CACHE"));
}

TEST_CASE("an older schema that cannot be written is refused") {
  const TemporaryFolder folder;
  const auto file = folder / "a.db";
  {
    sqlite::Connection connection = connect(file);
    bring_up_to_date(connection, first);
  }
  sqlite::Connection connection(file, sqlite::Connection::Access::read_only,
                                std::chrono::seconds(10));
  bring_up_to_date(connection, first);
  CHECK(contains(cache_error([&] { bring_up_to_date(connection, third); }), "cannot be written"));
  bring_up_to_date(connection, third, 1);  // what is new in 2 and 3 is of no use to a reader
  CHECK(connection.query_integer("PRAGMA user_version") == 1);
}

TEST_CASE("several threads may make one database at once") {
  const TemporaryFolder folder;
  const auto file = folder / "sub" / "a.db";
  std::vector<std::thread> threads;
  std::array<std::string, 8> messages;
  for (std::string& message : messages) {
    threads.emplace_back(
        [&] { message = cache_error([&] { Store(file).put_trial(gemm_trial()); }); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& message : messages) CHECK(message == "");
  CHECK(Store(file).counts().trials == 1);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

}  // namespace
}  // namespace cudadent
