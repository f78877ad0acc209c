#include "cache/schema.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <string>
#include <system_error>

namespace cudadent {

namespace {

// Problems are numbered with AUTOINCREMENT so that the number of a deleted one is never given again:
// trials left behind by hand must not turn into those of another problem. Winners do not refer to
// problems: they are few, and looking one up is on the way to a first launch.
constexpr std::string_view version_1 = R"sql(
CREATE TABLE problems (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  op           TEXT NOT NULL,
  problem_key  TEXT NOT NULL,
  device_kind  TEXT NOT NULL,
  tuning_key   TEXT NOT NULL,
  description  TEXT NOT NULL,
  UNIQUE (op, problem_key, device_kind)
);
CREATE TABLE trials (
  id                  INTEGER PRIMARY KEY,
  problem             INTEGER NOT NULL REFERENCES problems (id) ON DELETE CASCADE,
  kernel_template     TEXT NOT NULL,
  template_hash       TEXT NOT NULL,
  configuration       TEXT NOT NULL,
  compiler            TEXT NOT NULL,
  measurement         TEXT NOT NULL,
  specialization_hash TEXT NOT NULL,
  status              TEXT NOT NULL,
  message             TEXT NOT NULL,
  samples             TEXT NOT NULL,
  median              REAL,
  spread              REAL,
  error               REAL,
  compile_seconds     REAL,
  resources           TEXT NOT NULL,
  created             TEXT NOT NULL,
  UNIQUE (problem, template_hash, configuration, compiler, measurement)
);
CREATE TABLE winners (
  id                  INTEGER PRIMARY KEY,
  op                  TEXT NOT NULL,
  device_kind         TEXT NOT NULL,
  tuning_key          TEXT NOT NULL,
  problem_key         TEXT NOT NULL,
  description         TEXT NOT NULL,
  kernel_template     TEXT NOT NULL,
  template_hash       TEXT NOT NULL,
  configuration       TEXT NOT NULL,
  seconds             REAL,
  default_seconds     REAL,
  compiler            TEXT NOT NULL,
  specialization_hash TEXT NOT NULL,
  device_name         TEXT NOT NULL,
  driver              TEXT NOT NULL,
  uuid                TEXT NOT NULL,
  created             TEXT NOT NULL,
  UNIQUE (op, device_kind, tuning_key)
);
CREATE TABLE binaries (
  id                  INTEGER PRIMARY KEY,
  specialization_hash TEXT NOT NULL,
  compiler            TEXT NOT NULL,
  architecture        TEXT NOT NULL,
  resources           TEXT NOT NULL,
  compile_seconds     REAL,
  log                 TEXT NOT NULL,
  created             TEXT NOT NULL,
  image_hash          TEXT NOT NULL,
  image               BLOB NOT NULL,
  UNIQUE (specialization_hash, compiler)
);
)sql";

// What tuning runs were like. A run is told from others by when and where it began, so that merging two
// databases that share some does not double them.
constexpr std::string_view version_2 = R"sql(
CREATE TABLE runs (
  id                INTEGER PRIMARY KEY,
  problem           INTEGER NOT NULL REFERENCES problems (id) ON DELETE CASCADE,
  started           TEXT NOT NULL,
  machine           TEXT NOT NULL,
  version           TEXT NOT NULL,
  device_name       TEXT NOT NULL,
  driver            TEXT NOT NULL,
  uuid              TEXT NOT NULL,
  device_facts      TEXT NOT NULL,
  compiler          TEXT NOT NULL,
  measurement       TEXT NOT NULL,
  strategy          TEXT NOT NULL,
  seed              INTEGER NOT NULL,
  stopped_by        TEXT NOT NULL,
  candidates        INTEGER NOT NULL,
  measured          INTEGER NOT NULL,
  failed            INTEGER NOT NULL,
  recalled          INTEGER NOT NULL,
  isolated          INTEGER NOT NULL,
  worker_restarts   INTEGER NOT NULL,
  flops             REAL,
  bytes             REAL,
  elapsed           REAL,
  enumerate_seconds REAL,
  compile_seconds   REAL,
  measure_seconds   REAL,
  verify_seconds    REAL,
  search_seconds    REAL,
  idle_seconds      REAL,
  UNIQUE (problem, started, machine)
);
)sql";

