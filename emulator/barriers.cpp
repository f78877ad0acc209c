// Barriers of blocks and clusters, and mbarriers.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "emulator/grid.h"

namespace cudadent::emulator {

namespace {

// What an mbarrier looks like in shared memory: a mark, and which of the block's it is. Stray writes
// and memory that was never initialised do not look so.
constexpr std::uint64_t mbarrier_mark = 0xB0A22E4500000000ULL;
constexpr std::uint64_t mbarrier_mask = 0xFFFFFFFF00000000ULL;

constexpr std::int64_t max_bytes = (1 << 20) - 1;  // of one phase
constexpr int max_arrivals = (1 << 20) - 1;

}  // namespace

// ------------------------------------------------------------------------------- of a block

void Grid::arrive_at(BlockBarrier& barrier, int index, int threads, bool predicate,
                     const char* instruction) {
  Fiber& fiber = self();
  const auto warp = static_cast<std::size_t>(fiber.warp->index);
  const U32 bit = 1U << fiber.lane;
  if (threads % 32 != 0)
    raise(fmt::format("{} {} of {} threads, which is not a multiple of 32", instruction, index,
                      threads));
  if (barrier.arrived == 0) {
    barrier.instruction = instruction;
    barrier.threads = threads;
  } else if (barrier.threads != threads) {
    raise(fmt::format("{} {} of {} threads, while others are there to be {}", instruction, index,
                      threads, barrier.threads));
  } else if (index == 0 && std::strcmp(barrier.instruction, instruction) != 0) {
    raise(fmt::format("{}, while others wait at {}", instruction, barrier.instruction));
  }
  if ((barrier.lanes[warp] & bit) != 0)
    raise(fmt::format("arrives twice at barrier {} before it is complete", index));
  barrier.lanes[warp] |= bit;
  ++barrier.arrived;
  barrier.votes += predicate ? 1 : 0;
}

void Grid::complete_if_all_there(Block& block, BlockBarrier& barrier, int index) {
  if (barrier.arrived == 0) return;
  if (barrier.arrived < (barrier.threads == 0 ? block.live : barrier.threads)) return;
  for (const Warp& warp : block.warps) {
    const U32 there = barrier.lanes[static_cast<std::size_t>(warp.index)] & warp.live();
    if (there != 0 && there != warp.live())
      raise(
          fmt::format("{} {} is complete with only some lanes ({:#x}) of warp {}: all lanes of a "
                      "warp must arrive",
                      barrier.instruction, index, there, warp.index));
  }
  const BlockBarrier done = std::exchange(barrier, {});
  for (Fiber* fiber : done.waiters) {
    fiber->votes = {done.votes, done.arrived};
    if (fiber != running_) wake(*fiber);
  }
}

BlockBarrier& Grid::barrier_at(int index, const char* instruction) {
  if (index < 0 || index > 15)
    raise(fmt::format("{} {}: barriers are 0 to 15", instruction, index));
  return own_block().barriers[static_cast<std::size_t>(index)];
}

Votes Grid::barrier_count(int index, int threads, bool predicate, const char* instruction) {
  BlockBarrier& barrier = barrier_at(index, instruction);
  Fiber& fiber = self();
  arrive_at(barrier, index, threads, predicate, instruction);
  barrier.waiters.push_back(&fiber);
  complete_if_all_there(own_block(), barrier, index);
  if (barrier.arrived > 0) wait(WaitKind::barrier, instruction, static_cast<U32>(index));
  return fiber.votes;
}

void Grid::barrier_sync(int index, int threads, const char* instruction) {
  barrier_count(index, threads, false, instruction);
}

void Grid::barrier_arrive(int index, int threads) {
  if (threads == 0) raise("bar.arrive needs a number of threads");
  BlockBarrier& barrier = barrier_at(index, "bar.arrive");
  arrive_at(barrier, index, threads, false, "bar.arrive");
  complete_if_all_there(own_block(), barrier, index);
}

// ------------------------------------------------------------------------------- of a cluster

int Grid::cluster_rank() { return own_block().rank; }

int Grid::cluster_blocks() { return static_cast<int>(own_block().cluster->blocks.size()); }

U32 Grid::cluster_address(U32 address, int rank) {
  if (rank < 0 || rank >= cluster_blocks())
    raise(fmt::format("mapa of block {} of a cluster of {}", rank, cluster_blocks()));
  return (address & 0xffffffU) | static_cast<U32>(rank + 1) << 24;
}

void Grid::complete_cluster_barrier(Cluster& cluster) {
  if (cluster.arrived == 0 || cluster.arrived < cluster.live) return;
  cluster.arrived = 0;
  ++cluster.phase;
  for (Fiber* fiber : std::exchange(cluster.waiters, {})) wake(*fiber);
}

void Grid::cluster_arrive() {
  need(90, "barrier.cluster.arrive");
  Fiber& fiber = self();
  Cluster& cluster = *own_block().cluster;
  if (fiber.cluster_arrived)
    raise("barrier.cluster.arrive twice, without barrier.cluster.wait between");
  fiber.cluster_arrived = true;
  fiber.cluster_phase = cluster.phase;
  ++cluster.arrived;
  complete_cluster_barrier(cluster);
}

void Grid::cluster_wait() {
  Fiber& fiber = self();
  Cluster& cluster = *own_block().cluster;
  if (!fiber.cluster_arrived) raise("barrier.cluster.wait without barrier.cluster.arrive before");
  while (cluster.phase == fiber.cluster_phase) {
    cluster.waiters.push_back(&fiber);
    wait(WaitKind::cluster, "barrier.cluster.wait");
  }
  fiber.cluster_arrived = false;
}

// ------------------------------------------------------------------------------- mbarriers

MBarrier& Grid::mbarrier_at(SharedPlace place, const char* instruction) {
  std::uint64_t word = 0;
  std::memcpy(&word, place.pointer(), sizeof word);
  const auto index = static_cast<std::size_t>(word & ~mbarrier_mask);
  auto& all = place.block->mbarriers;
  if ((word & mbarrier_mask) != mbarrier_mark || index >= all.size() ||
      all[index].address != place.offset)
    raise(fmt::format("{} of the mbarrier at {:#x}, which was not initialised, or overwritten",
                      instruction, place.offset));
  return all[index];
}

void Grid::mbarrier_init(U32 address, int arrivals) {
  need(90, "mbarrier.init");
  const SharedPlace place = place_of(address, 8, 8, "mbarrier.init");
  if (place.block != &own_block()) raise("mbarrier.init in another block's shared memory");
  if (arrivals < 1 || arrivals > max_arrivals)
    raise(fmt::format("mbarrier.init for {} arrivals", arrivals));
  auto& all = place.block->mbarriers;
  for (MBarrier& other : all)
    if (other.address == place.offset) {
      if (!other.waiters.empty() || other.bytes != 0)
        raise(fmt::format("mbarrier.init at {:#x}, where one is in use", place.offset));
      other.address = 0;  // gone
    }
  MBarrier& barrier = all.emplace_back();
  barrier.address = place.offset;
  barrier.expected = barrier.pending = arrivals;
  barrier.unfenced = &self();
  const std::uint64_t word = mbarrier_mark | (all.size() - 1);
  std::memcpy(place.pointer(), &word, sizeof word);
}

void Grid::mbarrier_init_fence() {
  for (MBarrier& barrier : own_block().mbarriers)
    if (barrier.unfenced == &self()) barrier.unfenced = nullptr;
}

// Ends the phase when nothing is awaited any more.
void Grid::settle(MBarrier& barrier, const char* instruction) {
  if (barrier.bytes > max_bytes || barrier.bytes < -max_bytes)
    raise(fmt::format("{}: the mbarrier at {:#x} counts {} bytes, more than it can", instruction,
                      barrier.address, barrier.bytes));
  if (barrier.pending > 0) return;
  if (barrier.bytes < 0)
    raise(fmt::format("{}: {} bytes more than expected arrived at the mbarrier at {:#x}",
                      instruction, -barrier.bytes, barrier.address));
  if (barrier.bytes > 0) return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  for (Fiber* fiber : std::exchange(barrier.waiters, {})) wake(*fiber);
}

void Grid::mbarrier_arrive(U32 address, int arrivals, int expected_bytes, const char* instruction) {
  const SharedPlace place = place_of(address, 8, 8, instruction);
  MBarrier& barrier = mbarrier_at(place, instruction);
  if (place.block != &own_block() && barrier.unfenced != nullptr)
    raise(
        fmt::format("{}: the mbarrier at {:#x} of another block was initialised without "
                    "mbarrier_init_fence",
                    instruction, place.offset));
  if (barrier.pending < arrivals)
    raise(
        fmt::format("{}: more arrivals than the {} that the mbarrier at {:#x} expects in phase {}",
                    instruction, barrier.expected, place.offset, barrier.phase));
  barrier.bytes += expected_bytes;
  barrier.pending -= arrivals;
  settle(barrier, instruction);
}

void Grid::bytes_arrived(SharedPlace place, std::int64_t bytes, const char* instruction) {
  MBarrier& barrier = mbarrier_at(place, instruction);
  barrier.bytes -= bytes;
  settle(barrier, instruction);
}

bool Grid::mbarrier_test(U32 address, U32 parity) {
  const SharedPlace place = place_of(address, 8, 8, "mbarrier.test_wait");
  if (place.block != &own_block()) raise("waits for an mbarrier of another block");
  return (mbarrier_at(place, "mbarrier.test_wait").phase & 1U) != parity;
}

void Grid::mbarrier_wait(U32 address, U32 parity) {
  if (parity > 1) raise(fmt::format("mbarrier.try_wait for parity {}", parity));
  while (!mbarrier_test(address, parity)) {
    const SharedPlace place = place_of(address, 8, 8, "mbarrier.try_wait");
    mbarrier_at(place, "mbarrier.try_wait").waiters.push_back(&self());
    wait(WaitKind::mbarrier, "mbarrier.try_wait", place.offset, parity);
  }
}

}  // namespace cudadent::emulator
