// SQLite in C++: a connection, a prepared statement in use, a transaction. Every failure is an
// Error(cache_failed) that names the file, what was attempted and what to do about it.
#pragma once

#include <sqlite3.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "runtime/base/fork.h"

namespace cudadent::sqlite {

class Connection;

// A prepared statement while it is used: bind, step, read the columns from left to right. Resets
// the statement when it goes, so that no lock on the file outlives it.
class Query {
 public:
  Query(Connection& connection, sqlite3_stmt* statement) noexcept;
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // The parameters in order. Bytes must outlive the query; text is copied.
  template <class... Arguments>
  Query& bind(const Arguments&... arguments) {
    (bind_next(arguments), ...);
    return *this;
  }
  // True when there is a row to read.
  bool step();
  // For a statement without rows.
  void run();

  // The next column of the row.
  std::string text();
  std::int64_t integer();
  double real();                       // NaN for NULL, which is how SQLite keeps a NaN
  std::span<const std::byte> bytes();  // valid until the next step

 private:
  void bind_next(std::string_view text);
  void bind_next(std::int64_t integer);
  void bind_next(double real);
  void bind_next(std::span<const std::byte> bytes);
  void check(int code);

  Connection& connection_;
  sqlite3_stmt* statement_;
  int parameter_ = 0;  // bound so far
  int column_ = 0;     // read so far
};

// Both do nothing in a process other than the one that made what they end.
struct CloseConnection {
  std::uint64_t forks = fork_count();
  void operator()(sqlite3* database) const noexcept;
};
struct FinalizeStatement {
  std::uint64_t forks = fork_count();
  void operator()(sqlite3_stmt* statement) const noexcept {
    if (forks == fork_count()) sqlite3_finalize(statement);
  }
};

// One connection to one file. Not safe from several threads: the owner takes care of that, with a ForkSafeMutex,
// since SQLite has locks of its own. In the child of a fork a connection may only be destroyed; to make one there
// closes all that the child has inherited (but of ":memory:", which go on), because SQLite keeps book of a file's
// locks for the whole process, and those of the parent do not hold in the child.
class Connection {
 public:
  enum class Access : std::uint8_t {
    read_write,
    read_only,
    immutable,  // reads without locks or side files: only for a file that nobody writes meanwhile
  };
  // `file` must exist and be an absolute path, or be ":memory:".
  Connection(std::filesystem::path file, Access access, std::chrono::milliseconds busy_timeout);

  // Runs one or more statements that return no rows.
  void execute(const char* sql);
  // Runs one statement once; the answer's only column.
  std::int64_t query_integer(const char* sql);
  std::string query_text(const char* sql);
  // Prepared once a connection. One query of the same text at a time.
  Query query(std::string_view sql);

  // BEGIN IMMEDIATE. While it waits for other processes, this one may fork.
  void begin_writing();

  // Asks for a journal mode without waiting for other processes; returns the mode now in force, or
  // nothing when it cannot be told. A file system that cannot do it is no failure.
  std::string try_journal_mode(std::string_view mode) noexcept;
  // Whether the file says it is in WAL mode; an immutable connection takes no notice of that.
  [[nodiscard]] bool marked_as_wal() const noexcept;
  // Whether the file has lost its name: it was removed, renamed or replaced. What is written then is lost.
  [[nodiscard]] bool has_moved() const noexcept;
  // The next close leaves the -wal file as it is, instead of moving it into the database.
  void leave_log_alone() noexcept;

  [[nodiscard]] const std::filesystem::path& file() const noexcept { return file_; }
  [[nodiscard]] bool read_only() const noexcept { return read_only_; }
  [[nodiscard]] bool immutable() const noexcept { return immutable_; }
  [[nodiscard]] bool in_transaction() const noexcept;

  // What is being done, for messages: "store a trial in", "open".
  void attempt(std::string_view attempt) { attempt_ = attempt; }
  // Throws Error(cache_failed) for an SQLite result code, or with a reason and advice in words.
  [[noreturn]] void fail(int code) const;
  [[noreturn]] void fail(std::string_view reason, std::string_view advice) const;

 private:
  using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;
  // Lets a statement be looked up without a copy of its text.
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>()(text);
    }
  };
  Statement prepare(std::string_view sql, unsigned flags) const;
  [[nodiscard]] std::string reason_for(int code) const;

  std::filesystem::path file_;
  std::chrono::milliseconds busy_timeout_;
  bool read_only_;
  bool immutable_;
  std::string attempt_ = "open";
  std::unique_ptr<sqlite3, CloseConnection> database_;
  // By their text; die before the connection.
  std::unordered_map<std::string, Statement, TextHash, std::equal_to<>> statements_;
};

// A transaction, rolled back unless committed. A writing one takes the write lock at once, because a
// lock that is upgraded later can fail without waiting.
class Transaction {
 public:
  enum class Kind : std::uint8_t { read, write };
  // A reading one sees the database as it was at its first query, whatever others commit.
  explicit Transaction(Connection& connection, Kind kind = Kind::write) : connection_(connection) {
    if (kind == Kind::write)
      connection_.begin_writing();
    else
      connection_.execute("BEGIN");
  }
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit() { connection_.execute("COMMIT"); }

 private:
  Connection& connection_;
};

}  // namespace cudadent::sqlite