// Who is tuning what just now. `heartbeat` is in seconds since 1970.
constexpr std::string_view version_3 = R"sql(
CREATE TABLE claims (
  id              INTEGER PRIMARY KEY,
  op              TEXT NOT NULL,
  device_kind     TEXT NOT NULL,
  tuning_key      TEXT NOT NULL,
  token           TEXT NOT NULL UNIQUE,
  host            TEXT NOT NULL,
  boot            TEXT NOT NULL,
  process_numbers TEXT NOT NULL,
  process         INTEGER NOT NULL,
  process_start   INTEGER NOT NULL,
  heartbeat       REAL NOT NULL,
  created         TEXT NOT NULL,
  UNIQUE (op, device_kind, tuning_key)
);
)sql";

// Figures of observers, and what a run searched for if not for the least time.
constexpr std::string_view version_4 = R"sql(
ALTER TABLE trials ADD COLUMN figures TEXT NOT NULL DEFAULT '{}';
ALTER TABLE winners ADD COLUMN objective TEXT NOT NULL DEFAULT 'seconds';
ALTER TABLE runs ADD COLUMN objective TEXT NOT NULL DEFAULT 'seconds';
ALTER TABLE runs ADD COLUMN prepare_seconds REAL DEFAULT 0;
)sql";

constexpr std::array<std::string_view, 4> migrations_since_empty = {version_1, version_2, version_3,
                                                                    version_4};

constexpr std::string_view move_it_away = "Move it away, or set CUDADENT_CACHE to another file";

// Refuses without leaving a trace: a log that a crashed process left beside the file stays there.
[[noreturn]] void refuse(sqlite::Connection& connection, std::string_view reason,
                         std::string_view advice) {
  std::error_code ignored;
  const auto bytes = std::filesystem::file_size(connection.file().string() + "-wal", ignored);
  if (!ignored && bytes > 0) connection.leave_log_alone();
  connection.fail(reason, advice);
}

bool has_nothing_in_it(sqlite::Connection& connection) {
  return connection.query_integer("SELECT count(*) FROM sqlite_master") == 0;
}

// The version of the schema, 0 for an empty database; refuses what cudadent cannot or must not use.
std::int64_t checked_version(sqlite::Connection& connection, std::int64_t newest) {
  const std::int64_t application = connection.query_integer("PRAGMA application_id");
  const std::int64_t version = connection.query_integer("PRAGMA user_version");
  if (application == database_application_id && version >= 1) {
    if (version <= newest) return version;
    refuse(connection,
           fmt::format("a newer cudadent wrote it (schema {}; this one knows up to {})", version,
                       newest),
           "Update cudadent, move the file away, or set CUDADENT_CACHE to another one");
  }
  if (application == 0 && version == 0 && has_nothing_in_it(connection)) return 0;
  refuse(connection,
         fmt::format("it is an SQLite database of another program (application_id {:#x}, "
                     "user_version {})",
                     application, version),
         move_it_away);
}

}  // namespace

std::span<const std::string_view> database_migrations() noexcept { return migrations_since_empty; }

void bring_up_to_date(sqlite::Connection& connection, std::span<const std::string_view> migrations,
                      std::optional<std::int64_t> oldest_readable) {
  const auto newest = static_cast<std::int64_t>(migrations.size());
  const std::int64_t found = [&] {
    // One view of the file: between two queries another process may be creating the schema.
    const sqlite::Transaction look(connection, sqlite::Transaction::Kind::read);
    return checked_version(connection, newest);
  }();
  if (found == newest) return;
  if (connection.read_only()) {
    if (oldest_readable && found >= *oldest_readable) return;
    refuse(connection,
           fmt::format("its schema {} has to be brought to {} and it cannot be written", found,
                       newest),
           "Make the file and its folder writable, or set CUDADENT_CACHE to a copy that is");
  }
  sqlite::Transaction transaction(connection);
  // Looks again, now that nobody else can write: another process may have been faster.
  const std::int64_t version = checked_version(connection, newest);
  for (std::int64_t next = version; next < newest; ++next) {
    connection.execute(std::string(migrations[static_cast<std::size_t>(next)]).c_str());
  }
  connection.execute(fmt::format("PRAGMA application_id={}; PRAGMA user_version={}",
                                 database_application_id, newest)
                         .c_str());
  transaction.commit();
}

}  // namespace cudadent
