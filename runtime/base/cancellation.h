// Whether the work at hand is still wanted by whoever asked for it.
#pragma once

#include <functional>

namespace cudadent {

// While it lives, what this thread does below ends soon after `asked` has said true, with Error(cancelled):
// loops stop, processes that compile or run something are ended. Scopes nest, and each counts. It goes with the
// thread rather than through every signature, since what may take long lies far below who can be interrupted.
class Cancellation {
 public:
  // `asked` may be empty; it is called several times a second, from this thread, and stays true from then on.
  explicit Cancellation(std::function<bool()> asked);
  ~Cancellation();
  Cancellation(const Cancellation&) = delete;
  Cancellation& operator=(const Cancellation&) = delete;

  // Whether anybody could ask this thread: who waits for something then does so in short steps.
  static bool possible() noexcept;
  static bool asked();
  // Throws Error(cancelled) if so.
  static void check();

 private:
  std::function<bool()> asked_;
  const Cancellation* outer_;
};

}  // namespace cudadent
