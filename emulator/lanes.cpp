// What the lanes of a warp do together.
#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "emulator/grid.h"

namespace cudadent::emulator {

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

}  // namespace cudadent::emulator
