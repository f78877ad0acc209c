#include "cache/store_database.h"

#include <fmt/format.h>
#include <sys/stat.h>

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
    : file(place_of(place)), busy_timeout(timeout), role(what_for) {}

void Store::Database::open(Place& place) {
  // What lies beside the file belongs to another by now.
  if (place.connection && place.connection->has_moved()) place.connection->leave_log_alone();
  place.connection.reset();
  place.state_when_opened = state_of_file(file);
  place.connection = std::make_unique<sqlite::Connection>(
      role == Role::own ? open_database(file, busy_timeout) : open_layer(file, busy_timeout));
  place.forks = fork_count();
  read_only = place.connection->read_only();
}

// Also after a fork, which no connection survives, where somebody wrote to what is read without locks, and where the
// file has lost its name.
bool Store::Database::has_to_open(const Place& place) const {
  if (place.connection == nullptr) return true;
  if (file == ":memory:") return false;
  if (place.forks != fork_count()) return true;
  return place.connection->immutable() ? state_of_file(file) != place.state_when_opened
                                       : place.connection->has_moved();
}

Store::Database::Session Store::Database::session(Place& place,
                                                  std::unique_lock<ForkSafeMutex> lock,
                                                  std::string_view attempt) {
  if (has_to_open(place)) open(place);
  place.connection->attempt(attempt);
  return {std::move(lock), *place.connection};
}

Store::Database::Session Store::Database::use(std::string_view attempt) {
  std::unique_lock lock(main_.mutex, std::defer_lock);
  // There is but one of a database in memory.
  if (file == ":memory:") lock.lock();
  if (lock || lock.try_lock()) return session(main_, std::move(lock), attempt);
  return session(aside_, std::unique_lock(aside_.mutex), attempt);
}

Store::Database::Session Store::Database::use_for_writing(std::string_view attempt) {
  Session opened = session(main_, std::unique_lock(main_.mutex), attempt);
  if (opened.connection.read_only()) {
    opened.connection.fail(
        "it is open for reading only, because the file or its folder cannot be written",
        "Make both writable, or set CUDADENT_CACHE to a file elsewhere");
  }
  return opened;
}

}  // namespace cudadent
