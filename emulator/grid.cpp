#include "emulator/grid.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "emulator/faults.h"

namespace cudadent::emulator {

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t stack_bytes = 512 << 10;
#else
constexpr std::size_t stack_bytes = 128 << 10;
#endif

// Of one operating-system thread: making mappings costs more than many a small launch.
Stacks& own_stacks() {
  thread_local Stacks stacks(stack_bytes);
  return stacks;
}

constexpr unsigned max_blocks_per_sm = 32;
constexpr unsigned reserved_shared_bytes = 1024;  // by the system, of each block
constexpr std::uint64_t spins_allowed = 200000;
// More are started only when those that run wait for them: each has a stack.
constexpr unsigned threads_at_first = 4096;

}  // namespace

Grid::Grid(LaunchRequest request, GlobalMemory& memory)
    : request_(std::move(request)),
      memory_(memory),
      random_(request_.schedule.seed + 1),
      stacks_(own_stacks()) {
  describe_own_stack(main_);
  cluster_order_.resize(volume(request_.grid) / volume(request_.cluster));
  std::iota(cluster_order_.begin(), cluster_order_.end(), 0U);
  variables_end_ = first_shared_address * 4 + (request_.shared_memory + 1023) / 1024 * 1024;
  const auto order = request_.schedule.warps;
  if (order == WarpOrder::descending) std::reverse(cluster_order_.begin(), cluster_order_.end());
  if (order == WarpOrder::random)
    for (std::size_t i = cluster_order_.size(); i > 1; --i)
      std::swap(cluster_order_[i - 1], cluster_order_[random_.below(i)]);
}

Grid::~Grid() {
  for (const auto& cluster : resident_)
    for (const auto& fiber : cluster->fibers) stacks_.give_back(fiber.stack);
  for (std::byte* arena : arenas_) ::munmap(arena, arena_bytes());
}

std::size_t Grid::arena_bytes() const {
  return first_shared_address * 4 + request_.shared_memory + (64 << 10);
}

unsigned Grid::resident_limit() const {
  const auto blocks_by = [](std::int64_t whole, std::int64_t part) {
    return static_cast<unsigned>(
        std::max<std::int64_t>(1, whole / std::max<std::int64_t>(part, 1)));
  };
  const Device& device = request_.device;
  const unsigned per_sm =
      std::min({blocks_by(device.max_threads_per_sm, volume(request_.block)),
                blocks_by(device.shared_memory_per_sm,
                          std::int64_t{request_.shared_memory} + reserved_shared_bytes),
                std::max(1U, request_.facts->min_blocks), max_blocks_per_sm});
  return std::max(1U, per_sm * static_cast<unsigned>(device.sm_count) / volume(request_.cluster));
}

// ------------------------------------------------------------------------------- threads

void Grid::run_fiber(void* argument) {
  auto& fiber = *static_cast<Fiber*>(argument);
  Grid& grid = *fiber.grid;
  context_entered();
  try {
    grid.request_.facts->call(grid.request_.arguments);
    grid.exit_thread(fiber);
  } catch (...) {
    grid.failure_ = std::current_exception();
  }
  fiber.done = true;
  switch_context(fiber.context, grid.main_);
}

void Grid::exit_thread(Fiber& fiber) {
  Warp& warp = *fiber.warp;
  Block& block = *warp.block;
  const U32 bit = 1U << fiber.lane;
  Warpgroup& group = block.warpgroups[static_cast<std::size_t>(warp.index / 4)];
  if (group.executed < group.joined[static_cast<std::size_t>(warp.index % 4)])
    raise("exits with wgmma under way: wait for the group first");
  while (!fiber.copy_groups.empty()) {
    perform(fiber.copy_groups.front());
    fiber.copy_groups.pop_front();
  }
  perform(fiber.open_copies);
  fiber.open_copies.copies.clear();
  for (auto& store : fiber.open_stores) issue(store);  // never committed: done all the same
  fiber.open_stores.clear();

  warp.exited |= bit;
  warp.runnable &= ~bit;
  if (warp.runnable == 0) unmake_ready(warp);
  spins_without_progress_ = 0;
  for (std::size_t i = 0; i < warp.collectives.size();) {
    const std::size_t before = warp.collectives.size();
    if (warp.collectives[i].arrived == (warp.collectives[i].mask & warp.live())) complete(warp, i);
    if (warp.collectives.size() == before) ++i;
  }
  --block.live;
  --block.cluster->live;
  for (std::size_t i = 0; i < block.barriers.size(); ++i)
    complete_if_all_there(block, block.barriers[i], static_cast<int>(i));
  if (fiber.cluster_arrived && fiber.cluster_phase == block.cluster->phase)
    --block.cluster->arrived;
  complete_cluster_barrier(*block.cluster);
  if (block.live == 0) {
    check_left_behind(block);
    block.exited = true;
  }
}

void Grid::make_ready(Warp& warp) {
  if (warp.ready) return;
  warp.ready = true;
  warp.ready_index = ready_.size();
  ready_.push_back(&warp);
}

void Grid::unmake_ready(Warp& warp) {
  if (!warp.ready) return;
  warp.ready = false;
  ready_[warp.ready_index] = ready_.back();
  ready_[warp.ready_index]->ready_index = warp.ready_index;
  ready_.pop_back();
}

