#include "runtime/backends/host/shared_object.h"

#include <cudadent/cudadent.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "runtime/base/fork.h"

namespace cudadent {

namespace {

[[noreturn]] void fail(const char* call, const char* why) {
  throw Error(ErrorCode::launch_failed,
              fmt::format("cannot load a compiled template: {}: {}", call, why));
}

bool write_all(int file, std::span<const std::byte> image) {
  while (!image.empty()) {
    const auto written = ::write(file, image.data(), image.size());
    if (written <= 0) return false;
    image = image.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

// The loader takes two objects of one name for the same, and the number of a file that was closed is given again.
// So each load spells the file in a way of its own: bit by bit of `number`, "/." or nothing after another slash.
std::string name_of_load(int file, std::uint64_t number) {
  std::string name = "/proc/self/fd";
  for (; number != 0; number >>= 1) name += (number & 1) != 0 ? "/." : "/";
  return name + fmt::format("/{}", file);
}

struct ClosedAtEnd {
  int number;
  ~ClosedAtEnd() { ::close(number); }
};

}  // namespace

SharedObject::SharedObject(std::span<const std::byte> image) {
  static std::atomic<std::uint64_t> loads =
      0;  // the loader, whose names these are, is the process's
  const int file = ::memfd_create("cudadent", MFD_CLOEXEC);
  if (file < 0) fail("memfd_create", std::strerror(errno));
  const ClosedAtEnd closed_at_end{file};
  if (!write_all(file, image)) fail("write", std::strerror(errno));
  const NoFork no_fork;  // the loader's lock would stay locked in the child
  handle_ = ::dlopen(name_of_load(file, ++loads).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* why = ::dlerror();
    fail("dlopen", why == nullptr ? "unknown" : why);
  }
}

SharedObject::~SharedObject() {
  try {
    const NoFork no_fork;
    ::dlclose(handle_);
  } catch (const Error&) {
    // A child in which the loader's lock may be locked for good: then it stays loaded.
  }
}

void* SharedObject::symbol(const std::string& name) const { return ::dlsym(handle_, name.c_str()); }

}  // namespace cudadent
