#include "emulator/driver_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "emulator/driver.h"

namespace cudadent::emulator {

using namespace cuda;

GlobalMemory& device_memory() {
  static GlobalMemory all;
  return all;
}

namespace {

Result allocate(DevicePointer* pointer, std::size_t bytes) {
  void* data = device_memory().allocate(bytes);
  *pointer = reinterpret_cast<DevicePointer>(data);
  return data == nullptr ? Result::out_of_memory : Result::success;
}

Result release(DevicePointer pointer) {
  return device_memory().free(reinterpret_cast<void*>(pointer)) ? Result::success
                                                                : Result::invalid_value;
}

// What lives of the pool, with the streams that it was allocated on.
struct PoolBlocks {
  struct Block {
    Stream stream = nullptr;
    std::size_t bytes = 0;
  };
  std::mutex lock;
  std::map<DevicePointer, Block> live;
};

PoolBlocks& pool_blocks() {
  static PoolBlocks blocks;
  return blocks;
}

Result pool_allocate(DevicePointer* pointer, std::size_t bytes, MemoryPool, Stream stream) {
  const Result result = allocate(pointer, bytes);
  if (result != Result::success) return result;
  const std::lock_guard lock(pool_blocks().lock);
  pool_blocks().live[*pointer] = {stream, bytes};
  return result;
}

Result pool_free(DevicePointer pointer, Stream) {
  {
    const std::lock_guard lock(pool_blocks().lock);
    pool_blocks().live.erase(pointer);
  }
  return release(pointer);
}

}  // namespace

void add_memory(Driver& table) {
  table.memory_allocate = allocate;
  table.memory_free = release;
  table.copy_to_device = [](DevicePointer device, const void* host, std::size_t bytes, Stream) {
    std::memcpy(reinterpret_cast<void*>(device), host, bytes);
    return Result::success;
  };
  table.copy_to_host = [](void* host, DevicePointer device, std::size_t bytes, Stream) {
    std::memcpy(host, reinterpret_cast<void*>(device), bytes);
    return Result::success;
  };
  table.fill = [](DevicePointer device, unsigned char value, std::size_t bytes, Stream) {
    std::memset(reinterpret_cast<void*>(device), value, bytes);
    return Result::success;
  };
  table.pool_create = [](MemoryPool* pool, const MemoryPoolProperties*) {
    *pool = reinterpret_cast<MemoryPool>(&device_memory());
    return Result::success;
  };
  table.pool_destroy = [](MemoryPool) { return Result::success; };
  table.pool_set_attribute = [](MemoryPool, int, void*) { return Result::success; };
  table.pool_allocate = pool_allocate;
  table.pool_free = pool_free;
}

// Other workspaces are freed in the order of the stream, which is at once here.
std::string dirty_kept_memory(const EmulatedStream& stream) {
  const std::lock_guard lock(pool_blocks().lock);
  for (const auto& [pointer, block] : pool_blocks().live) {
    if (block.stream != &stream) continue;
    const auto* const first = reinterpret_cast<const unsigned char*>(pointer);
    const auto* const end = first + block.bytes;
    const auto* const dirty =
        std::find_if(first, end, [](unsigned char byte) { return byte != 0; });
    if (dirty != end)
      return fmt::format("byte {} of a kept workspace of {} is {} after the launch, not zero",
                         dirty - first, block.bytes, *dirty);
  }
  return {};
}

}  // namespace cudadent::emulator
