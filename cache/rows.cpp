#include "cache/rows.h"

#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <utility>

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

// Columns in the order of the query in find_problems().
ProblemRecord read_problem(sqlite::Query& row) {
  return {.op = row.text(),
          .tuning_key = row.text(),
          .problem_key = row.text(),
          .description = row.text(),
          .device_kind = row.text()};
}

constexpr std::string_view select_trials =
    "SELECT op, tuning_key, problem_key, description, device_kind, template_hash, compiler,"
    " measurement, specialization_hash, resources, created, kernel_template, configuration,"
    " status, message, samples, median, spread, error, compile_seconds"
    " FROM problems JOIN trials ON trials.problem = problems.id";

// Columns in the order of select_trials.
TrialRecord read_trial(sqlite::Query& row) {
  TrialRecord record;
  record.problem = read_problem(row);
  record.template_hash = row.text();
  record.compiler = row.text();
  record.measurement = row.text();
  record.specialization_hash = row.text();
  record.resources = decode_resources(row.text());
  record.created = row.text();
  Trial& trial = record.trial;
  trial.kernel_template = row.text();
  trial.configuration = decode_configuration(row.text());
  trial.status = decode_status(row.text());
  trial.message = row.text();
  trial.samples = decode_samples(row.text());
  trial.median = row.real();
  trial.spread = row.real();
  trial.error = row.real();
  trial.compile_seconds = row.real();
  trial.from_cache = true;
  return record;
}

constexpr std::string_view select_winners =
    "SELECT op, tuning_key, problem_key, description, device_kind, template_hash,"
    " kernel_template, configuration, seconds, default_seconds, compiler, specialization_hash,"
    " device_name, driver, uuid, created FROM winners";

// Columns in the order of select_winners.
WinnerRecord read_winner(sqlite::Query& row) {
  WinnerRecord record;
  record.problem = read_problem(row);
  record.template_hash = row.text();
  record.kernel_template = row.text();
  record.configuration = decode_configuration(row.text());
  record.seconds = row.real();
  record.default_seconds = row.real();
  record.compiler = row.text();
  record.specialization_hash = row.text();
  record.device_name = row.text();
  record.driver = row.text();
  record.uuid = row.text();
  record.created = row.text();
  return record;
}

// Columns in the order of the query in find_runs().
RunRecord read_run(sqlite::Query& row) {
  RunRecord record;
  record.problem = read_problem(row);
  record.started = row.text();
  record.machine = row.text();
  record.version = row.text();
  record.device_name = row.text();
  record.driver = row.text();
  record.uuid = row.text();
  record.device_facts = decode_configuration(row.text());
  record.compiler = row.text();
  record.measurement = row.text();
  record.strategy = row.text();
  record.seed = static_cast<std::uint64_t>(row.integer());
  record.stopped_by = row.text();
  record.candidates = static_cast<std::uint64_t>(row.integer());
  record.measured = row.integer();
  record.failed = row.integer();
  record.recalled = row.integer();
  record.isolated = row.integer() != 0;
  record.worker_restarts = row.integer();
  for (double* figure : {&record.flops, &record.bytes, &record.elapsed, &record.enumerate_seconds,
                         &record.compile_seconds, &record.measure_seconds, &record.verify_seconds,
                         &record.search_seconds, &record.idle_seconds}) {
    *figure = row.real();
  }
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

void write_trial(sqlite::Connection& connection, const TrialRecord& record) {
  const Trial& trial = record.trial;
  const std::string configuration = encode_configuration(trial.configuration);
  connection
      .query(
          "INSERT OR REPLACE INTO trials (problem, kernel_template, "
          "template_hash,"
          " configuration, compiler, measurement, specialization_hash, "
          "status, message,"
          " samples, median, spread, error, compile_seconds, resources, "
          "created)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(problem_row(connection, record.problem), trial.kernel_template, record.template_hash,
            configuration, record.compiler, record.measurement, record.specialization_hash,
            name_of(trial.status), trial.message, encode_samples(trial.samples), trial.median,
            trial.spread, trial.error, trial.compile_seconds, encode_resources(record.resources),
            created_or_now(record.created))
      .run();
}

std::vector<TrialRecord> find_trials(sqlite::Connection& connection, const std::string& op,
                                     const std::string& problem_key,
                                     const std::string& device_kind) {
  sqlite::Query rows = connection.query(std::string(select_trials) +
                                        " WHERE op = ? AND problem_key = ? AND device_kind = ?"
                                        " ORDER BY created, trials.id");
  rows.bind(op, problem_key, device_kind);
  return read_all(rows, read_trial);
}

std::vector<TrialRecord> all_trials(sqlite::Connection& connection, const std::string& op,
                                    const std::string& device_kind) {
  sqlite::Query rows =
      connection.query(std::string(select_trials) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
                       " ORDER BY created, trials.id");
  rows.bind(op, device_kind);
  return read_all(rows, read_trial);
}

std::vector<ProblemRecord> find_problems(sqlite::Connection& connection, const std::string& op,
                                         const std::string& device_kind) {
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind FROM "
      "problems"
      " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
      " AND EXISTS (SELECT 1 FROM trials WHERE trials.problem = problems.id)"
      " ORDER BY op, device_kind, id");
  rows.bind(op, device_kind);
  std::vector<ProblemRecord> records;
  while (rows.step()) records.push_back(read_problem(rows));
  return records;
}

