#include <cudadent/cudadent.h>

#include <utility>

namespace cudadent {

Error::Error(ErrorCode code, const std::string& message, std::string detail)
    : std::runtime_error(message), code_(code), detail_(std::move(detail)) {}

std::string_view name_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::invalid_manifest:
      return "invalid_manifest";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::not_tuned:
      return "not_tuned";
    case ErrorCode::device_unavailable:
      return "device_unavailable";
    case ErrorCode::compiler_unavailable:
      return "compiler_unavailable";
    case ErrorCode::compile_failed:
      return "compile_failed";
    case ErrorCode::launch_failed:
      return "launch_failed";
    case ErrorCode::timed_out:
      return "timed_out";
    case ErrorCode::cache_failed:
      return "cache_failed";
    case ErrorCode::machine_failed:
      return "machine_failed";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::internal:
      return "internal";
  }
  return "unknown";
}

}  // namespace cudadent
