#include "cache/store.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "cache/database_file.h"
#include "cache/records.h"
#include "cache/sqlite.h"
#include "runtime/hash.h"

namespace cudadent {

namespace {

std::filesystem::path place_of(const std::filesystem::path& file) {
  if (file.empty()) {
    throw Error(ErrorCode::cache_failed,
                "cannot open the database: its file name is empty. Name a file, or \":memory:\".");
  }
  return file == ":memory:" ? file : std::filesystem::absolute(file).lexically_normal();
}

std::string created_or_now(const std::string& created) {
  return created.empty() ? utc_now() : created;
}

// What a decoder makes of a row, or nothing when the row is not what was stored there.
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

}  // namespace

// The connection, its lock, and the process they belong to.
struct Store::Database {
  const std::filesystem::path file;
  const std::chrono::milliseconds busy_timeout;
  std::mutex mutex;
  std::unique_ptr<sqlite::Connection> connection;
  std::atomic<pid_t> owner = 0;  // the process that opened the connection
  std::atomic<bool> read_only = false;

  Database(const std::filesystem::path& place, std::chrono::milliseconds timeout)
      : file(place_of(place)), busy_timeout(timeout) {
    open();
  }
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // The connection, to this thread alone.
  struct Session {
    std::unique_lock<std::mutex> lock;
    sqlite::Connection& connection;
  };
  // `attempt` is what the caller is about to do, for messages.
  Session use(std::string_view attempt);
  // The same for writing: refuses at once when the file is read-only.
  Session use_for_writing(std::string_view attempt);

 private:
  void open();
  [[nodiscard]] bool belongs_to_parent() const noexcept {
    return file != ":memory:" && owner.load() != ::getpid();
  }
  std::unique_lock<std::mutex> lock_after_fork();
  void abandon_connection() noexcept;
};

void Store::Database::open() {
  connection = std::make_unique<sqlite::Connection>(open_database(file, busy_timeout));
  read_only = connection->read_only();
  owner = ::getpid();
}

// An SQLite connection does not survive a fork: the child holds none of its file locks. Closed in the
// usual way there, it would also take itself for the last one and delete the log the parent is using.
void Store::Database::abandon_connection() noexcept {
  if (connection) connection->leave_log_alone();
  connection.reset();
}

Store::Database::~Database() {
  if (!belongs_to_parent()) return;
  if (mutex.try_lock()) {
    abandon_connection();
    mutex.unlock();
  } else {
    // A thread that only the parent has was using it. Its state is anyone's guess: leave it be.
    connection.release();  // NOLINT(bugprone-unused-return-value): left to the end of the process
  }
}

// The mutex may have been copied locked, by a thread that the child does not have; or another thread of
// the child holds it while it reopens. Time tells the two apart.
std::unique_lock<std::mutex> Store::Database::lock_after_fork() {
  const auto deadline = std::chrono::steady_clock::now() + busy_timeout;
  std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
  while (!lock && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    lock = std::unique_lock<std::mutex>(mutex, std::try_to_lock);
  }
  if (!lock) {
    throw Error(ErrorCode::cache_failed,
                "cannot use the database " + file.string() +
                    ": another thread was using it when this process was forked. Fork while it is "
                    "idle, or make a new Runtime in a process started with exec.");
  }
  return lock;
}

Store::Database::Session Store::Database::use(std::string_view attempt) {
  const bool inherited = belongs_to_parent();
  std::unique_lock<std::mutex> lock =
      inherited ? lock_after_fork() : std::unique_lock<std::mutex>(mutex);
  if (belongs_to_parent()) {
    abandon_connection();
    open();
  }
  connection->attempt(attempt);
  return {std::move(lock), *connection};
}

Store::Database::Session Store::Database::use_for_writing(std::string_view attempt) {
  Session session = use(attempt);
  if (session.connection.read_only()) {
    session.connection.fail(
        "it is open for reading only, because the file or its folder cannot be written",
        "Make both writable, or set CUDADENT_CACHE to a file elsewhere");
  }
  return session;
}

Store::Store(const std::filesystem::path& file, std::chrono::milliseconds busy_timeout)
    : database_(std::make_unique<Database>(file, busy_timeout)) {}

Store::~Store() = default;

const std::filesystem::path& Store::file() const noexcept { return database_->file; }

bool Store::read_only() const noexcept { return database_->read_only; }

// ------------------------------------------------------------------------------------- trials

namespace {

// The number of the problem's row, made or brought up to date.
std::int64_t problem_row(sqlite::Connection& connection, const ProblemRecord& problem) {
  connection
      .query(
          "INSERT INTO problems (op, problem_key, device_kind, tuning_key, description)"
          " VALUES (?, ?, ?, ?, ?) ON CONFLICT (op, problem_key, device_kind) DO UPDATE"
          " SET tuning_key = excluded.tuning_key, description = excluded.description"
          " WHERE tuning_key <> excluded.tuning_key OR description <> excluded.description")
      .bind(problem.op, problem.problem_key, problem.device_kind, problem.tuning_key,
            problem.description)
      .run();
  sqlite::Query query = connection.query(
      "SELECT id FROM problems WHERE op = ? AND problem_key = ? AND device_kind = ?");
  query.bind(problem.op, problem.problem_key, problem.device_kind);
  if (!query.step()) connection.fail("a row just written is gone", "Try again");
  return query.integer();
}

// Columns in the order of the query in Store::problems().
ProblemRecord read_problem(sqlite::Query& row) {
  return {.op = row.text(),
          .tuning_key = row.text(),
          .problem_key = row.text(),
          .description = row.text(),
          .device_kind = row.text()};
}

// Columns in the order of the query in Store::trials().
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

}  // namespace

void Store::put_trial(const TrialRecord& record) {
  const Trial& trial = record.trial;
  const std::string configuration = encode_configuration(trial.configuration);
  auto [lock, connection] = database_->use_for_writing("store a trial in");
  sqlite::Transaction transaction(connection);
  connection
      .query(
          "INSERT OR REPLACE INTO trials (problem, kernel_template, template_hash,"
          " configuration, compiler, measurement, specialization_hash, status, message,"
          " samples, median, spread, error, compile_seconds, resources, created)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(problem_row(connection, record.problem), trial.kernel_template, record.template_hash,
            configuration, record.compiler, record.measurement, record.specialization_hash,
            name_of(trial.status), trial.message, encode_samples(trial.samples), trial.median,
            trial.spread, trial.error, trial.compile_seconds, encode_resources(record.resources),
            created_or_now(record.created))
      .run();
  transaction.commit();
}

std::vector<TrialRecord> Store::trials(const std::string& op, const std::string& problem_key,
                                       const std::string& device_kind) {
  auto [lock, connection] = database_->use("read trials from");
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind, template_hash, compiler,"
      " measurement, specialization_hash, resources, created, kernel_template, configuration,"
      " status, message, samples, median, spread, error, compile_seconds"
      " FROM problems JOIN trials ON trials.problem = problems.id"
      " WHERE op = ? AND problem_key = ? AND device_kind = ? ORDER BY created, trials.id");
  rows.bind(op, problem_key, device_kind);
  std::vector<TrialRecord> records;
  while (rows.step()) {
    if (auto record = readable([&] { return read_trial(rows); })) {
      records.push_back(*std::move(record));
    }
  }
  return records;
}

