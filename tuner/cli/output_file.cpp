#include "tuner/cli/output_file.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <system_error>

namespace cudadent::cli {

namespace {

[[noreturn]] void fail(const std::filesystem::path& file, int reason) {
  throw Error(ErrorCode::invalid_argument, fmt::format("cannot write {}: {}", file.string(),
                                                       std::generic_category().message(reason)));
}

}  // namespace

void write_file(const std::filesystem::path& file, std::string_view text) {
  std::string temporary = file.string() + ".XXXXXX";
  const int descriptor = ::mkstemp(temporary.data());
  if (descriptor < 0) fail(file, errno);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(::fdopen(descriptor, "wb"),
                                                               std::fclose);
  const bool written = std::fwrite(text.data(), 1, text.size(), stream.get()) == text.size() &&
                       std::fflush(stream.get()) == 0 && ::fsync(descriptor) == 0 &&
                       ::fchmod(descriptor, 0644) == 0 &&
                       ::rename(temporary.c_str(), file.c_str()) == 0;
  const int reason = errno;
  if (written) return;
  ::unlink(temporary.c_str());
  fail(file, reason);
}

}  // namespace cudadent::cli
