#include "emulator/memory.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

namespace cudadent::emulator {

namespace {

constexpr std::size_t guard_bytes = 1024;
constexpr std::size_t alignment = 256;
constexpr int guard_value = 0xDB, fresh_value = 0xFF;

bool is_guard(const std::byte* memory, std::size_t bytes, std::size_t& where) {
  for (where = 0; where < bytes; ++where)
    if (std::to_integer<int>(memory[where]) != guard_value) return false;
  return true;
}

}  // namespace

void* GlobalMemory::allocate(std::size_t bytes) {
  const std::size_t whole = (bytes + 2 * guard_bytes + alignment - 1) / alignment * alignment;
  auto* base = static_cast<std::byte*>(std::aligned_alloc(alignment, whole));
  if (base == nullptr) return nullptr;
  std::memset(base, guard_value, whole);
  std::memset(base + guard_bytes, fresh_value, bytes);
  const std::lock_guard lock(mutex_);
  allocations_[base + guard_bytes] = {bytes, base};
  return base + guard_bytes;
}

bool GlobalMemory::free(void* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = allocations_.find(static_cast<std::byte*>(memory));
  if (found == allocations_.end()) return false;
  std::free(found->second.base);
  allocations_.erase(found);
  return true;
}

bool GlobalMemory::contains(const void* memory, std::size_t bytes) {
  const auto* first = static_cast<const std::byte*>(memory);
  const std::lock_guard lock(mutex_);
  auto found = allocations_.upper_bound(first);
  if (found == allocations_.begin()) return false;
  --found;
  return first + bytes <= found->first + found->second.bytes;
}

std::string GlobalMemory::why_damaged(const std::byte* data, const Allocation& allocation) {
  std::size_t where = 0;
  if (!is_guard(data - guard_bytes, guard_bytes, where))
    return fmt::format("wrote {} bytes in front of an allocation of {} bytes", guard_bytes - where,
                       allocation.bytes);
  if (!is_guard(data + allocation.bytes, guard_bytes, where))
    return fmt::format("wrote {} bytes behind the end of an allocation of {} bytes", where,
                       allocation.bytes);
  return {};
}

std::string GlobalMemory::why_damaged() {
  const std::lock_guard lock(mutex_);
  for (const auto& [data, allocation] : allocations_)
    if (auto why = why_damaged(data, allocation); !why.empty()) return why;
  return {};
}

}  // namespace cudadent::emulator