std::vector<ProblemRecord> Store::problems(const std::string& op, const std::string& device_kind) {
  auto [lock, connection] = database_->use("read problems from");
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind FROM problems"
      " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
      " AND EXISTS (SELECT 1 FROM trials WHERE trials.problem = problems.id)"
      " ORDER BY op, device_kind, id");
  rows.bind(op, device_kind);
  std::vector<ProblemRecord> records;
  while (rows.step()) records.push_back(read_problem(rows));
  return records;
}

// ------------------------------------------------------------------------------------- winners

namespace {

// Columns in the order of the queries in Store::winner() and Store::winners().
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

}  // namespace

void Store::put_winner(const WinnerRecord& record) {
  const std::string configuration = encode_configuration(record.configuration);
  auto [lock, connection] = database_->use_for_writing("store a winner in");
  sqlite::Transaction transaction(connection);
  connection
      .query(
          "INSERT OR REPLACE INTO winners (op, device_kind, tuning_key, problem_key,"
          " description, kernel_template, template_hash, configuration, seconds,"
          " default_seconds, compiler, specialization_hash, device_name, driver, uuid, created)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(record.problem.op, record.problem.device_kind, record.problem.tuning_key,
            record.problem.problem_key, record.problem.description, record.kernel_template,
            record.template_hash, configuration, record.seconds, record.default_seconds,
            record.compiler, record.specialization_hash, record.device_name, record.driver,
            record.uuid, created_or_now(record.created))
      .run();
  transaction.commit();
}

std::optional<WinnerRecord> Store::winner(const std::string& op, const std::string& tuning_key,
                                          const std::string& device_kind) {
  auto [lock, connection] = database_->use("read a winner from");
  sqlite::Query row = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind, template_hash,"
      " kernel_template, configuration, seconds, default_seconds, compiler, specialization_hash,"
      " device_name, driver, uuid, created FROM winners"
      " WHERE op = ? AND device_kind = ? AND tuning_key = ?");
  row.bind(op, device_kind, tuning_key);
  if (!row.step()) return std::nullopt;
  return readable([&] { return read_winner(row); });
}

