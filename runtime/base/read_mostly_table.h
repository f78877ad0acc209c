// A hash table whose readers take no lock: slots are atomic pointers to immutable entries, and growing publishes a
// new array of slots. Writers take turns. What was in it lives as long as it does, so that a reader never holds a
// dangling pointer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/base/fork.h"

namespace cudadent {

// A step of hashing a key's words one after another; begin with anything.
constexpr std::uint64_t hash_word(std::uint64_t hash, std::int64_t word) noexcept {
  hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x9E3779B97F4A7C15ULL;  // 2^64 / golden ratio
  return hash ^ (hash >> 32);
}

// Entries have a member `hash`.
template <class Entry>
class ReadMostlyTable {
 public:
  ReadMostlyTable() { publish(first_slot_count); }

  // The first entry of this hash, in the order of insertion, that `is_it` is true of; null when there is none.
  template <class IsIt>
  [[nodiscard]] const Entry* find(std::uint64_t hash, IsIt is_it) const {
    const Slots& slots = *current_.load(std::memory_order_acquire);
    const std::size_t mask = slots.size() - 1;
    for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
      const Entry* entry = slots[i].load(std::memory_order_acquire);
      if (entry == nullptr) return nullptr;
      if (entry->hash == hash && is_it(*entry)) return entry;
    }
  }

  // How often the table was cleared.
  [[nodiscard]] std::uint64_t age() const noexcept { return age_.load(std::memory_order_acquire); }

  // Of what was begun at the given age. Where the table was cleared since, the entry is kept and not found.
  const Entry* insert(std::unique_ptr<const Entry> entry, std::uint64_t begun) {
    const std::lock_guard lock(mutex_);
    const Entry* inserted = entry.get();
    entries_.push_back(std::move(entry));
    if (begun != age_.load(std::memory_order_relaxed)) return inserted;
    visible_.push_back(inserted);
    Slots& slots = *slots_.back();
    // At most half full, so that a search for an absent key ends soon.
    if (visible_.size() * 2 > slots.size())
      publish(slots.size() * 2);
    else
      place(slots, inserted);
    return inserted;
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    age_.fetch_add(1, std::memory_order_release);
    visible_.clear();
    publish(first_slot_count);
  }

 private:
  static constexpr std::size_t first_slot_count = 64;
  using Slots = std::vector<std::atomic<const Entry*>>;  // a power of two of them

  void publish(std::size_t slot_count) {
    auto slots = std::make_unique<Slots>(slot_count);
    for (const Entry* entry : visible_) place(*slots, entry);
    current_.store(slots.get(), std::memory_order_release);
    slots_.push_back(std::move(slots));
  }

  static void place(Slots& slots, const Entry* entry) {
    const std::size_t mask = slots.size() - 1;
    std::size_t i = entry->hash & mask;
    while (slots[i].load(std::memory_order_relaxed) != nullptr) i = (i + 1) & mask;
    slots[i].store(entry, std::memory_order_release);
  }

  std::atomic<const Slots*> current_;
  std::atomic<std::uint64_t> age_{0};
  ForkSafeMutex mutex_;
  std::vector<const Entry*> visible_;
  std::vector<std::unique_ptr<const Entry>> entries_;  // all ever inserted
  std::vector<std::unique_ptr<Slots>> slots_;          // all ever published
};

}  // namespace cudadent
