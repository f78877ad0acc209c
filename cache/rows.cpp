#include "cache/rows.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "cache/fields.h"
#include "cache/records.h"
#include "runtime/base/hash.h"

namespace cudadent {

namespace {

std::string created_or_now(const std::string& created) {
  return created.empty() ? utc_now() : created;
}

// What a decoder makes of a row, or nothing when the row is not what was stored
// there.
template <class Decode>
auto readable(const Decode& decode) -> std::optional<decltype(decode())> {
  try {
    return decode();
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    return std::nullopt;
  }
}

// The number of the problem's row, made or brought up to date.
std::int64_t problem_row(sqlite::Connection& connection, const ProblemRecord& problem) {
  connection
      .query(
          "INSERT INTO problems (op, problem_key, device_kind, tuning_key, "
          "description)"
          " VALUES (?, ?, ?, ?, ?) ON CONFLICT (op, problem_key, "
          "device_kind) DO UPDATE"
          " SET tuning_key = excluded.tuning_key, description = "
          "excluded.description"
          " WHERE tuning_key <> excluded.tuning_key OR description <> "
          "excluded.description")
      .bind(problem.op, problem.problem_key, problem.device_kind, problem.tuning_key,
            problem.description)
      .run();
  sqlite::Query query = connection.query(
      "SELECT id FROM problems WHERE op = ? AND problem_key = "
      "? AND device_kind = ?");
  query.bind(problem.op, problem.problem_key, problem.device_kind);
  if (!query.step()) connection.fail("a row just written is gone", "Try again");
  return query.integer();
}

// Every row that reads as what was stored.
template <class Read>
auto read_all(sqlite::Query& rows, const Read& read) {
  std::vector<decltype(read(rows))> records;
  while (rows.step()) {
    if (auto record = readable([&] { return read(rows); })) records.push_back(*std::move(record));
  }
  return records;
}

// ------------------------------------------------------------- members as columns, and back

template <class Number>
  requires std::is_arithmetic_v<Number>
auto encoded(Number number) {
  // SQLite's integers are signed: a seed or count keeps its 64 bits.
  if constexpr (std::is_floating_point_v<Number>)
    return static_cast<double>(number);
  else
    return static_cast<std::int64_t>(number);
}
std::string_view encoded(const std::string& text) { return text; }
std::string encoded(const Values& values) { return encode_configuration(values); }
std::string encoded(const std::vector<double>& samples) { return encode_samples(samples); }
std::string encoded(const std::vector<KernelResources>& resources) {
  return encode_resources(resources);
}
std::string encoded(const Figures& figures) { return encode_figures(figures); }
std::string_view encoded(TrialStatus status) { return name_of(status); }

template <class Number>
  requires std::is_arithmetic_v<Number>
void decode(sqlite::Query& row, Number& number) {
  if constexpr (std::is_floating_point_v<Number>)
    number = row.real();
  else
    number = static_cast<Number>(row.integer());
}
void decode(sqlite::Query& row, std::string& text) { text = row.text(); }
void decode(sqlite::Query& row, Values& values) { values = decode_configuration(row.text()); }
void decode(sqlite::Query& row, std::vector<double>& samples) {
  samples = decode_samples(row.text());
}
void decode(sqlite::Query& row, std::vector<KernelResources>& resources) {
  resources = decode_resources(row.text());
}
void decode(sqlite::Query& row, Figures& figures) { figures = decode_figures(row.text()); }
void decode(sqlite::Query& row, TrialStatus& status) { status = decode_status(row.text()); }

// ", " before each but the first.
void append(std::string& list, std::string_view item) {
  if (!list.empty()) list += ", ";
  list += item;
}

template <class... Records>
std::string insert_into(std::string_view table, std::string_view first_columns, int first_count) {
  std::string columns(first_columns), places;
  for (int i = 0; i < first_count; ++i) append(places, "?");
  const auto add = [&](const auto& field) {
    append(columns, field.column);
    append(places, "?");
  };
  (each_stored_field<Records>(add), ...);
  return fmt::format("INSERT OR REPLACE INTO {} ({}) VALUES ({})", table, columns, places);
}

template <class Record>
void bind_fields(sqlite::Query& query, const Record& record) {
  each_stored_field<Record>([&](const auto& field) { query.bind(encoded(record.*field.member)); });
}

// A file that can only be read may be of an older version, which lacks columns.
bool lacks_columns_of_4(sqlite::Connection& connection) {
  return connection.query_integer("PRAGMA user_version") < 4;
}

template <class... Records>
std::string select_from(std::string_view tables, bool older) {
  std::string columns;
  const auto add = [&](const auto& field) {
    if (!older || field.stored != Stored::since_4) append(columns, field.column);
  };
  (each_stored_field<Records>(add), ...);
  return fmt::format("SELECT {} FROM {}", columns, tables);
}

template <class Record>
void read_fields(sqlite::Query& row, bool older, Record& record) {
  each_stored_field<Record>([&](const auto& field) {
    if (!older || field.stored != Stored::since_4) decode(row, record.*field.member);
  });
}

ProblemRecord read_problem(sqlite::Query& row) {
  ProblemRecord problem;
  read_fields(row, false, problem);
  return problem;
}

constexpr std::string_view problems_and_trials =
    "problems JOIN trials ON trials.problem = problems.id";
constexpr std::string_view problems_and_runs = "problems JOIN runs ON runs.problem = problems.id";

std::string select_trials(bool older) {
  return select_from<ProblemRecord, TrialRecord, Trial>(problems_and_trials, older);
}

TrialRecord read_trial(sqlite::Query& row, bool older) {
  TrialRecord record;
  read_fields(row, older, record.problem);
  read_fields(row, older, record);
  read_fields(row, older, record.trial);
  record.trial.from_cache = true;
  return record;
}

template <class Record>
Record read_with_problem(sqlite::Query& row, bool older) {
  Record record;
  read_fields(row, older, record.problem);
  read_fields(row, older, record);
  return record;
}

// Columns in the order of the query in find_binary(). Nothing when the image is
// not the one that was stored.
std::optional<Binary> read_binary(sqlite::Query& row) {
  Binary binary;
  binary.specialization_hash = row.text();
  binary.compiler = row.text();
  binary.architecture = row.text();
  binary.resources = decode_resources(row.text());
  binary.compile_seconds = row.real();
  binary.log = row.text();
  const std::string image_hash = row.text();
  const std::span<const std::byte> image = row.bytes();
  if (image.empty() || content_hash(image) != image_hash) return std::nullopt;
  binary.image.assign(image.begin(), image.end());
  return binary;
}

std::vector<std::int64_t> damaged_binaries(sqlite::Connection& connection,
                                           const std::string& specialization_hash) {
  sqlite::Query rows = connection.query(
      "SELECT id, image_hash, image FROM binaries WHERE "
      "specialization_hash = ?");
  rows.bind(specialization_hash);
  std::vector<std::int64_t> damaged;
  while (rows.step()) {
    const std::int64_t id = rows.integer();
    const std::string image_hash = rows.text();
    if (content_hash(rows.bytes()) != image_hash) damaged.push_back(id);
  }
  return damaged;
}

}  // namespace

void write_trial(sqlite::Connection& connection, TrialRecord record) {
  static const std::string sql = insert_into<TrialRecord, Trial>("trials", "problem", 1);
  record.created = created_or_now(record.created);
  const std::int64_t problem = problem_row(connection, record.problem);
  sqlite::Query query = connection.query(sql);
  query.bind(problem);
  bind_fields(query, record);
  bind_fields(query, record.trial);
  query.run();
}

std::vector<TrialRecord> find_trials(sqlite::Connection& connection, const std::string& op,
                                     const std::string& problem_key,
                                     const std::string& device_kind) {
  const bool older = lacks_columns_of_4(connection);
  sqlite::Query rows = connection.query(select_trials(older) +
                                        " WHERE op = ? AND problem_key = ? AND device_kind = ?"
                                        " ORDER BY created, trials.id");
  rows.bind(op, problem_key, device_kind);
  return read_all(rows, [&](auto& row) { return read_trial(row, older); });
}

std::vector<TrialRecord> all_trials(sqlite::Connection& connection, const std::string& op,
                                    const std::string& device_kind) {
  const bool older = lacks_columns_of_4(connection);
  sqlite::Query rows =
      connection.query(select_trials(older) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
                       " ORDER BY created, trials.id");
  rows.bind(op, device_kind);
  return read_all(rows, [&](auto& row) { return read_trial(row, older); });
}

std::vector<ProblemRecord> find_problems(sqlite::Connection& connection, const std::string& op,
                                         const std::string& device_kind) {
  sqlite::Query rows =
      connection.query(select_from<ProblemRecord>("problems", false) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
                       " AND EXISTS (SELECT 1 FROM trials WHERE trials.problem = problems.id)"
                       " ORDER BY op, device_kind, id");
  rows.bind(op, device_kind);
  std::vector<ProblemRecord> records;
  while (rows.step()) records.push_back(read_problem(rows));
  return records;
}

void write_winner(sqlite::Connection& connection, WinnerRecord record) {
  static const std::string sql = insert_into<ProblemRecord, WinnerRecord>("winners", "", 0);
  record.created = created_or_now(record.created);
  sqlite::Query query = connection.query(sql);
  bind_fields(query, record.problem);
  bind_fields(query, record);
  query.run();
}

std::optional<WinnerRecord> find_winner(sqlite::Connection& connection, const std::string& op,
                                        const std::string& tuning_key,
                                        const std::string& device_kind) {
  const bool older = lacks_columns_of_4(connection);
  sqlite::Query row = connection.query(select_from<ProblemRecord, WinnerRecord>("winners", older) +
                                       " WHERE op = ? AND device_kind = ? AND tuning_key = ?");
  row.bind(op, device_kind, tuning_key);
  if (!row.step()) return std::nullopt;
  return readable([&] { return read_with_problem<WinnerRecord>(row, older); });
}

std::vector<WinnerRecord> all_winners(sqlite::Connection& connection, const std::string& op,
                                      const std::string& device_kind) {
  const bool older = lacks_columns_of_4(connection);
  sqlite::Query rows =
      connection.query(select_from<ProblemRecord, WinnerRecord>("winners", older) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
                       " ORDER BY op, device_kind, tuning_key");
  rows.bind(op, device_kind);
  return read_all(rows, [&](auto& row) { return read_with_problem<WinnerRecord>(row, older); });
}

void write_run(sqlite::Connection& connection, const RunRecord& record) {
  static const std::string sql = insert_into<RunRecord>("runs", "problem", 1);
  const std::int64_t problem = problem_row(connection, record.problem);
  sqlite::Query query = connection.query(sql);
  query.bind(problem);
  bind_fields(query, record);
  query.run();
}

std::vector<RunRecord> find_runs(sqlite::Connection& connection, const std::string& op,
                                 const std::string& problem_key, const std::string& device_kind) {
  const bool older = lacks_columns_of_4(connection);
  sqlite::Query rows =
      connection.query(select_from<ProblemRecord, RunRecord>(problems_and_runs, older) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR problem_key = ?2)"
                       " AND (?3 = '' OR device_kind = ?3) ORDER BY started, runs.id");
  rows.bind(op, problem_key, device_kind);
  return read_all(rows, [&](auto& row) { return read_with_problem<RunRecord>(row, older); });
}

