#include "runtime/host/shared_object.h"

#include <cudadent/cudadent.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

}  // namespace

SharedObject::SharedObject(std::span<const std::byte> image) {
  file_ = ::memfd_create("cudadent", MFD_CLOEXEC);
  if (file_ < 0) fail("memfd_create", std::strerror(errno));
  if (!write_all(file_, image)) {
    const int error = errno;
    ::close(file_);
    fail("write", std::strerror(error));
  }
  handle_ = ::dlopen(fmt::format("/proc/self/fd/{}", file_).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* why = ::dlerror();
    ::close(file_);
    fail("dlopen", why == nullptr ? "unknown" : why);
  }
}

SharedObject::~SharedObject() {
  ::dlclose(handle_);
  ::close(file_);
}

void* SharedObject::symbol(const std::string& name) const { return ::dlsym(handle_, name.c_str()); }

}  // namespace cudadent
