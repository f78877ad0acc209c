// Which keys are met again and again.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cudadent {

// Says when a key is worth an entry of its own in a table that never shrinks. The first few are as soon as they are
// met twice. Later ones must be met often: a model that decodes meets each length of its cache once for each of its
// layers, and never again. Safe from many threads, which may lose a count.
class Sightings {
 public:
  static constexpr std::size_t soon = 64, most = 1024;  // entries
  static constexpr std::uint64_t times_soon = 2, times_later = 200;

  // Counts one of the key.
  [[nodiscard]] bool enough(std::uint64_t hash) noexcept {
    std::atomic<std::uint64_t>& slot = slots_[hash >> 56];
    const std::uint64_t tag = hash << 8, seen = slot.load(std::memory_order_relaxed);
    std::uint64_t count = (seen & ~std::uint64_t{0xFF}) == tag ? seen & 0xFF : 0;
    if (count < 0xFF) ++count;
    slot.store(tag | count, std::memory_order_relaxed);
    const std::size_t given = given_.load(std::memory_order_relaxed);
    return given < most && count >= (given < soon ? times_soon : times_later);
  }
  // To be called for each key that got its entry.
  void give() noexcept { given_.fetch_add(1, std::memory_order_relaxed); }
  void clear() noexcept {
    given_.store(0, std::memory_order_relaxed);
    for (auto& slot : slots_) slot.store(0, std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, 256> slots_{};
  std::atomic<std::size_t> given_{0};
};

}  // namespace cudadent
