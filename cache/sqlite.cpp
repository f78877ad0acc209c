#include "cache/sqlite.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace cudadent::sqlite {

namespace {

// The connections that this process has, to files. Of the process, as SQLite's own book of them is.
struct OpenConnections {
  ForkSafeMutex mutex;
  std::set<sqlite3*> all;
  std::uint64_t forks = fork_count();
};

OpenConnections& open_connections() {
  static auto* connections = new OpenConnections;  // outlives every static Store
  return *connections;
}

// Those of a parent: without moving the log into the database, which the parent goes on to use.
void close_inherited() {
  auto& connections = open_connections();
  const std::lock_guard lock(connections.mutex);
  if (connections.forks == fork_count()) return;
  for (sqlite3* database : connections.all) {
    // (Of a thread that does not keep to a ForkSafeMutex. To roll it back would be done to the parent's.)
    if (sqlite3_get_autocommit(database) == 0) continue;
    sqlite3_db_config(database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    while (sqlite3_stmt* statement = sqlite3_next_stmt(database, nullptr))
      sqlite3_finalize(statement);
    sqlite3_close(database);
  }
  connections.all.clear();
  connections.forks = fork_count();
}

// "file:/a%20b?immutable=1": the form in which SQLite takes options with a name.
std::string immutable_uri(const std::string& file) {
  std::string uri = "file:";
  for (const char character : file) {
    const bool plain = (character >= 'a' && character <= 'z') ||
                       (character >= 'A' && character <= 'Z') ||
                       (character >= '0' && character <= '9') ||
                       std::string_view("/-._~").find(character) != std::string_view::npos;
    if (plain) {
      uri += character;
    } else {
      uri += fmt::format("%{:02X}", static_cast<unsigned char>(character));
    }
  }
  return uri + "?immutable=1";
}

std::string_view advice_for(int code) {
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "Try again when the process that holds it is done, or set CUDADENT_CACHE to give this "
             "one a file of its own";
    case SQLITE_FULL:
      return "Free some space, or set CUDADENT_CACHE to a file on another disk";
    case SQLITE_NOTADB:
      return "Move the file away, or set CUDADENT_CACHE to another one";
    case SQLITE_CORRUPT:
      return "Move the file and its -wal and -shm companions away, and it will be made anew; or "
             "set "
             "CUDADENT_CACHE to another one";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
      return "Make the file and its folder readable and writable, or set CUDADENT_CACHE to a file "
             "elsewhere";
    case SQLITE_IOERR:
      return "Check the disk and its quota, or set CUDADENT_CACHE to a file elsewhere";
    default:
      return "Set CUDADENT_CACHE to another file if this persists";
  }
}

}  // namespace

// ------------------------------------------------------------------------------------- Query

Query::Query(Connection& connection, sqlite3_stmt* statement) noexcept
    : connection_(connection), statement_(statement) {}

Query::~Query() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Query::check(int code) {
  if (code != SQLITE_OK) connection_.fail(code);
}

void Query::bind_next(std::string_view text) {
  // A null pointer would bind NULL.
  const char* data = text.data() != nullptr ? text.data() : "";
  check(sqlite3_bind_text64(statement_, ++parameter_, data, text.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8));
}

void Query::bind_next(std::int64_t integer) {
  check(sqlite3_bind_int64(statement_, ++parameter_, integer));
}

void Query::bind_next(double real) { check(sqlite3_bind_double(statement_, ++parameter_, real)); }

void Query::bind_next(std::span<const std::byte> bytes) {
  check(sqlite3_bind_blob64(statement_, ++parameter_, bytes.data(), bytes.size(), SQLITE_STATIC));
}

bool Query::step() {
  column_ = 0;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) connection_.fail(code);
  return false;
}

void Query::run() {
  while (step()) {
  }
}

