#include "emulator/grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
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

unsigned volume(const std::array<unsigned, 3>& sides) { return sides[0] * sides[1] * sides[2]; }

Extents extents(const std::array<unsigned, 3>& sides) { return {sides[0], sides[1], sides[2]}; }

std::string lanes_text(U32 lanes) {
  std::vector<std::string> runs;
  for (int first = 0; first < 32; ++first) {
    if ((lanes >> first & 1U) == 0) continue;
    int last = first;
    while (last < 31 && (lanes >> (last + 1) & 1U) != 0) ++last;
    runs.push_back(first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
    first = last;
  }
  return fmt::format("{}", fmt::join(runs, ","));
}

}  // namespace

Schedule Schedule::from_seed(std::uint64_t seed) {
  Random random(seed);
  Schedule schedule;
  schedule.seed = seed;
  schedule.warps = static_cast<WarpOrder>(random.below(4));
  schedule.lanes = static_cast<LaneOrder>(random.below(3));
  schedule.stay = std::array{0.0, 0.9, 1.0}[random.below(3)];
  schedule.eagerness = std::array{0.0, 0.001, 0.1, 1.0}[random.below(4)];
  schedule.early = std::array{0.0, 0.3, 1.0}[random.below(3)];
  schedule.resident_clusters = std::array{1, 1, 3, 1000}[random.below(4)];
  return schedule;
}

std::string Schedule::describe() const {
  constexpr std::array warp_names{"random", "ascending", "descending", "one last"};
  constexpr std::array lane_names{"ascending", "descending", "random"};
  return fmt::format(
      "seed {}: warps {}, lanes {}, stay {}, eagerness {}, early {}, {} clusters at once", seed,
      warp_names[static_cast<std::size_t>(warps)], lane_names[static_cast<std::size_t>(lanes)],
      stay, eagerness, early, resident_clusters);
}

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

// ------------------------------------------------------------------------------- blocks

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

  const unsigned most = std::max(1U, request_.facts->min_blocks) * threads;
  const int registers = static_cast<int>(std::min(65536U / most / 8 * 8, 256U));
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

// ------------------------------------------------------------------------------- reports

std::string Grid::describe(const Fiber& fiber) const {
  const auto& [x, y, z] = fiber.view.thread_index;
  const Extents& block = fiber.warp->block->index;
  const std::string thread = request_.block[1] == 1 && request_.block[2] == 1
                                 ? std::to_string(x)
                                 : fmt::format("({}, {}, {})", x, y, z);
  return fmt::format("thread {} (warp {}, lane {}) of block ({}, {}, {})", thread,
                     fiber.warp->index, fiber.lane, block.x, block.y, block.z);
}

void Grid::raise(const std::string& what) {
  throw Error(
      ErrorCode::launch_failed,
      fmt::format("kernel '{}' on the emulated {}: {}{}{} [{}]", request_.name,
                  request_.device.architecture, running_ == nullptr ? "" : describe(*running_),
                  running_ == nullptr ? "" : ": ", what, request_.schedule.describe()));
}

void Grid::raise_missing(const char* instruction) {
  raise(fmt::format("{}, which the architecture does not have", instruction));
}

void Grid::fail(const char* what) { raise(what); }

void Grid::fail_at(U32 line, const char* what) {
  raise(fmt::format("{} in line {} of the specialization's source", what, line));
}

std::string Grid::describe_wait(const Fiber& fiber) {
  Block& block = *fiber.warp->block;
  switch (fiber.waits_for) {
    case WaitKind::lanes: {
      for (const auto& collective : fiber.warp->collectives)
        if (collective.arrived >> fiber.lane & 1U)
          return fmt::format(
              "{} for lanes {}", fiber.instruction,
              lanes_text(collective.mask & fiber.warp->live() & ~collective.arrived));
      return fiber.instruction;
    }
    case WaitKind::barrier: {
      const BlockBarrier& barrier = block.barriers[fiber.detail];
      return fmt::format("{}: barrier {} has {} of {} threads", fiber.instruction, fiber.detail,
                         barrier.arrived, barrier.threads == 0 ? block.live : barrier.threads);
    }
    case WaitKind::cluster:
      return fmt::format("the cluster barrier, which has {} of {} threads", block.cluster->arrived,
                         block.cluster->live);
    case WaitKind::mbarrier: {
      const MBarrier& barrier = mbarrier_at({&block, fiber.detail}, "a report");
      return fmt::format(
          "the mbarrier at {:#x} to end a phase of parity {}: it is in phase {} (parity {}), which "
          "lacks {} of {} arrivals and {} bytes",
          fiber.detail, fiber.detail2, barrier.phase, barrier.phase & 1U, barrier.pending,
          barrier.expected, barrier.bytes);
    }
    case WaitKind::wgmma:
      return "wgmma that not all four warps of the warpgroup have issued";
    case WaitKind::registers:
      return fmt::format("setmaxnreg.inc to {}, with {} registers free", fiber.detail,
                         block.free_registers);
    case WaitKind::spin:
      return fmt::format("{}, again and again", fiber.instruction);
  }
  return "something";
}

