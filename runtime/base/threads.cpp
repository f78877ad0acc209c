#include "runtime/base/threads.h"

#include <system_error>
#include <vector>

namespace cudadent {

std::size_t start_threads(std::size_t count, const std::function<void(std::size_t)>& start) {
  for (std::size_t i = 0; i < count; ++i) {
    try {
      start(i);
    } catch (const std::system_error& error) {
      if (error.code() != std::errc::resource_unavailable_try_again) throw;
      return i;
    }
  }
  return count;
}

void on_threads(std::size_t count, const std::function<void()>& work) {
  std::vector<std::jthread> threads;
  threads.reserve(count);
  start_threads(count > 1 ? count - 1 : 0, [&](std::size_t) { threads.emplace_back(work); });
  work();
}

}  // namespace cudadent