void write_winner(sqlite::Connection& connection, const WinnerRecord& record) {
  const std::string configuration = encode_configuration(record.configuration);
  connection
      .query(
          "INSERT OR REPLACE INTO winners (op, device_kind, tuning_key, "
          "problem_key,"
          " description, kernel_template, template_hash, configuration, "
          "seconds,"
          " default_seconds, compiler, specialization_hash, device_name, "
          "driver, uuid, created)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(record.problem.op, record.problem.device_kind, record.problem.tuning_key,
            record.problem.problem_key, record.problem.description, record.kernel_template,
            record.template_hash, configuration, record.seconds, record.default_seconds,
            record.compiler, record.specialization_hash, record.device_name, record.driver,
            record.uuid, created_or_now(record.created))
      .run();
}

std::optional<WinnerRecord> find_winner(sqlite::Connection& connection, const std::string& op,
                                        const std::string& tuning_key,
                                        const std::string& device_kind) {
  sqlite::Query row = connection.query(std::string(select_winners) +
                                       " WHERE op = ? AND device_kind = ? AND tuning_key = ?");
  row.bind(op, device_kind, tuning_key);
  if (!row.step()) return std::nullopt;
  return readable([&] { return read_winner(row); });
}

std::vector<WinnerRecord> all_winners(sqlite::Connection& connection, const std::string& op,
                                      const std::string& device_kind) {
  sqlite::Query rows =
      connection.query(std::string(select_winners) +
                       " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
                       " ORDER BY op, device_kind, tuning_key");
  rows.bind(op, device_kind);
  return read_all(rows, read_winner);
}

void write_run(sqlite::Connection& connection, const RunRecord& record) {
  const std::string facts = encode_configuration(record.device_facts);
  connection
      .query(
          "INSERT OR REPLACE INTO runs (problem, started, machine, version, "
          "device_name, driver,"
          " uuid, device_facts, compiler, measurement, strategy, seed, "
          "stopped_by, candidates,"
          " measured, failed, recalled, isolated, worker_restarts, flops, "
          "bytes, elapsed,"
          " enumerate_seconds, compile_seconds, measure_seconds, "
          "verify_seconds, search_seconds,"
          " idle_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
          "?, ?, ?, ?, ?, ?, ?, ?,"
          " ?, ?, ?, ?, ?, ?)")
      // SQLite's integers are signed: a seed or count keeps its 64 bits.
      .bind(problem_row(connection, record.problem), record.started, record.machine, record.version,
            record.device_name, record.driver, record.uuid, facts, record.compiler,
            record.measurement, record.strategy, static_cast<std::int64_t>(record.seed),
            record.stopped_by, static_cast<std::int64_t>(record.candidates), record.measured,
            record.failed, record.recalled, std::int64_t{record.isolated}, record.worker_restarts,
            record.flops, record.bytes, record.elapsed, record.enumerate_seconds,
            record.compile_seconds, record.measure_seconds, record.verify_seconds,
            record.search_seconds, record.idle_seconds)
      .run();
}

std::vector<RunRecord> find_runs(sqlite::Connection& connection, const std::string& op,
                                 const std::string& problem_key, const std::string& device_kind) {
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind, started, "
      "machine, version,"
      " device_name, driver, uuid, device_facts, compiler, measurement, "
      "strategy, seed, stopped_by,"
      " candidates, measured, failed, recalled, isolated, worker_restarts, "
      "flops, bytes, elapsed,"
      " enumerate_seconds, compile_seconds, measure_seconds, verify_seconds, "
      "search_seconds,"
      " idle_seconds FROM problems JOIN runs ON runs.problem = problems.id"
      " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR problem_key = ?2)"
      " AND (?3 = '' OR device_kind = ?3) ORDER BY started, runs.id");
  rows.bind(op, problem_key, device_kind);
  return read_all(rows, read_run);
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
