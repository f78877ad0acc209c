#include "cache/database_file.h"

#include <cudadent/cudadent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>

#include "cache/schema.h"

namespace cudadent {

namespace {

namespace fs = std::filesystem;
using Access = sqlite::Connection::Access;

[[noreturn]] void fail_to_make(const fs::path& path, std::string_view reason) {
  throw Error(ErrorCode::cache_failed,
              fmt::format("cannot make {} for the database: {}. Make its folder writable, or set "
                          "CUDADENT_CACHE to a file elsewhere.",
                          path.string(), reason));
}

[[noreturn]] void fail_to_make(const fs::path& path, int system_error) {
  fail_to_make(path, std::generic_category().message(system_error));
}

// With its parents; mode 0700 for those that were missing.
void make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0700) == 0) return;
  if (errno == ENOENT && folder.has_relative_path()) {
    make_folder(folder.parent_path());
    if (::mkdir(folder.c_str(), 0700) == 0) return;
  }
  if (errno == EEXIST) {
    if (fs::is_directory(folder)) return;
    fail_to_make(folder, "a file of that name is in the way");
  }
  // Some file systems say so (EROFS, EACCES) before they say that the folder exists.
  const int reason = errno;
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) fail_to_make(folder, reason);
}

// An empty file with mode 0600, which SQLite takes for an empty database. It gets its name only when
// it is closed: closing any descriptor of a database drops all locks this process has on it (POSIX
// advisory locks), and another thread may open the database as soon as it has a name.
void make_file(const fs::path& file) {
  std::string temporary = file.string() + ".XXXXXX";
  const int descriptor = ::mkstemp(temporary.data());  // mode 0600
  if (descriptor < 0) fail_to_make(file, errno);
  ::close(descriptor);
  const int code = ::link(temporary.c_str(), file.c_str());
  const int reason = errno;
  if (code == 0 || reason == EEXIST) {
    ::unlink(temporary.c_str());
  } else if (::rename(temporary.c_str(), file.c_str()) != 0) {
    // A file system without hard links gets a rename, which could only hide a database that came to
    // be in these few microseconds.
    ::unlink(temporary.c_str());
    fail_to_make(file, reason);
  }
}

bool writable(const fs::path& path) noexcept {
  return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
}

bool present(const fs::path& path) noexcept { return ::access(path.c_str(), F_OK) == 0; }

// A database in WAL mode wants side files even for reading, which cannot be made here, or would be
// left behind unwritable. Without a -wal file nobody has it open and all of it is in the one file,
// which can be read as it is.
sqlite::Connection open_for_reading(const fs::path& file, std::chrono::milliseconds busy_timeout) {
  if (!present(file.string() + "-wal") && !present(file.string() + "-journal")) {
    sqlite::Connection connection(file, Access::immutable, busy_timeout);
    if (connection.marked_as_wal()) return connection;
  }
  return {file, Access::read_only, busy_timeout};
}

sqlite::Connection readable_as_it_is(sqlite::Connection connection) {
  // Winners and binaries have been the same since the first version.
  bring_up_to_date(connection, database_migrations(), 1);
  return connection;
}

// WAL lets one process write while others read, and keeps fsync off the way of a commit. It shares
// memory between processes, so hosts must not share such a file: there it is DELETE, with the locks
// of the file system.
void choose_journal(sqlite::Connection& connection, const fs::path& folder) {
  const std::string mode =
      connection.try_journal_mode(on_network_file_system(folder) ? "DELETE" : "WAL");
  // In WAL mode NORMAL survives the death of any process, and a power failure costs at most the
  // last commits; with a rollback journal only FULL never harms the file.
  connection.execute(mode == "wal" ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL");
}

}  // namespace

bool on_network_file_system(const fs::path& folder) noexcept {
  struct statfs status {};
  if (::statfs(folder.c_str(), &status) != 0) return true;  // the careful answer
  // From statfs(2) and linux/magic.h; Lustre, GPFS and BeeGFS from their own sources.
  switch (static_cast<std::uint32_t>(status.f_type)) {
    case 0x00006969:  // NFS
    case 0x0000517B:  // SMB
    case 0xFF534D42:  // CIFS
    case 0xFE534D42:  // SMB2
    case 0x65735546:  // FUSE: sshfs and many others
    case 0x01021997:  // 9P
    case 0x00C36400:  // Ceph
    case 0x0BD00BD0:  // Lustre
    case 0x47504653:  // GPFS
    case 0x19830326:  // BeeGFS
    case 0x5346414F:  // AFS
    case 0x6B414653:  // AFS in the kernel
    case 0x01161970:  // GFS2
    case 0x7461636F:  // OCFS2
    case 0x73757245:  // Coda
    case 0x0000564C:  // NCP
    case 0x786F4256:  // a virtual machine's shared folder
      return true;
    default:
      return false;
  }
}

sqlite::Connection open_layer(const fs::path& file, std::chrono::milliseconds busy_timeout) {
  const auto refuse = [&](std::string_view reason, std::string_view advice) {
    throw Error(ErrorCode::cache_failed,
                fmt::format("cannot open the database {}: {}. {}.", file.string(), reason, advice));
  };
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored))
    refuse(present(file) ? "it is no file" : "there is no such file", "Name one that exists");
  const fs::path log = file.string() + "-wal";
  const bool has_index = present(file.string() + "-shm");
  if (present(log) && !has_index) {
    // SQLite would make the index of the log beside it.
    if (fs::file_size(log, ignored) > 0)
      refuse("a process that ended early left a log beside it",
             "Open it once where it can be written: cudadent-tune show --db FILE");
    return readable_as_it_is({file, Access::immutable, busy_timeout});
  }
  return readable_as_it_is(open_for_reading(file, busy_timeout));
}

sqlite::Connection open_database(const fs::path& file, std::chrono::milliseconds busy_timeout) {
  if (file == ":memory:") {
    sqlite::Connection connection(file, Access::read_write, busy_timeout);
    bring_up_to_date(connection);
    connection.execute("PRAGMA foreign_keys=ON");
    return connection;
  }
  const fs::path folder = file.parent_path();
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) {
    throw Error(ErrorCode::cache_failed,
                fmt::format("cannot open the database {0}: it is a folder. Name a file, such as "
                            "{0}/cudadent.db, or set CUDADENT_CACHE to one.",
                            file.string()));
  }
  if (!present(file)) {
    make_folder(folder);
    make_file(file);
  }
  const bool can_write = writable(file) && writable(folder);
  sqlite::Connection connection = can_write
                                      ? sqlite::Connection(file, Access::read_write, busy_timeout)
                                      : open_for_reading(file, busy_timeout);
  bring_up_to_date(connection);
  if (!connection.read_only()) choose_journal(connection, folder);
  connection.execute("PRAGMA foreign_keys=ON");  // last: a migration may have to do without
  return connection;
}

}  // namespace cudadent
