// What a specialization launches, with every expression evaluated: plain numbers a backend can run.
#pragma once

#include <cudadent/cudadent.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/language/manifest.h"
#include "runtime/operators/problem.h"

namespace cudadent {

struct Argument {
  enum class Kind : std::uint8_t { tensor, workspace, tensor_map, scalar, i32, i64, f32 };
  Kind kind = Kind::i32;
  std::int32_t index = 0;    // of the tensor, workspace, tensor map or scalar
  std::int64_t integer = 0;  // i32, i64
  double real = 0;           // f32
};

struct KernelLaunch {
  std::string entry;
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{1, 1, 1};
  std::array<std::uint32_t, 3> cluster{1, 1, 1};
  std::uint32_t shared_memory = 0;  // dynamic, bytes
  std::vector<Argument> arguments;
};

struct WorkspacePlan {
  std::string name;
  std::size_t bytes = 0;  // 0: not needed by this configuration
  Zeroed zeroed = Zeroed::no;
};

struct TensorMapPlan {
  std::string name;
  bool of_workspace = false;
  std::int32_t index = 0;  // of the tensor or workspace
  DataType dtype = DataType::f32;
  std::vector<std::uint64_t> dimensions;  // elements, innermost first
  std::vector<std::uint64_t> strides;     // bytes, rank − 1
  std::vector<std::uint32_t> box;         // elements
  int swizzle = 0;                        // bytes
  int l2_promotion = 0;                   // bytes
};

// To be called when the dimensions are there: strides are those that the manifest gives, or none where the map is
// packed. Where they have been there before, it allocates nothing.
inline void complete(TensorMapPlan& map, bool packed) {
  if (packed) {
    map.strides.clear();
    std::uint64_t stride = size_of(map.dtype);
    for (std::size_t i = 0; i + 1 < map.dimensions.size(); ++i)
      map.strides.push_back(stride *= map.dimensions[i]);
  }
  // The engine wants multiples of 16 bytes also where it never steps along: the stride of a
  // dimension with one element may be anything.
  for (std::size_t i = 0; i < map.strides.size() && i + 1 < map.dimensions.size(); ++i)
    if (map.dimensions[i + 1] == 1)
      map.strides[i] = std::max<std::uint64_t>(16, (map.strides[i] + 15) / 16 * 16);
}

struct LaunchPlan {
  std::vector<WorkspacePlan> workspaces;
  std::vector<TensorMapPlan> tensor_maps;
  std::vector<KernelLaunch> launches;  // empty when an output has no elements
};

}  // namespace cudadent
