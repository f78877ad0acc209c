#include "runtime/turns.h"

#include <chrono>

namespace cudadent {

namespace {
constexpr auto slice =
    std::chrono::milliseconds(50);  // between two questions whether to go on waiting
}

struct Turns::Held {
  std::string name;
  std::thread::id thread = std::this_thread::get_id();
  std::uint64_t forks = fork_count();
  bool over = false;
  std::condition_variable_any ended;

  // False when the thread that has it is one of the parent's.
  [[nodiscard]] bool is_of_this_process() const { return forks == fork_count(); }
};

struct Turns::State {
  ForkSafeMutex mutex;
  std::map<std::string, std::shared_ptr<Held>> held;  // by name
};

Turns::Turns() : state_(std::make_shared<State>()) {}

Turns::Turn::~Turn() {
  if (held_ == nullptr || !held_->is_of_this_process()) return;
  const std::lock_guard lock(state_->mutex);
  held_->over = true;
  state_->held.erase(held_->name);
  held_->ended.notify_all();
}

std::optional<Turns::Turn> Turns::take(const std::string& name,
                                       const std::function<bool()>& cancelled) {
  std::unique_lock lock(state_->mutex);
  while (true) {
    auto& place = state_->held[name];
    // (One of the parent's that others waited for stays alive with their copies of the pointer: a condition
    // variable must not be destroyed with somebody waiting.)
    if (place == nullptr || !place->is_of_this_process()) {
      place = std::make_shared<Held>();
      place->name = name;
      return Turn(state_, place);
    }
    if (place->thread == std::this_thread::get_id()) return Turn(state_, nullptr);
    const std::shared_ptr<Held> other = place;
    while (!other->over) {
      if (other->ended.wait_for(lock, slice) == std::cv_status::no_timeout) continue;
      if (!cancelled) continue;
      lock.unlock();  // it may take the caller's locks
      if (cancelled()) return std::nullopt;
      lock.lock();
    }
  }
}

}  // namespace cudadent
