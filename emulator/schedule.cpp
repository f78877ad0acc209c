#include "emulator/schedule.h"

#include <fmt/format.h>

#include <array>

namespace cudadent::emulator {

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

}  // namespace cudadent::emulator