std::string Query::text() {
  const int column = column_++;
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (data == nullptr) return {};
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

std::int64_t Query::integer() { return sqlite3_column_int64(statement_, column_++); }

double Query::real() {
  const int column = column_++;
  if (sqlite3_column_type(statement_, column) == SQLITE_NULL) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return sqlite3_column_double(statement_, column);
}

std::span<const std::byte> Query::bytes() {
  const int column = column_++;
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

// ------------------------------------------------------------------------------------- Connection

Connection::Connection(std::filesystem::path file, Access access,
                       std::chrono::milliseconds busy_timeout)
    : file_(std::move(file)),
      busy_timeout_(busy_timeout),
      read_only_(access != Access::read_write),
      immutable_(access == Access::immutable) {
  const NoFork no_fork;
  close_inherited();
  // The owner's mutex does what SQLite's would.
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
  flags |= read_only_ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (immutable_) flags |= SQLITE_OPEN_URI;
  const std::string name = immutable_ ? immutable_uri(file_.string()) : file_.string();

  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(name.c_str(), &database, flags, nullptr);
  database_.reset(database);  // SQLite hands out a connection even when it fails
  if (code != SQLITE_OK) fail(code);
  if (file_ != ":memory:") {
    const std::lock_guard lock(open_connections().mutex);
    open_connections().all.insert(database);
  }
  sqlite3_extended_result_codes(database, 1);
  sqlite3_busy_timeout(database, static_cast<int>(busy_timeout.count()));
  // SQLite quietly opens for reading what it cannot open for writing.
  if (sqlite3_db_readonly(database, "main") == 1) read_only_ = true;
}

void CloseConnection::operator()(sqlite3* database) const noexcept {
  if (forks != fork_count()) return;
  const std::lock_guard lock(open_connections().mutex);
  open_connections().all.erase(database);
  sqlite3_close_v2(database);
}

void Connection::begin_writing() {
  const auto deadline = std::chrono::steady_clock::now() + busy_timeout_;
  auto pause = std::chrono::milliseconds(1);
  const auto begin = [&] {
    return sqlite3_exec(database_.get(), "BEGIN IMMEDIATE", nullptr, nullptr, nullptr);
  };
  sqlite3_busy_timeout(database_.get(), 0);
  int code = begin();
  while ((code & 0xff) == SQLITE_BUSY && std::chrono::steady_clock::now() < deadline) {
    {
      const ForkAllowed allowed;
      std::this_thread::sleep_for(pause);
    }
    pause = std::min(2 * pause, std::chrono::milliseconds(20));
    code = begin();
  }
  sqlite3_busy_timeout(database_.get(), static_cast<int>(busy_timeout_.count()));
  if (code != SQLITE_OK) fail(code);
}

Connection::Statement Connection::prepare(std::string_view sql, unsigned flags) const {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                      flags, &statement, nullptr);
  if (code != SQLITE_OK) fail(code);
  return Statement(statement);
}

void Connection::execute(const char* sql) {
  const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

std::int64_t Connection::query_integer(const char* sql) {
  const Statement statement = prepare(sql, 0);
  Query query(*this, statement.get());
  return query.step() ? query.integer() : 0;
}

std::string Connection::query_text(const char* sql) {
  const Statement statement = prepare(sql, 0);
  Query query(*this, statement.get());
  return query.step() ? query.text() : std::string();
}

Query Connection::query(std::string_view sql) {
  auto found = statements_.find(sql);
  if (found == statements_.end()) {
    found = statements_.emplace(sql, prepare(sql, SQLITE_PREPARE_PERSISTENT)).first;
  }
  return {*this, found->second.get()};
}

std::string Connection::try_journal_mode(std::string_view mode) noexcept {
  sqlite3_busy_timeout(database_.get(), 0);
  std::string answer;
  try {
    answer = query_text(fmt::format("PRAGMA journal_mode={}", mode).c_str());
  } catch (const std::exception&) {
    // Another process is busy with the file, or the file system cannot do it.
  }
  sqlite3_busy_timeout(database_.get(), static_cast<int>(busy_timeout_.count()));
  return answer;
}

bool Connection::marked_as_wal() const noexcept {
  // Read through SQLite's own descriptor: to close one of ours would drop this process's locks.
  sqlite3_file* handle = nullptr;
  sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_FILE_POINTER, &handle);
  if (handle == nullptr || handle->pMethods == nullptr) return false;
  // "File format write version", https://www.sqlite.org/fileformat2.html#the_database_header
  constexpr sqlite3_int64 offset = 18;
  constexpr unsigned char wal = 2;
  unsigned char version = 0;
  return handle->pMethods->xRead(handle, &version, 1, offset) == SQLITE_OK && version == wal;
}

bool Connection::has_moved() const noexcept {
  int moved = 0;
  // Fails for a database in memory, which cannot be.
  return sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved) ==
             SQLITE_OK &&
         moved != 0;
}

void Connection::leave_log_alone() noexcept {
  sqlite3_db_config(database_.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
}

bool Connection::in_transaction() const noexcept {
  return sqlite3_get_autocommit(database_.get()) == 0;
}

std::string Connection::reason_for(int code) const {
  if ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED) {
    return fmt::format("it stayed locked by another process for {} ms", busy_timeout_.count());
  }
  if ((code & 0xff) == SQLITE_NOTADB) return "it is not an SQLite database";
  std::string reason = sqlite3_errmsg(database_.get());
  const bool from_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
  const int system_error = sqlite3_system_errno(database_.get());
  if (from_system && system_error != 0) {
    reason += fmt::format(" ({})", std::generic_category().message(system_error));
  }
  return reason;
}

void Connection::fail(int code) const { fail(reason_for(code), advice_for(code)); }

void Connection::fail(std::string_view reason, std::string_view advice) const {
  throw Error(ErrorCode::cache_failed, fmt::format("cannot {} the database {}: {}. {}.", attempt_,
                                                   file_.string(), reason, advice));
}

// ------------------------------------------------------------------------------------- Transaction

Transaction::~Transaction() {
  // SQLite rolls back by itself after some errors (a full disk, for one).
  if (!connection_.in_transaction()) return;
  try {
    connection_.execute("ROLLBACK");
  } catch (const std::exception&) {
    // Nothing of the transaction reaches the file without a commit.
  }
}

}  // namespace cudadent::sqlite
