// Blocks and clusters of a launch: how they begin and end.
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "emulator/grid.h"

namespace cudadent::emulator {

namespace {

Extents extents(const std::array<unsigned, 3>& sides) { return {sides[0], sides[1], sides[2]}; }

}  // namespace

void Grid::admit_cluster() {
  const std::uint32_t number = cluster_order_[next_cluster_++];
  auto cluster = std::make_unique<Cluster>();
  const auto& size = request_.cluster;
  std::array<unsigned, 3> clusters{};
  for (std::size_t i = 0; i < 3; ++i) clusters[i] = request_.grid[i] / size[i];
  const Extents origin{number % clusters[0] * size[0], number / clusters[0] % clusters[1] * size[1],
                       number / clusters[0] / clusters[1] * size[2]};
  cluster->blocks.resize(volume(size));
  for (unsigned rank = 0; rank < cluster->blocks.size(); ++rank) {
    Block& block = cluster->blocks[rank];
    block.cluster = cluster.get();
    block.rank = static_cast<int>(rank);
    start_block(block, {origin.x + rank % size[0], origin.y + rank / size[0] % size[1],
                        origin.z + rank / size[0] / size[1]});
  }
  resident_.push_back(std::move(cluster));
}

void Grid::start_block(Block& block, const Extents& index) {
  const unsigned threads = volume(request_.block);
  block.index = index;
  block.live = static_cast<int>(threads);
  block.cluster->live += static_cast<int>(threads);
  if (free_arenas_.empty()) {
    void* arena = ::mmap(nullptr, arena_bytes(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED) throw std::bad_alloc();
    arenas_.push_back(static_cast<std::byte*>(arena));
    free_arenas_.push_back(arenas_.back());
  }
  block.shared = free_arenas_.back();
  free_arenas_.pop_back();
  std::memset(block.shared, shared_guard, arena_bytes());
  for (const auto& [declaration, variable] : variables_)
    lay_out(block, variable.offset, variable.bytes);

  const unsigned threads_at_once = std::max(1U, request_.facts->min_blocks) * threads;
  const int registers = static_cast<int>(std::min(65536U / threads_at_once / 8 * 8, 256U));
  block.warps.resize((threads + 31) / 32);
  block.warpgroups.resize((block.warps.size() + 3) / 4);
  for (unsigned thread = 0; thread < threads; ++thread) {
    Warp& warp = block.warps[thread / 32];
    warp.block = &block;
    warp.index = static_cast<int>(thread / 32);
    warp.registers = registers;
    Fiber& fiber = block.cluster->fibers.emplace_back();
    fiber.grid = this;
    fiber.warp = &warp;
    fiber.lane = static_cast<int>(thread % 32);
    fiber.stack = stacks_.take();
    const auto& sides = request_.block;
    fiber.view = {{thread % sides[0], thread / sides[0] % sides[1], thread / sides[0] / sides[1]},
                  index,
                  extents(request_.block),
                  extents(request_.grid),
                  this};
    make_context(fiber.context, fiber.stack, stacks_.bytes(), run_fiber, &fiber);
    warp.fibers[thread % 32] = &fiber;
    warp.existing |= 1U << thread % 32;
  }
  for (Warp& warp : block.warps) {
    warp.runnable = warp.existing;
    make_ready(warp);
    if (last_warp_ == nullptr || random_.below(8) == 0) last_warp_ = &warp;
  }
}

void Grid::check_left_behind(const Block& block) {
  const auto complain = [&](const std::string& what) {
    raise(fmt::format("block ({}, {}, {}) {}", block.index.x, block.index.y, block.index.z, what));
  };
  for (const MBarrier& barrier : block.mbarriers)
    if (barrier.bytes != 0)
      complain(fmt::format("exits while the mbarrier at {:#x} waits for {} more bytes",
                           barrier.address, barrier.bytes));
  for (const PendingLoad& load : loads_)
    if (load.block == &block)
      complain(fmt::format(
          "exits while {} still copies to its shared memory at {:#x}: nobody "
          "waited for it",
          load.is_tensor ? load.tensor.instruction : load.bulk.instruction, load.offset));
  for (const auto& store : stores_)
    if (store->block == &block && store->state == PendingStore::State::issued)
      complain(fmt::format(
          "exits while {} may still read its shared memory: wait for the bulk group first",
          store->is_tensor ? store->tensor.instruction : store->bulk.instruction));
  // Every byte outside of the variables is as it was.
  std::vector<SharedVariable> variables{{block.dynamic_offset, block.dynamic_bytes, "dynamic"}};
  for (const auto& [declaration, variable] : variables_) variables.push_back(variable);
  std::sort(variables.begin(), variables.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  std::size_t at = 0;
  const auto check_to = [&](std::size_t end) {
    for (; at < end; ++at)
      if (std::to_integer<int>(block.shared[at]) != shared_guard)
        complain(fmt::format("wrote to shared memory at {:#x}, where no variable is", at));
  };
  for (const auto& variable : variables) {
    if (variable.bytes == 0) continue;
    check_to(variable.offset);
    at = variable.offset + variable.bytes;
  }
  check_to(arena_bytes());
}

void Grid::retire_clusters() {
  for (std::size_t i = 0; i < resident_.size();) {
    if (resident_[i]->live > 0) {
      ++i;
      continue;
    }
    for (const auto& fiber : resident_[i]->fibers) stacks_.give_back(fiber.stack);
    for (const auto& block : resident_[i]->blocks) {
      for (const Warp& warp : block.warps) {
        if (current_warp_ == &warp) current_warp_ = nullptr;
        if (last_warp_ == &warp) last_warp_ = nullptr;
      }
      // What was read is written some time; its block is gone.
      for (const auto& store : stores_)
        if (store->block == &block) store->block = nullptr;
      free_arenas_.push_back(block.shared);
    }
    resident_[i] = std::move(resident_.back());
    resident_.pop_back();
  }
}

}  // namespace cudadent::emulator
