// The database as a file: how it is made, what is refused, and what happens when it cannot be written.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <csignal>

#include "cache/database_file.h"
#include "cache/schema.h"
#include "cache/store.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;
namespace fs = std::filesystem;

mode_t mode_of(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
}

std::string error_of_opening(const fs::path& file) {
  return cache_error([&] { Store store(file); });
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST_CASE("folder and files are the user's alone, whatever the umask") {
  const TemporaryFolder folder;
  const mode_t before = ::umask(0);
  Store store(folder / "new" / "newer" / "cudadent.db");
  store.put_trial(gemm_trial());
  ::umask(before);
  CHECK(mode_of(folder / "new") == 0700);
  CHECK(mode_of(folder / "new/newer") == 0700);
  CHECK(mode_of(folder / "new/newer/cudadent.db") == 0600);
  if (run_sql(store.file(), "PRAGMA journal_mode") == "wal") {
    CHECK(mode_of(folder / "new/newer/cudadent.db-wal") == 0600);
    CHECK(mode_of(folder / "new/newer/cudadent.db-shm") == 0600);
  }
}

TEST_CASE("a database knows what it is and how it keeps its journal") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    CHECK(store.file() == file);
    CHECK_FALSE(store.read_only());
  }
  CHECK(files_in(folder.path()) == 1);  // closed, it is one file
  CHECK(run_sql(file, "PRAGMA application_id") == std::to_string(database_application_id));
  CHECK(run_sql(file, "PRAGMA user_version") == std::to_string(database_migrations().size()));
  const std::string expected = on_network_file_system(folder.path()) ? "delete" : "wal";
  CHECK(run_sql(file, "PRAGMA journal_mode") == expected);
}

TEST_CASE("a file in another journal mode is used, and put right") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store(file).put_trial(gemm_trial());
  CHECK(run_sql(file, "PRAGMA journal_mode = DELETE") == "delete");
  {
    // While somebody reads it in that mode it cannot be changed: nobody waits for that.
    sqlite::Connection reader(file, sqlite::Connection::Access::read_write,
                              std::chrono::seconds(10));
    sqlite::Query rows = reader.query("SELECT id FROM trials");
    REQUIRE(rows.step());
    const auto start = std::chrono::steady_clock::now();
    CHECK(Store(file).counts().trials == 1);
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
  }
  CHECK(Store(file).counts().trials == 1);
  if (!on_network_file_system(folder.path())) {
    CHECK(run_sql(file, "PRAGMA journal_mode") == "wal");
  }
}

TEST_CASE("an existing database opens in two milliseconds") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    for (std::int64_t number = 0; number < 500; ++number) store.put_trial(gemm_trial(number));
    store.put_winner(gemm_winner());
  }
  auto best = std::chrono::steady_clock::duration::max();
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Store store(file);
    best = std::min(best, std::chrono::steady_clock::now() - start);
  }
  CHECK(std::chrono::duration<double, std::milli>(best).count() < 2.0);
}

