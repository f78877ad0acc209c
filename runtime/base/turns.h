// Turns by name: what takes long is done by one thread, while others that want the same wait for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "runtime/base/fork.h"

namespace cudadent {

// Safe from many threads. Nothing is locked while somebody has a turn. In the child of a fork the turns of
// threads that it does not have are over.
class Turns {
 private:
  struct State;
  struct Place;

 public:
  // The right to be the only one at a name's work. Ends with this object, which may outlive its Turns.
  class Turn {
   public:
    Turn(Turn&&) noexcept = default;
    Turn& operator=(Turn&&) = delete;
    ~Turn();
    // The thread has the name's turn already, from further up its stack: it need not wait for itself, but what it
    // is about to begin, it is in the midst of.
    [[nodiscard]] bool nested() const noexcept { return place_ == nullptr; }

   private:
    friend class Turns;
    Turn(std::shared_ptr<State> state, std::shared_ptr<Place> place)
        : state_(std::move(state)), place_(std::move(place)) {}
    std::shared_ptr<State> state_;
    std::shared_ptr<Place> place_;  // null when nested
  };

  Turns();

  // Waits until no other thread has the name's turn, or waits for longer. Nothing once `cancelled`, which may be empty and is asked
  // several times a second while there is somebody to wait for, says true. Throws what it throws.
  [[nodiscard]] std::optional<Turn> take(const std::string& name,
                                         const std::function<bool()>& cancelled = {});

 private:
  std::shared_ptr<State> state_;
};

}  // namespace cudadent