void Grid::wake(Fiber& fiber) {
  fiber.warp->runnable |= 1U << fiber.lane;
  make_ready(*fiber.warp);
  if (fiber.waits_for != WaitKind::spin) spins_without_progress_ = 0;
}

Warp* Grid::choose_warp() {
  const auto ahead = [&](const Warp* a, const Warp* b) {
    const auto key = [](const Warp* warp) {
      const Extents& index = warp->block->index;
      return std::tuple(index.z, index.y, index.x, warp->index);
    };
    return key(a) < key(b);
  };
  switch (request_.schedule.warps) {
    case WarpOrder::ascending:
      return *std::min_element(ready_.begin(), ready_.end(), ahead);
    case WarpOrder::descending:
      return *std::max_element(ready_.begin(), ready_.end(), ahead);
    case WarpOrder::one_last: {
      Warp* warp = ready_[random_.below(ready_.size())];
      if (warp == last_warp_ && ready_.size() > 1)
        warp = ready_[(warp->ready_index + 1) % ready_.size()];
      return warp;
    }
    case WarpOrder::random:
      break;
  }
  return ready_[random_.below(ready_.size())];
}

// Null when none can run, or something asynchronous is to be carried out first.
Fiber* Grid::choose() {
  if (ready_.empty()) return nullptr;
  const bool anything_under_way = !loads_.empty() || !stores_.empty();
  if (anything_under_way && random_.happens(request_.schedule.eagerness)) return nullptr;
  const bool stays = current_warp_ != nullptr && current_warp_->ready &&
                     (request_.schedule.stay >= 1 || random_.happens(request_.schedule.stay));
  if (!stays) current_warp_ = choose_warp();
  U32 lanes = current_warp_->runnable;
  switch (request_.schedule.lanes) {
    case LaneOrder::ascending:
      break;
    case LaneOrder::descending:
      return current_warp_->fibers[static_cast<std::size_t>(31 - std::countl_zero(lanes))];
    case LaneOrder::random:
      for (U32 skip = random_.below(static_cast<std::size_t>(std::popcount(lanes))); skip > 0;
           --skip)
        lanes &= lanes - 1;
      break;
  }
  return current_warp_->fibers[static_cast<std::size_t>(std::countr_zero(lanes))];
}

void Grid::resume(Fiber& fiber) {
  Context& from = running_ == nullptr ? main_ : running_->context;
  running_ = &fiber;
  *request_.thread_slot = &fiber.view;
  switch_context(from, fiber.context);
}

void Grid::wait(WaitKind kind, const char* instruction, U32 detail, U32 detail2) {
  Fiber& fiber = self();
  fiber.waits_for = kind;
  fiber.instruction = instruction;
  fiber.detail = detail;
  fiber.detail2 = detail2;
  fiber.warp->runnable &= ~(1U << fiber.lane);
  if (fiber.warp->runnable == 0) unmake_ready(*fiber.warp);
  if (Fiber* next = choose()) return resume(*next);
  switch_context(fiber.context, main_);
}

void Grid::run() {
  const FaultHandler::Escape escape{
      this,
      [](void* grid) -> void* {
        const Fiber* fiber = static_cast<Grid*>(grid)->running_;
        return fiber == nullptr ? nullptr : static_cast<std::byte*>(fiber->stack) + stack_bytes;
      },
      [](void* grid, const char* what, const void* address) {
        static_cast<Grid*>(grid)->abandon(what, address);
      }};
  const FaultHandler handler(escape);
  run_all();
}

// Leaves the running thread where it is for good.
void Grid::abandon(const char* what, const void* address) {
  try {
    raise(fmt::format("{} at {}", what, address));
  } catch (...) {
    failure_ = std::current_exception();
  }
  running_->done = true;
  switch_context(running_->context, main_);
  std::abort();
}

void Grid::run_all() {
  const unsigned limit = resident_limit();
  const unsigned threads = volume(request_.block) * volume(request_.cluster);
  const unsigned at_first =
      std::clamp(static_cast<unsigned>(request_.schedule.resident_clusters), 1U,
                 std::min(limit, std::max(1U, threads_at_first / threads)));
  while (true) {
    running_ = nullptr;
    if (failure_) std::rethrow_exception(failure_);
    retire_clusters();
    while (next_cluster_ < cluster_order_.size() && resident_.size() < at_first) admit_cluster();
    if (resident_.empty()) break;
    if (Fiber* next = choose()) {
      resume(*next);
      continue;
    }
    if (advance_asynchronous()) continue;
    if (!ready_.empty()) continue;
    if (next_cluster_ < cluster_order_.size() && resident_.size() < limit) {
      admit_cluster();
    } else if (!spinning_.empty() && ++spins_without_progress_ < spins_allowed) {
      for (Fiber* fiber : std::exchange(spinning_, {})) wake(*fiber);
    } else {
      report_deadlock();
    }
  }
  while (advance_asynchronous()) {
  }
  if (const auto why = memory_.why_damaged(); !why.empty()) raise(why);
}

void Grid::yield(const char* instruction) {
  spinning_.push_back(&self());
  wait(WaitKind::spin, instruction);
}

}  // namespace cudadent::emulator
