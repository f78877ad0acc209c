// What a launch says when it fails: which thread, where, and what all the others wait for.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "emulator/grid.h"

namespace cudadent::emulator {

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
  constexpr std::size_t max_lines = 40;
  if (lines.size() > max_lines) lines.resize(max_lines);
  if (const auto left = cluster_order_.size() - next_cluster_; left > 0)
    lines.push_back(fmt::format("{} blocks have not begun: {} fit on the device at once",
                                left * volume(request_.cluster),
                                resident_limit() * volume(request_.cluster)));
  raise(fmt::format("deadlock: no thread can go on. They wait for\n  {}\n",
                    fmt::join(lines, "\n  ")));
}

}  // namespace cudadent::emulator