void Grid::report_deadlock() {
  std::vector<std::string> lines;
  for (const auto& cluster : resident_)
    for (auto& block : cluster->blocks)
      for (const Warp& warp : block.warps) {
        std::map<std::string, U32> waits;
        for (const Fiber* fiber : warp.fibers)
          if (fiber != nullptr && !fiber->done) waits[describe_wait(*fiber)] |= 1U << fiber->lane;
        for (const auto& [what, lanes] : waits)
          lines.push_back(fmt::format("block ({}, {}, {}) warp {} lanes {}: {}", block.index.x,
                                      block.index.y, block.index.z, warp.index, lanes_text(lanes),
                                      what));
      }
  constexpr std::size_t most = 40;
  if (lines.size() > most) lines.resize(most);
  if (const auto left = cluster_order_.size() - next_cluster_; left > 0)
    lines.push_back(fmt::format("{} blocks have not begun: {} fit on the device at once",
                                left * volume(request_.cluster),
                                resident_limit() * volume(request_.cluster)));
  raise(fmt::format("deadlock: no thread can go on. They wait for\n  {}\n",
                    fmt::join(lines, "\n  ")));
}

// ------------------------------------------------------------------------------- lanes

void Grid::collective(U32 mask, bool aligned, const char* instruction, void* payload,
                      void (*execute)(Grid&, Warp&, Collective&)) {
  Fiber& fiber = self();
  Warp& warp = *fiber.warp;
  const U32 bit = 1U << fiber.lane;
  if (aligned && warp.live() != 0xffffffffU)
    raise(fmt::format("{} needs all 32 lanes of the warp, which has {}", instruction,
                      lanes_text(warp.live())));
  if ((mask & bit) == 0)
    raise(
        fmt::format("{} with the mask {:#x}, which the lane itself is not in", instruction, mask));
  std::size_t index = 0;
  while (index < warp.collectives.size() &&
         (warp.collectives[index].mask != mask || warp.collectives[index].execute != execute ||
          (warp.collectives[index].arrived & bit) != 0 ||
          std::strcmp(warp.collectives[index].instruction, instruction) != 0))
    ++index;
  if (index == warp.collectives.size())
    warp.collectives.push_back({instruction, execute, mask, 0, {}});
  Collective& mine = warp.collectives[index];
  mine.arrived |= bit;
  mine.payload[static_cast<std::size_t>(fiber.lane)] = payload;
  if (mine.arrived == (mask & warp.live())) return complete(warp, index);
  wait(WaitKind::lanes, instruction);
}

void Grid::complete(Warp& warp, std::size_t index) {
  Collective collective = warp.collectives[index];
  warp.collectives.erase(warp.collectives.begin() + static_cast<std::ptrdiff_t>(index));
  collective.execute(*this, warp, collective);
  for (U32 lanes = collective.arrived; lanes != 0; lanes &= lanes - 1) {
    Fiber* fiber = warp.fibers[static_cast<std::size_t>(std::countr_zero(lanes))];
    if (fiber != running_) wake(*fiber);
  }
}

namespace {

struct Exchange {
  U64 value;
  U64* all;
  U32 present;
};

}  // namespace

U32 Grid::exchange(U32 mask, U64 value, U64 (&all)[32], const char* instruction) {
  Exchange mine{value, all, 0};
  collective(mask, false, instruction, &mine, [](Grid&, Warp&, Collective& lanes) {
    for (U32 to = lanes.arrived; to != 0; to &= to - 1) {
      auto& target =
          *static_cast<Exchange*>(lanes.payload[static_cast<std::size_t>(std::countr_zero(to))]);
      target.present = lanes.arrived;
      for (U32 from = lanes.arrived; from != 0; from &= from - 1) {
        const auto lane = static_cast<std::size_t>(std::countr_zero(from));
        target.all[lane] = static_cast<Exchange*>(lanes.payload[lane])->value;
      }
    }
  });
  return mine.present;
}

// ------------------------------------------------------------------------------- shared memory

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
