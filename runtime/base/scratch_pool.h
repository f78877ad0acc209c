// Memory that a launch works in, kept from one launch to the next: a thread takes a piece that no other uses.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace cudadent {

template <class T>
class ScratchPool {
  struct alignas(64) Slot {  // a cache line each
    std::atomic_flag busy;
    std::unique_ptr<T> value;
  };

 public:
  // A piece until it is destroyed.
  class Lease {
   public:
    explicit Lease(Slot& slot) noexcept : slot_(&slot) {}
    explicit Lease(std::unique_ptr<T> own) noexcept : own_(std::move(own)) {}
    ~Lease() {
      if (slot_ != nullptr) slot_->busy.clear(std::memory_order_release);
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] T& operator*() const noexcept { return own_ ? *own_ : *slot_->value; }
    [[nodiscard]] T* operator->() const noexcept { return &**this; }

   private:
    Slot* slot_ = nullptr;
    std::unique_ptr<T> own_;
  };

  // `make` gives a new piece, as a unique_ptr: the first time, and where more threads than there are pieces
  // want one at once.
  template <class Make>
  [[nodiscard]] Lease lease(Make make) const {
    for (Slot& slot : slots_) {
      if (slot.busy.test_and_set(std::memory_order_acquire)) continue;
      if (slot.value != nullptr) return Lease(slot);
      try {
        slot.value = make();
      } catch (...) {
        slot.busy.clear(std::memory_order_release);
        throw;
      }
      return Lease(slot);
    }
    return Lease(make());
  }

 private:
  static constexpr std::size_t piece_count = 4;
  mutable std::array<Slot, piece_count> slots_;
};

}  // namespace cudadent
