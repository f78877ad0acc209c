// What makes an SQLite file a cudadent database, and how an older one becomes a current one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "cache/sqlite.h"

namespace cudadent {

// SQLite's application_id, at byte 68 of the file: "cuda" read as a big-endian integer.
inline constexpr std::int64_t database_application_id = 0x63756461;

// The statements that bring a database from the version of their index to the next, 0 being an
// empty file. A released entry never changes: a new version is a new entry.
std::span<const std::string_view> database_migrations() noexcept;

// Makes an empty database or one of an older version current, in one transaction. Does nothing but
// look when it is current, or cannot be written and is not older than `oldest_readable`, if given. Throws
// Error(cache_failed), having written nothing, for the database of another program, for a newer version,
// and for a version it would have to write but cannot.
void bring_up_to_date(sqlite::Connection& connection,
                      std::span<const std::string_view> migrations = database_migrations(),
                      std::optional<std::int64_t> oldest_readable = std::nullopt);

}  // namespace cudadent