std::vector<WinnerRecord> Store::winners(const std::string& op, const std::string& device_kind) {
  auto [lock, connection] = database_->use("read winners from");
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind, template_hash,"
      " kernel_template, configuration, seconds, default_seconds, compiler, specialization_hash,"
      " device_name, driver, uuid, created FROM winners"
      " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR device_kind = ?2)"
      " ORDER BY op, device_kind, tuning_key");
  rows.bind(op, device_kind);
  std::vector<WinnerRecord> records;
  while (rows.step()) {
    if (auto record = readable([&] { return read_winner(rows); })) {
      records.push_back(*std::move(record));
    }
  }
  return records;
}

// ------------------------------------------------------------------------------------- runs

namespace {

// Columns in the order of the query in Store::runs().
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

}  // namespace

void Store::put_run(const RunRecord& record) {
  const std::string facts = encode_configuration(record.device_facts);
  auto [lock, connection] = database_->use_for_writing("store a tuning run in");
  sqlite::Transaction transaction(connection);
  connection
      .query(
          "INSERT OR REPLACE INTO runs (problem, started, machine, version, device_name, driver,"
          " uuid, device_facts, compiler, measurement, strategy, seed, stopped_by, candidates,"
          " measured, failed, recalled, isolated, worker_restarts, flops, bytes, elapsed,"
          " enumerate_seconds, compile_seconds, measure_seconds, verify_seconds, search_seconds,"
          " idle_seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
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
  transaction.commit();
}

std::vector<RunRecord> Store::runs(const std::string& op, const std::string& problem_key,
                                   const std::string& device_kind) {
  auto [lock, connection] = database_->use("read tuning runs from");
  sqlite::Query rows = connection.query(
      "SELECT op, tuning_key, problem_key, description, device_kind, started, machine, version,"
      " device_name, driver, uuid, device_facts, compiler, measurement, strategy, seed, stopped_by,"
      " candidates, measured, failed, recalled, isolated, worker_restarts, flops, bytes, elapsed,"
      " enumerate_seconds, compile_seconds, measure_seconds, verify_seconds, search_seconds,"
      " idle_seconds FROM problems JOIN runs ON runs.problem = problems.id"
      " WHERE (?1 = '' OR op = ?1) AND (?2 = '' OR problem_key = ?2)"
      " AND (?3 = '' OR device_kind = ?3) ORDER BY started, runs.id");
  rows.bind(op, problem_key, device_kind);
  std::vector<RunRecord> records;
  while (rows.step()) {
    if (auto record = readable([&] { return read_run(rows); })) {
      records.push_back(*std::move(record));
    }
  }
  return records;
}

// ------------------------------------------------------------------------------------- binaries

namespace {

// Columns in the order of the query in Store::find_binary(). Nothing when the image is not the one
// that was stored.
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
  sqlite::Query rows =
      connection.query("SELECT id, image_hash, image FROM binaries WHERE specialization_hash = ?");
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

std::optional<Binary> Store::find_binary(const std::string& specialization_hash) {
  auto [lock, connection] = database_->use("read a binary from");
  sqlite::Query rows = connection.query(
      "SELECT specialization_hash, compiler, architecture, resources, compile_seconds, log,"
      " image_hash, image FROM binaries WHERE specialization_hash = ? ORDER BY id DESC");
  rows.bind(specialization_hash);
  while (rows.step()) {
    auto binary = readable([&] { return read_binary(rows); });
    if (binary && *binary) return *std::move(binary);
  }
  return std::nullopt;
}

void Store::put_binary(const Binary& binary) {
  if (binary.image.empty()) {
    throw Error(ErrorCode::invalid_argument, "cannot store the binary of specialization " +
                                                 binary.specialization_hash +
                                                 ": its image is empty");
  }
  const std::span<const std::byte> image(binary.image);
  const std::string image_hash = content_hash(image);
  auto [lock, connection] = database_->use_for_writing("store a binary in");
  sqlite::Transaction transaction(connection);
  for (const std::int64_t id : damaged_binaries(connection, binary.specialization_hash)) {
    connection.query("DELETE FROM binaries WHERE id = ?").bind(id).run();
  }
  connection
      .query(
          "INSERT OR REPLACE INTO binaries (specialization_hash, compiler, architecture,"
          " resources, compile_seconds, log, created, image_hash, image)"
          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
      .bind(binary.specialization_hash, binary.compiler, binary.architecture,
            encode_resources(binary.resources), binary.compile_seconds, binary.log, utc_now(),
            image_hash, image)
      .run();
  transaction.commit();
}

// ------------------------------------------------------------------------------------- counts

Store::Counts Store::counts() {
  auto [lock, connection] = database_->use("count the rows of");
  sqlite::Query row = connection.query(
      "SELECT (SELECT count(*) FROM trials), (SELECT count(*) FROM winners),"
      " (SELECT count(*) FROM binaries), (SELECT ifnull(sum(length(image)), 0) FROM binaries)");
  row.step();
  return {.trials = row.integer(),
          .winners = row.integer(),
          .binaries = row.integer(),
          .binary_bytes = row.integer()};
}

}  // namespace cudadent
