#include "tuner/run_binaries.h"

#include <algorithm>

namespace cudadent {

namespace {

constexpr std::size_t kept_binaries = 64;

}  // namespace

std::optional<Binary> RunBinaries::find_binary(const std::string& specialization_hash) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = kept_.find(specialization_hash); found != kept_.end())
      return found->second.second;
  }
  if (auto found = store_.find_binary(specialization_hash); found && found->compiler == compiler_)
    return found;
  return std::nullopt;
}

void RunBinaries::put_binary(const Binary& binary) {
  remember_([&] { store_.put_binary(binary); });
}

void RunBinaries::keep(Binary binary, double seconds) {
  const std::lock_guard lock(mutex_);
  const std::string hash = binary.specialization_hash;
  kept_.insert_or_assign(hash, std::pair(seconds, std::move(binary)));
  if (kept_.size() <= kept_binaries) return;
  kept_.erase(std::max_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
    return a.second.first < b.second.first;
  }));
}

}  // namespace cudadent
