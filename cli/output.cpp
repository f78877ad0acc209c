#include "cli/output.h"

#include <cudadent/cudadent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <system_error>
#include <utility>

namespace cudadent::cli {

namespace {

namespace fs = std::filesystem;

std::string reason_of(int system_error) { return std::generic_category().message(system_error); }

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int number() const noexcept { return number_; }
  // Some file systems tell only now that the disk is full.
  [[nodiscard]] bool close() noexcept { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

// 0, or the system's error.
int write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

int write_through(const fs::path& file, std::string_view bytes, bool is_regular) {
  const int flags = is_regular ? O_CREAT | O_TRUNC : 0;
  Descriptor descriptor(::open(file.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
  if (descriptor.number() < 0) return errno;
  if (const int error = write_all(descriptor.number(), bytes); error != 0) return error;
  if (is_regular && ::fsync(descriptor.number()) != 0) return errno;
  return descriptor.close() ? 0 : errno;
}

}  // namespace

void write_file(const fs::path& file, std::string_view bytes) {
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("cannot write {}: {}. Name a file in a folder that exists and can be "
                            "written",
                            file.string(), why));
  };
  const auto fail = [&](int error) {
    throw OutputError(fmt::format("cannot write {}: {}", file.string(), reason_of(error)));
  };
  std::error_code ignored;
  if (file.empty()) refuse("its name is empty");
  if (fs::is_directory(file, ignored)) refuse("it is a folder");
  if (fs::exists(file, ignored) && !fs::is_regular_file(file, ignored)) {
    if (const int error = write_through(file, bytes, false); error != 0) fail(error);
    return;
  }
  // A link stays one: what it leads to is replaced.
  const fs::path place = fs::is_symlink(file, ignored) ? fs::weakly_canonical(file) : file;
  fs::path draft = place;
  draft += fmt::format(".{}.part", ::getpid());
  int error = write_through(draft, bytes, true);
  if (error == 0) {
    // Who replaces a file keeps who may read it.
    if (struct stat before{}; ::stat(place.c_str(), &before) == 0)
      ::chmod(draft.c_str(), before.st_mode & 07777);
    if (::rename(draft.c_str(), place.c_str()) == 0) return;
    error = errno;
  }
  ::unlink(draft.c_str());
  if (error == ENOENT || error == ENOTDIR || error == EACCES || error == EROFS ||
      error == ENAMETOOLONG)
    refuse(reason_of(error));
  fail(error);
}

void finish_output() {
  // Help is written through the one, tables through the other; both end up in the same buffer.
  errno = 0;
  std::cout.flush();
  const bool flushed = std::fflush(stdout) == 0;
  const int error = errno;
  if (flushed && std::ferror(stdout) == 0 && std::cout.good()) return;
  throw OutputError(fmt::format("cannot write to standard output: {}",
                                error == 0 ? "part of it was not taken" : reason_of(error)));
}

}  // namespace cudadent::cli
