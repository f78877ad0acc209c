// The connection of a Store, its lock, and the process they belong to: for the sources of cache/ alone.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string_view>

#include "cache/sqlite.h"
#include "cache/store.h"

namespace cudadent {

struct Store::Database {
  enum class Role : std::uint8_t {
    own,    // made, migrated and written
    layer,  // only read, and left as it is
  };
  const std::filesystem::path file;
  const std::chrono::milliseconds busy_timeout;
  const Role role;
  std::mutex mutex;
  std::unique_ptr<sqlite::Connection> connection;
  std::atomic<pid_t> owner = 0;  // the process that opened the connection
  std::atomic<bool> read_only = false;

  Database(const std::filesystem::path& place, std::chrono::milliseconds timeout,
           Role what_for = Role::own);
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
  [[nodiscard]] bool changed_since_opened() const;
  [[nodiscard]] bool belongs_to_parent() const noexcept {
    return file != ":memory:" && owner.load() != ::getpid();
  }
  std::unique_lock<std::mutex> lock_after_fork();
  void abandon_connection() noexcept;

  std::string state_when_opened_;  // of a file that is read without locks
};

}  // namespace cudadent
