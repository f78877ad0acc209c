// A store that goes on where its file cannot be used: a warning, once, and what is put is kept in memory.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>

#include "cache/store.h"
#include "support.h"

namespace cudadent {
namespace {

using namespace cache_tests;
namespace fs = std::filesystem;
using std::chrono::milliseconds;

struct Warnings {
  std::vector<std::string> messages;
  StoreOptions options(milliseconds rest = std::chrono::hours(1)) {
    StoreOptions options;
    options.when_unusable = Unusable::warning;
    options.busy_timeout = milliseconds(20);
    options.rest = rest;
    options.log = [this](LogLevel level, std::string_view message) {
      if (level == LogLevel::warning) messages.emplace_back(message);
    };
    return options;
  }
};

std::optional<WinnerRecord> look_up(Store& store) {
  const ProblemRecord problem = gemm_problem();
  return store.winner(problem.op, problem.tuning_key, problem.device_kind);
}

// Everything can be put and is found again, as if the file were good.
bool works(Store& store) {
  store.put_trial(gemm_trial());
  store.put_winner(gemm_winner());
  store.put_binary(gemm_binary());
  RunRecord run;
  run.problem = gemm_problem();
  run.started = "2026-01-01T00:00:00.000Z";
  store.put_run(run);
  const ProblemRecord problem = gemm_problem();
  return look_up(store) && store.winners().size() == 1 && store.problems().size() == 1 &&
         store.trials(problem.op, problem.problem_key, problem.device_kind).size() == 1 &&
         store.runs().size() == 1 && store.find_binary("specialization-0") &&
         !store.find_binary("specialization-1") && store.claim(problem) != nullptr;
}

bool warned_once(const Warnings& warnings, const fs::path& file) {
  if (warnings.messages.size() != 1) {
    for (const auto& message : warnings.messages) MESSAGE(message);
    return false;
  }
  return contains(warnings.messages[0], file.string()) &&
         contains(warnings.messages[0], "CUDADENT_CACHE") &&
         contains(warnings.messages[0], "kept in memory");
}

TEST_CASE("a file that is no database of ours is left alone, and all goes on in memory") {
  const TemporaryFolder folder;
  auto file = folder / "cudadent.db", named = file;
  SUBCASE("a text") { std::ofstream(file) << std::string(10'000, 'x'); }
  SUBCASE("another program's") { run_sql(file, "CREATE TABLE songs (title TEXT)"); }
  SUBCASE("a newer cudadent's") {
    { const Store store(file); }
    run_sql(file, "PRAGMA user_version = 1000");
  }
  SUBCASE("a folder") { fs::create_directory(file); }
  SUBCASE("a file where its folder should be") {
    std::ofstream(folder / "file").close();
    file = folder / "file" / "cudadent.db";
    named = folder / "file";
  }
  const std::string before = fs::is_directory(file) ? "" : contents(file);
  Warnings warnings;
  {
    Store store(file, warnings.options());
    CHECK(!look_up(store));
    CHECK(warned_once(warnings, named));
    CHECK(store.why_incomplete().empty());  // nothing was put yet
    CHECK(works(store));
    CHECK(contains(store.why_incomplete(), named.string()));
  }
  CHECK(warned_once(warnings, named));
  if (!fs::is_directory(file)) CHECK(contents(file) == before);
  // Whoever needs the file gets the error.
  StoreOptions strict = warnings.options();
  strict.when_unusable = Unusable::error_at_first;
  CHECK(contains(cache_error([&] { const Store store(file, strict); }), "CUDADENT_CACHE"));
}

TEST_CASE("a folder that cannot be written, and a file that cannot be read") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  SUBCASE("folder") { fs::permissions(folder.path(), fs::perms(0500)); }
  SUBCASE("file") {
    { const Store store(file); }
    fs::permissions(file, fs::perms(0000));
  }
  CHECK(run_in_unprivileged_child(folder, [&] {
          Warnings warnings;
          Store store(file, warnings.options());
          return works(store) && warned_once(warnings, file);
        }) == 0);
}

TEST_CASE("a database that is only for reading is read, and what is new is laid over it") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    auto other = gemm_winner();
    other.problem.tuning_key = "another";
    store.put_winner(other);
    auto old = gemm_winner();
    old.kernel_template = "old";
    store.put_winner(old);
    store.put_trial(gemm_trial(0));
    store.put_trial(gemm_trial(1));
  }
  fs::permissions(file, fs::perms(0400));
  CHECK(run_in_unprivileged_child(folder, [&] {
          Warnings warnings;
          Store store(file, warnings.options());
          if (!look_up(store) || look_up(store)->kernel_template != "old") return false;
          if (!warnings.messages.empty()) return false;  // nothing is lost by reading
          store.put_winner(gemm_winner());
          store.put_trial(gemm_trial(1));
          store.put_trial(gemm_trial(2));
          const ProblemRecord problem = gemm_problem();
          const auto trials = store.trials(problem.op, problem.problem_key, problem.device_kind);
          return look_up(store)->kernel_template == "wgmma" && store.winners().size() == 2 &&
                 trials.size() == 3 && store.problems().size() == 1 && warned_once(warnings, file);
        }) == 0);
  CHECK(run_in_unprivileged_child(folder, [&] {
          StoreOptions strict;
          strict.when_unusable = Unusable::error_at_first;
          return contains(cache_error([&] { const Store store(file, strict); }), "reading only");
        }) == 0);
}

TEST_CASE("a full disk: what does not fit is kept in memory, what fitted is still read") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  const auto binary = [](int number) {
    Binary made = gemm_binary();
    made.specialization_hash = fmt::format("{}", number);
    return made;
  };
  { Store(file).put_binary(binary(0)); }
  CHECK(run_in_child([&] {
          std::signal(SIGXFSZ, SIG_IGN);
          const struct rlimit limit = {1'000'000, 1'000'000};
          ::setrlimit(RLIMIT_FSIZE, &limit);
          Warnings warnings;
          Store store(file, warnings.options());
          for (int number = 1; number < 30; ++number) store.put_binary(binary(number));
          for (int number = 0; number < 30; ++number)
            if (!store.find_binary(fmt::format("{}", number))) return false;
          return works(store) && warned_once(warnings, file);
        }) == 0);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
  CHECK(Store(file).counts().binaries > 1);
}

