#include "runtime/base/turns.h"

#include <algorithm>
#include <chrono>
#include <deque>

namespace cudadent {

namespace {
constexpr auto slice =
    std::chrono::milliseconds(50);  // between two questions whether to go on waiting
}

// Of a thread in the line for a name; the first has the turn.
struct Turns::Place {
  std::string name;
  std::thread::id thread = std::this_thread::get_id();
  std::uint64_t forks = fork_count();
  std::condition_variable_any is_first;
};

struct Turns::State {
  using Line = std::deque<std::shared_ptr<Place>>;
  ForkSafeMutex mutex;
  std::map<std::string, Line> lines;  // by name; none is empty

  void leave(const Place& place) {
    const auto line = lines.find(place.name);
    if (line == lines.end()) return;
    std::erase_if(line->second, [&](const auto& one) { return one.get() == &place; });
    if (line->second.empty())
      lines.erase(line);
    else
      line->second.front()->is_first.notify_all();
  }
};

Turns::Turns() : state_(std::make_shared<State>()) {}

Turns::Turn::~Turn() {
  if (place_ == nullptr || place_->forks != fork_count()) return;
  const std::lock_guard lock(state_->mutex);
  state_->leave(*place_);
}

std::optional<Turns::Turn> Turns::take(const std::string& name,
                                       const std::function<bool()>& cancelled) {
  std::unique_lock lock(state_->mutex);
  State::Line& line = state_->lines[name];
  // Threads of the parent's. (Those that wait have copies of their pointers that never go away: a condition variable
  // must not be destroyed with somebody waiting.)
  std::erase_if(line, [](const auto& place) { return place->forks != fork_count(); });
  if (!line.empty() && line.front()->thread == std::this_thread::get_id())
    return Turn(state_, nullptr);
  const auto own = std::make_shared<Place>();
  own->name = name;
  line.push_back(own);
  while (line.front() != own) {
    if (own->is_first.wait_for(lock, slice) == std::cv_status::no_timeout || !cancelled) continue;
    lock.unlock();  // it may take the caller's locks
    Turn leaving(state_, own);
    if (cancelled()) return std::nullopt;
    leaving.place_ = nullptr;
    lock.lock();
  }
  return Turn(state_, own);
}

}  // namespace cudadent
