// Launch plans as text, to be compared.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

#include "runtime/operators/launch_plan.h"

namespace cudadent::tests {

inline std::string describe(const LaunchPlan& plan) {
  std::string text;
  for (const auto& workspace : plan.workspaces)
    text += fmt::format("workspace {}: {} bytes, zeroed {}\n", workspace.name, workspace.bytes,
                        static_cast<int>(workspace.zeroed));
  for (const auto& map : plan.tensor_maps)
    text +=
        fmt::format("map {} of {}{} {}: {} strides {} box {} swizzle {} promotion {}\n", map.name,
                    map.of_workspace ? "workspace " : "", map.index, name_of(map.dtype),
                    fmt::join(map.dimensions, ","), fmt::join(map.strides, ","),
                    fmt::join(map.box, ","), map.swizzle, map.l2_promotion);
  for (const auto& launch : plan.launches) {
    text += fmt::format("{} grid {} block {} cluster {} shared {}:", launch.entry,
                        fmt::join(launch.grid, "x"), fmt::join(launch.block, "x"),
                        fmt::join(launch.cluster, "x"), launch.shared_memory);
    for (const auto& argument : launch.arguments)
      text += fmt::format(" {}:{}:{}:{}", static_cast<int>(argument.kind), argument.index,
                          argument.integer, argument.real);
    text += "\n";
  }
  return text;
}

}  // namespace cudadent::tests
