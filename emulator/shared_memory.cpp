// Shared memory: its variables, its addresses, and whether accesses are where they may be.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "emulator/grid.h"

namespace cudadent::emulator {

void Grid::lay_out(Block& block, U32 offset, U32 bytes) {
  constexpr int fresh = 0xFF;  // NaN in every floating-point type
  std::memset(block.shared + offset, fresh, bytes);
}

void* Grid::dynamic_shared(U64 alignment, const char* name) {
  Block& block = own_block();
  if (block.dynamic_bytes == 0 && request_.shared_memory > 0) {
    // Aligned to what was asked for and to no more, as far as that can be.
    block.dynamic_offset =
        first_shared_address + (alignment >= first_shared_address
                                    ? static_cast<U32>(alignment - first_shared_address)
                                    : static_cast<U32>(alignment));
    block.dynamic_bytes = request_.shared_memory;
    lay_out(block, block.dynamic_offset, block.dynamic_bytes);
  }
  if (block.dynamic_bytes > 0 && block.dynamic_offset % alignment != 0)
    raise(
        fmt::format("dynamic shared memory '{}' is declared with an alignment of {} here and a "
                    "smaller one elsewhere",
                    name, alignment));
  return block.shared + std::max(block.dynamic_offset, first_shared_address);
}

// All blocks have a variable at the same address, from when the first thread comes to its declaration.
void* Grid::static_shared(const void* declaration, U64 bytes, U64 alignment, const char* name) {
  std::byte* shared = own_block().shared;
  if (const auto found = variables_.find(declaration); found != variables_.end())
    return shared + found->second.offset;
  const auto step = static_cast<U32>(alignment);
  U32 offset = (variables_end_ + 16 + step - 1) / step * step;
  if (offset % (2 * step) == 0) offset += step;  // aligned to no more than was asked for
  U64 all = bytes;
  for (const auto& [other, variable] : variables_) all += variable.bytes;
  const U64 limit = static_cast<U64>(request_.device.max_shared_memory);
  if (all > (48 << 10) || all + request_.shared_memory > limit || offset + bytes > arena_bytes())
    raise(
        fmt::format("{} bytes of static and {} of dynamic shared memory; a block has 49152 and {} "
                    "in all",
                    all, request_.shared_memory, limit));
  variables_[declaration] = {offset, static_cast<U32>(bytes), name};
  variables_end_ = offset + static_cast<U32>(bytes);
  for (const auto& cluster : resident_)
    for (Block& block : cluster->blocks) lay_out(block, offset, static_cast<U32>(bytes));
  return shared + offset;
}

U32 Grid::shared_address(const void* pointer) {
  const Block& block = own_block();
  const auto distance = static_cast<const std::byte*>(pointer) - block.shared;
  if (distance < 0 || distance > static_cast<std::ptrdiff_t>(arena_bytes()))
    raise(fmt::format("{} does not lie in the block's shared memory", pointer));
  return static_cast<U32>(distance);
}

void Grid::check_inside(const Block& block, U32 offset, U32 bytes, const char* instruction) {
  const auto inside = [&](U32 first, U32 size) {
    return offset >= first && offset + std::uint64_t{bytes} <= first + std::uint64_t{size};
  };
  if (inside(block.dynamic_offset, block.dynamic_bytes)) return;
  for (const auto& [declaration, variable] : variables_)
    if (inside(variable.offset, variable.bytes)) return;
  raise(
      fmt::format("{} of {} bytes of shared memory at {:#x}: dynamic shared memory is {:#x} to "
                  "{:#x}, and it is in no variable",
                  instruction, bytes, offset, block.dynamic_offset,
                  block.dynamic_offset + block.dynamic_bytes));
}

Grid::SharedPlace Grid::place_of(U32 address, U32 bytes, U32 alignment, const char* instruction) {
  Block* block = &own_block();
  if (const U32 rank = address >> 24; rank > 0) {
    if (rank > block->cluster->blocks.size())
      raise(fmt::format("{}: {:#x} is no address of shared memory", instruction, address));
    block = &block->cluster->blocks[rank - 1];
  }
  const U32 offset = address & 0xffffffU;
  if (block->exited)
    raise(fmt::format("{} of the shared memory of block {} of the cluster, which has exited",
                      instruction, block->rank));
  if (offset % alignment != 0)
    raise(
        fmt::format("{} at {:#x}, which is not a multiple of {}", instruction, offset, alignment));
  check_inside(*block, offset, bytes, instruction);
  return {block, offset};
}

void* Grid::shared_pointer(U32 address, U32 bytes, U32 alignment, const char* instruction) {
  return place_of(address, bytes, alignment, instruction).pointer();
}

void Grid::shared_written(U32 address, U32 bytes) {
  Block& block = own_block();
  for (U32 granule = address / 16; granule <= (address + bytes - 1) / 16; ++granule)
    block.unfenced_writes[granule] = &self();
}

void Grid::async_proxy_fence() {
  const Fiber* fiber = &self();
  std::erase_if(own_block().unfenced_writes,
                [&](const auto& write) { return write.second == fiber; });
}

void Grid::check_fenced(const Block& block, U32 offset, U32 bytes, const char* instruction) {
  const auto found = block.unfenced_writes.lower_bound(offset / 16);
  if (found == block.unfenced_writes.end() || found->first > (offset + bytes - 1) / 16) return;
  raise(
      fmt::format("{} reads shared memory at {:#x}, which {} wrote without an async_proxy_fence "
                  "since",
                  instruction, found->first * 16, describe(*found->second)));
}

void Grid::check_alignment(const void* pointer, U32 alignment, const char* what) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0)
    raise(fmt::format("{} at {}, which is not a multiple of {} bytes", what, pointer, alignment));
}

}  // namespace cudadent::emulator
