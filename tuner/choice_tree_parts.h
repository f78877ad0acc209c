// What trees of choices are built of: for choice_tree.cpp and choice_tree_builder.cpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

namespace cudadent::choices {

inline constexpr std::uint32_t last_node = 0;  // the node below the last choice
inline constexpr std::uint32_t nothing = 1;    // the node that holds no choice

inline std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<std::uint64_t>::max() : sum;
}

inline std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * 0x9e3779b97f4a7c15U;
  return hash ^ (hash >> 29);
}

inline constexpr std::uint32_t vacant = std::numeric_limits<std::uint32_t>::max();

// An open-addressing set of numbers that stand for things stored elsewhere.
class IndexSet {
 public:
  // The entry for which `same` holds, or the place for a new one.
  template <class Same>
  std::uint32_t* find(std::uint64_t hash, Same&& same) {
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].index != vacant) {
      if (slots_[at].tag == static_cast<std::uint32_t>(hash >> 32) && same(slots_[at].index)) {
        return &slots_[at].index;
      }
      at = (at + 1) & (slots_.size() - 1);
    }
    return nullptr;
  }

  void insert(std::uint64_t hash, std::uint32_t index) {
    if (++count_ * 2 > slots_.size()) grow();
    place({hash, static_cast<std::uint32_t>(hash >> 32), index});
  }

  void clear() {
    slots_ = std::vector<Slot>(64);
    count_ = 0;
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t tag = 0;
    std::uint32_t index = vacant;
  };

  void place(const Slot& slot) {
    std::size_t at = slot.hash & (slots_.size() - 1);
    while (slots_[at].index != vacant) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }

  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.index != vacant) place(slot);
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(64);
  std::size_t count_ = 0;
};

// Remembers the subtree for each state of what the rest of the walk depends on. Gives up where states
// hardly ever come again, so that spaces without structure cost no memory for nothing.
class Memory {
 public:
  explicit Memory(std::size_t words) : words_(words) {}

  [[nodiscard]] std::uint32_t* find(std::span<const std::uint64_t> key, std::uint64_t hash) {
    if (given_up_) return nullptr;
    std::uint32_t* found = index_.find(hash, [&](std::uint32_t entry) {
      return std::equal(key.begin(), key.end(), keys_.begin() + static_cast<long>(entry * words_));
    });
    ++asked_;
    if (found != nullptr) ++found_;
    if (asked_ % 65536 == 0 && found_ * 16 < asked_) give_up();
    return found == nullptr || given_up_ ? nullptr : &subtrees_[*found];
  }

  void insert(std::span<const std::uint64_t> key, std::uint64_t hash, std::uint32_t subtree) {
    if (given_up_ || subtrees_.size() * words_ > max_words) return;
    keys_.insert(keys_.end(), key.begin(), key.end());
    index_.insert(hash, static_cast<std::uint32_t>(subtrees_.size()));
    subtrees_.push_back(subtree);
  }

  [[nodiscard]] bool given_up() const noexcept { return given_up_; }

 private:
  static constexpr std::size_t max_words = 4'000'000;  // 32 MB a level

  void give_up() {
    given_up_ = true;
    index_.clear();
    keys_ = {};
    subtrees_ = {};
  }

  std::size_t words_;
  IndexSet index_;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint32_t> subtrees_;
  std::uint64_t asked_ = 0, found_ = 0;
  bool given_up_ = false;
};

}  // namespace cudadent::choices
