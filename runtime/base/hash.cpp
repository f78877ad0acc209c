#include "runtime/base/hash.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <memory>

namespace cudadent {

namespace {

class Hasher {
 public:
  Hasher() { XXH3_128bits_reset(&state_); }
  void add(const void* data, std::size_t bytes) {
    const std::uint64_t length = bytes;
    XXH3_128bits_update(&state_, &length, sizeof length);
    XXH3_128bits_update(&state_, data, bytes);
  }
  [[nodiscard]] std::string digits() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(&state_);
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  XXH3_state_t state_;
};

}  // namespace

std::string content_hash(std::initializer_list<std::string_view> parts) {
  Hasher hasher;
  for (const auto part : parts) hasher.add(part.data(), part.size());
  return hasher.digits();
}

std::string content_hash(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.add(bytes.data(), bytes.size());
  return hasher.digits();
}

}  // namespace cudadent