TEST_CASE("what is not a cudadent database is refused untouched") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  std::string expected;
  SUBCASE("a text") {
    std::ofstream(file) << "dear diary, this is no database";
    expected = "not an SQLite database";
  }
  SUBCASE("a long text") {
    std::ofstream(file) << std::string(100'000, 'x');
    expected = "not an SQLite database";
  }
  SUBCASE("a database of another program") {
    run_sql(file, "CREATE TABLE songs (title TEXT)");
    expected = "another program";
  }
  SUBCASE("a database of another program that says so") {
    run_sql(file, "PRAGMA application_id = 42");
    expected = "another program";
  }
  SUBCASE("a database of another program, in WAL mode") {
    run_sql(file, "PRAGMA journal_mode = WAL");
    run_sql(file, "CREATE TABLE songs (title TEXT)");
    expected = "another program";
  }
  SUBCASE("a newer cudadent's") {
    { const Store store(file); }
    run_sql(file, "PRAGMA user_version = 1000");
    expected = "newer cudadent";
  }
  const std::string before = contents(file);
  const std::string message = error_of_opening(file);
  CHECK(contains(message, file.string()));
  CHECK(contains(message, expected));
  CHECK(contains(message, "CUDADENT_CACHE"));
  CHECK(contents(file) == before);
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("the log that a crashed program left beside its database stays") {
  const TemporaryFolder folder;
  const auto file = folder / "songs.db";
  const auto crash = [&] {
    std::ofstream(file).close();
    sqlite::Connection connection(file, sqlite::Connection::Access::read_write,
                                  std::chrono::seconds(1));
    if (connection.try_journal_mode("WAL") != "wal") return false;
    connection.execute("CREATE TABLE songs (title TEXT)");
    ::_exit(0);
  };
  REQUIRE(run_in_child(crash) == 0);
  const std::string log = contents(file.string() + "-wal");
  REQUIRE_FALSE(log.empty());
  const std::string before = contents(file);
  CHECK(contains(error_of_opening(file), "another program"));
  CHECK(contents(file) == before);
  CHECK(contents(file.string() + "-wal") == log);
}

TEST_CASE("names that can be no database") {
  const TemporaryFolder folder;
  CHECK(contains(error_of_opening(folder.path()), "it is a folder"));
  CHECK(contains(error_of_opening(""), "empty"));
  std::ofstream(folder / "file").close();
  CHECK(contains(error_of_opening(folder / "file" / "cudadent.db"), "in the way"));
}

TEST_CASE("any name that the file system takes is good") {
  const TemporaryFolder folder;
  for (const char* name : {"a b?c#d%41.db", "file:x?mode=memory", "\xc3\xa4'\"\xff.db"}) {
    Store(folder / name).put_winner(gemm_winner());
    CHECK(fs::exists(folder / name));
    CHECK(Store(folder / name).counts().winners == 1);
  }
}

TEST_CASE("an empty file becomes a database, a relative name stays where it was") {
  const TemporaryFolder folder;
  std::ofstream(folder / "empty.db").close();
  CHECK(Store(folder / "empty.db").counts().trials == 0);

  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  const Store store("relative.db");
  fs::current_path(before);
  CHECK(fs::equivalent(store.file(), folder / "relative.db"));
}

TEST_CASE("a folder that cannot be written has no place for a new database") {
  const TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(0500));
  const int status = run_in_unprivileged_child(folder, [&] {
    const std::string direct = error_of_opening(folder / "cudadent.db");
    const std::string below = error_of_opening(folder / "sub" / "cudadent.db");
    return contains(direct, "Permission denied") && contains(direct, "CUDADENT_CACHE") &&
           contains(below, "Permission denied") && contains(below, (folder / "sub").string());
  });
  CHECK(status == 0);
  CHECK(files_in(folder.path()) == 0);
}

// What a read-only store must do: read everything, and refuse to write.
bool reads_and_refuses_to_write(const fs::path& file) {
  Store store(file);
  const bool reads = store.read_only() && store.counts().trials == 1 &&
                     store.find_binary("specialization-0") && store.winners().size() == 1;
  for (const std::string& message : {cache_error([&] { store.put_trial(gemm_trial(1)); }),
                                     cache_error([&] { store.put_winner(gemm_winner()); }),
                                     cache_error([&] { store.put_binary(gemm_binary()); })}) {
    if (!contains(message, "reading only") || !contains(message, file.string())) return false;
  }
  return reads && store.counts().trials == 1;
}

