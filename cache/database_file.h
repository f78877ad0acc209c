// The database as a file: making it, telling what its file system can do, opening it.
#pragma once

#include <chrono>
#include <filesystem>

#include "cache/sqlite.h"

namespace cudadent {

// Opens a current database: makes the missing folder (0700) and file (0600), migrates an older
// schema, and for ":memory:" starts an empty one. Opens for reading only when the file or its folder
// cannot be written. `file` is absolute or ":memory:". Throws Error(cache_failed).
sqlite::Connection open_database(const std::filesystem::path& file,
                                 std::chrono::milliseconds busy_timeout);

// Opens a database that is only read, of any schema that can be: without making it, migrating it, or
// leaving a file beside it, so that it may lie on a medium that cannot be written. Throws
// Error(cache_failed).
sqlite::Connection open_layer(const std::filesystem::path& file,
                              std::chrono::milliseconds busy_timeout);

// Whether the folder lies on a file system shared between hosts (or one that may be).
bool on_network_file_system(const std::filesystem::path& folder) noexcept;

}  // namespace cudadent
