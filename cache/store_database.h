// The connections of a Store, their locks, and the process they belong to: for the sources of cache/ alone.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "cache/sqlite.h"
#include "cache/store.h"
#include "runtime/base/fork.h"

namespace cudadent {

struct Store::Database {
  enum class Role : std::uint8_t {
    own,    // made, migrated and written
    layer,  // only read, and left as it is
  };
  const std::filesystem::path file;
  const std::chrono::milliseconds busy_timeout;
  const Role role;
  std::atomic<bool> read_only = false;

  // Does not open it.
  Database(const std::filesystem::path& place, std::chrono::milliseconds timeout,
           Role what_for = Role::own);

  // A connection, to this thread alone.
  struct Session {
    std::unique_lock<ForkSafeMutex> lock;
    sqlite::Connection& connection;
  };
  // `attempt` is what the caller is about to do, for messages. Waits for no writer of this process: one that waits
  // for another process holds up nobody but who wants to write. Opens the file where that has not succeeded yet, and
  // anew where another has taken its place, or none.
  Session use(std::string_view attempt);
  // The same for writing: refuses at once when the file is read-only.
  Session use_for_writing(std::string_view attempt);

 private:
  struct Place {
    ForkSafeMutex mutex;
    std::unique_ptr<sqlite::Connection> connection;  // null before it is first used
    std::uint64_t forks = 0;                         // fork_count() of the process that opened it
    std::string state_when_opened;                   // of a file that is read without locks
  };
  Session session(Place& place, std::unique_lock<ForkSafeMutex> lock, std::string_view attempt);
  void open(Place& place);
  [[nodiscard]] bool has_to_open(const Place& place) const;

  Place main_;
  Place aside_;  // for readers that would wait for main_
};

}  // namespace cudadent