TEST_CASE("a database that turns out to be damaged") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    store.put_winner(gemm_winner());
    store.put_binary(gemm_binary());
  }
  {
    // Everything but the header and the schema, which lie in the first page.
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(4096);
    stream << std::string(fs::file_size(file) - 4096, '\xAB');
  }
  Warnings warnings;
  Store store(file, warnings.options());
  CHECK(!look_up(store));
  CHECK(!store.find_binary("specialization-0"));
  CHECK(warned_once(warnings, file));
  CHECK(works(store));
  CHECK(warned_once(warnings, file));
}

TEST_CASE("rows that are damaged in a good database are as if they were not there") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  {
    Store store(file);
    store.put_winner(gemm_winner());
    store.put_trial(gemm_trial());
    store.put_binary(gemm_binary());
  }
  run_sql(file, "UPDATE winners SET configuration = '{\"BM\":'");
  run_sql(file, "UPDATE trials SET samples = x'00ff'");
  run_sql(file, "UPDATE binaries SET image = x'0011'");
  Warnings warnings;
  Store store(file, warnings.options());
  CHECK(!look_up(store));
  CHECK(!store.find_binary("specialization-0"));
  CHECK(works(store));
  CHECK(store.why_incomplete().empty());  // they were replaced in the file
  CHECK(warnings.messages.empty());
}

TEST_CASE("a file that another holds locked is tried again later") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  { const Store store(file); }
  Warnings warnings;
  Store store(file, warnings.options(milliseconds(0)));
  {
    sqlite::Connection other(file, sqlite::Connection::Access::read_write,
                             std::chrono::seconds(10));
    const sqlite::Transaction writing(other);
    store.put_winner(gemm_winner());
    CHECK(look_up(store));
    CHECK(store.claim(gemm_problem()) != nullptr);  // nobody to ask: tune
    CHECK(warned_once(warnings, file));
    CHECK(contains(store.why_incomplete(), "locked"));
  }
  auto newer = gemm_winner();
  newer.kernel_template = "newer";
  store.put_winner(newer);
  CHECK(look_up(store)->kernel_template == "newer");  // also where memory has an older one
  CHECK(Store(file).winners().at(0).kernel_template == "newer");
}

TEST_CASE("a lock that lasts costs its time-out once, not with each call") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  { const Store store(file); }
  Warnings warnings;
  StoreOptions options = warnings.options();
  options.busy_timeout = milliseconds(300);
  Store store(file, options);
  sqlite::Connection other(file, sqlite::Connection::Access::read_write, std::chrono::seconds(10));
  const sqlite::Transaction writing(other);
  const auto start = std::chrono::steady_clock::now();
  for (int number = 0; number < 100; ++number) store.put_trial(gemm_trial(number));
  // A hundred time-outs would be 30 s.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  store.put_winner(gemm_winner());
  CHECK(look_up(store));
}

TEST_CASE("a file that can be used again is used again") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db";
  fs::create_directory(file);
  Warnings warnings;
  Store store(file, warnings.options(milliseconds(0)));
  CHECK(works(store));
  fs::remove(file);
  store.put_trial(gemm_trial(7));
  CHECK(Store(file).counts().trials == 1);
}

TEST_CASE("a file that goes away is made anew, not written to without a name") {
  const TemporaryFolder folder;
  const auto file = folder / "sub" / "cudadent.db";
  Store store(file);  // also for those who want errors
  store.put_winner(gemm_winner());
  SUBCASE("the file") {
    for (const char* end : {"", "-wal", "-shm"}) fs::remove(file.string() + end);
  }
  SUBCASE("its folder") { fs::remove_all(folder / "sub"); }
  SUBCASE("another database takes its place") {
    const auto other = folder / "other.db";
    {
      Store made(other);
      made.put_trial(gemm_trial(1));
    }
    for (const char* end : {"-wal", "-shm"}) fs::remove(file.string() + end);
    fs::rename(other, file);
  }
  CHECK(!look_up(store));
  store.put_winner(gemm_winner());
  store.put_trial(gemm_trial(2));
  CHECK(look_up(store));
  Store again(file);
  CHECK(again.counts().winners == 1);
  CHECK(again.counts().trials >= 1);
  CHECK(run_sql(file, "PRAGMA integrity_check") == "ok");
}

TEST_CASE("layers are looked into although the own file cannot be used") {
  const TemporaryFolder folder;
  const auto file = folder / "cudadent.db", layer = folder / "layer.db";
  std::ofstream(file) << std::string(10'000, 'x');
  {
    Store made(layer);
    made.put_winner(gemm_winner());
    made.put_binary(gemm_binary());
  }
  Warnings warnings;
  StoreOptions options = warnings.options();
  options.layers = {layer};
  Store store(file, options);
  CHECK(look_up(store)->layer == layer);
  CHECK(store.find_binary("specialization-0"));
  CHECK(warnings.messages.size() == 1);
}

}  // namespace
}  // namespace cudadent