void write_binary(sqlite::Connection& connection, const Binary& binary) {
  const std::span<const std::byte> image(binary.image);
  const std::string image_hash = content_hash(image);
  for (const std::int64_t id : damaged_binaries(connection, binary.specialization_hash)) {
    connection.query("DELETE FROM binaries WHERE id = ?").bind(id).run();
  }
  connection
      .query(
          "INSERT OR REPLACE INTO binaries (specialization_hash, compiler, "
          "architecture,"
          " resources, compile_seconds, log, created, image_hash, image)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(binary.specialization_hash, binary.compiler, binary.architecture,
            encode_resources(binary.resources), binary.compile_seconds, binary.log, utc_now(),
            image_hash, image)
      .run();
}

std::optional<Binary> find_binary(sqlite::Connection& connection,
                                  const std::string& specialization_hash) {
  sqlite::Query rows = connection.query(
      "SELECT specialization_hash, compiler, architecture, "
      "resources, compile_seconds, log,"
      " image_hash, image FROM binaries WHERE "
      "specialization_hash = ? ORDER BY id DESC");
  rows.bind(specialization_hash);
  while (rows.step()) {
    auto binary = readable([&] { return read_binary(rows); });
    if (binary && *binary) return *std::move(binary);
  }
  return std::nullopt;
}

}  // namespace cudadent
