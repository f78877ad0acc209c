#include "cache/store_database.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <thread>
#include <utility>

#include "cache/database_file.h"

namespace cudadent {

namespace {

std::filesystem::path place_of(const std::filesystem::path& file) {
  if (file.empty()) {
    throw Error(ErrorCode::cache_failed,
                "cannot open the database: its file name is empty. Name a file, or \":memory:\".");
  }
  return file == ":memory:" ? file : std::filesystem::absolute(file).lexically_normal();
}

// Another answer after the file was written, or replaced, or opened by somebody who may write it.
std::string state_of_file(const std::filesystem::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return {};
  struct stat log {};
  const bool has_log = ::stat((file.string() + "-wal").c_str(), &log) == 0;
  return fmt::format("{} {} {} {}.{} {}", status.st_dev, status.st_ino, status.st_size,
                     status.st_mtim.tv_sec, status.st_mtim.tv_nsec, has_log);
}

}  // namespace

Store::Database::Database(const std::filesystem::path& place, std::chrono::milliseconds timeout,
                          Role what_for)
    : file(place_of(place)), busy_timeout(timeout), role(what_for) {
  open();
}

void Store::Database::open() {
  state_when_opened_ = state_of_file(file);
  connection = std::make_unique<sqlite::Connection>(
      role == Role::own ? open_database(file, busy_timeout) : open_layer(file, busy_timeout));
  read_only = connection->read_only();
  owner = ::getpid();
}

bool Store::Database::changed_since_opened() const {
  return connection->immutable() && state_of_file(file) != state_when_opened_;
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
  } else if (changed_since_opened()) {
    connection.reset();
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

}  // namespace cudadent