TEST_CASE("a database that cannot be written can be read") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    store.put_trial(gemm_trial());
    store.put_winner(gemm_winner());
    store.put_binary(gemm_binary());
  }
  SUBCASE("with a log") {}
  SUBCASE("with a journal") { run_sql(file, "PRAGMA journal_mode = DELETE"); }
  const std::string before = contents(file);

  fs::permissions(file, fs::perms(0400));
  CHECK(run_in_unprivileged_child(folder, [&] { return reads_and_refuses_to_write(file); }) == 0);
  fs::permissions(folder.path(), fs::perms(0500));
  CHECK(run_in_unprivileged_child(folder, [&] { return reads_and_refuses_to_write(file); }) == 0);
  fs::permissions(file, fs::perms(0600));
  CHECK(run_in_unprivileged_child(folder, [&] { return reads_and_refuses_to_write(file); }) == 0);
  CHECK(contents(file) == before);
  CHECK(files_in(folder.path()) == 1);

  fs::permissions(folder.path(), fs::perms(0700));
  CHECK(run_in_unprivileged_child(folder, [&] {
          Store store(file);
          store.put_trial(gemm_trial(1));
          return !store.read_only() && store.counts().trials == 2;
        }) == 0);
}

TEST_CASE("a database that cannot be read says so") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  { const Store store(file); }
  fs::permissions(file, fs::perms(0000));
  CHECK(run_in_unprivileged_child(folder, [&] {
          const std::string message = error_of_opening(file);
          return contains(message, file.string()) && contains(message, "CUDADENT_CACHE");
        }) == 0);
}

// No file may grow beyond `bytes`: what a full disk looks like from inside.
void limit_file_size(rlim_t bytes) {
  std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit limit = {bytes, bytes};
  ::setrlimit(RLIMIT_FSIZE, &limit);
}

TEST_CASE("a full disk costs the write that hits it and nothing else") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  { const Store store(file); }
  const int status = run_in_child([&] {
    limit_file_size(1'000'000);
    Store store(file);
    std::string message;
    int stored = 0;
    for (; stored < 100 && message.empty(); ++stored) {
      Binary binary = gemm_binary();
      binary.specialization_hash = fmt::format("{}", stored);
      message = cache_error([&] { store.put_binary(binary); });
    }
    if (!contains(message, "store a binary") || !contains(message, file.string())) return false;
    // What was reported stored is there, what was refused is not, and reading goes on.
    return stored > 2 && store.counts().binaries == stored - 1 &&
           store.find_binary(fmt::format("{}", stored - 2)) &&
           !store.find_binary(fmt::format("{}", stored - 1));
  });
  CHECK(status == 0);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
  Store store(file);
  const std::int64_t binaries = store.counts().binaries;
  CHECK(binaries > 1);
  for (std::int64_t i = 0; i < binaries; ++i) CHECK(store.find_binary(fmt::format("{}", i)));
  store.put_binary(gemm_binary());  // there is room again
  CHECK(store.counts().binaries == binaries + 1);
}

TEST_CASE("a disk too full for a new database leaves one that opens later") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  CHECK(run_in_child([&] {
          limit_file_size(4096);
          const std::string message = error_of_opening(file);
          return contains(message, file.string()) && contains(message, "CUDADENT_CACHE");
        }) == 0);
  CHECK(Store(file).counts().trials == 0);
}

TEST_CASE("a lock that another holds for too long is an error that can be tried again") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  Store store(file, {.busy_timeout = std::chrono::milliseconds(50)});
  store.put_trial(gemm_trial(0));
  {
    sqlite::Connection other(file, sqlite::Connection::Access::read_write,
                             std::chrono::seconds(10));
    const sqlite::Transaction writing(other);
    const std::string message = cache_error([&] { store.put_trial(gemm_trial(1)); });
    CHECK(contains(message, "locked by another process for 50 ms"));
    CHECK(contains(message, "store a trial"));
    CHECK(contains(message, file.string()));
    if (!on_network_file_system(folder.path())) CHECK(store.counts().trials == 1);
  }
  store.put_trial(gemm_trial(1));
  CHECK(store.counts().trials == 2);
}

}  // namespace
}  // namespace cudadent
