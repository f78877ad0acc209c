// The layout of argument blocks: pure arithmetic on a plan.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "runtime/backends/cuda/executable.h"

namespace cudadent::cuda {

namespace {

constexpr std::size_t map_bytes = sizeof(TensorMap);
constexpr std::size_t value_bytes = 8;  // the largest parameter that is not a tensor map
constexpr std::size_t workspace_alignment = 256;

std::size_t round_up(std::size_t bytes, std::size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

TensorMapType tensor_map_type(DataType type) {
  switch (type) {
    case DataType::f64:
      return TensorMapType::f64;
    case DataType::f32:
      return TensorMapType::f32;
    case DataType::bf16:
      return TensorMapType::bf16;
    case DataType::f16:
      return TensorMapType::f16;
    case DataType::i64:
      return TensorMapType::i64;
    case DataType::i32:
      return TensorMapType::i32;
    default:
      return TensorMapType::u8;
  }
}

// The enumeration's number for one of the sizes it knows; −1 for others.
int number_of(int bytes, std::array<int, 4> sizes) {
  for (int i = 0; i < 4; ++i)
    if (sizes[static_cast<std::size_t>(i)] == bytes) return i;
  return -1;
}

// The first rule of cuTensorMapEncodeTiled (CUDA driver API, "Tensor Map Object Management") that
// the map breaks; empty when it breaks none. The driver would only say "invalid value".
std::string why_impossible(const TensorMapPlan& map) {
  const std::size_t rank = map.dimensions.size();
  if (rank < 1 || rank > 5) return fmt::format("has {} dimensions, not 1 to 5", rank);
  if (map.box.size() != rank || map.strides.size() + 1 != rank)
    return "needs a box side for each dimension and a stride for each but the innermost";
  for (std::size_t i = 0; i < rank; ++i) {
    if (map.dimensions[i] < 1 || map.dimensions[i] > (std::uint64_t{1} << 32))
      return fmt::format("has dimension {} of {} elements, not 1 to 2^32", i, map.dimensions[i]);
    if (map.box[i] < 1 || map.box[i] > 256)
      return fmt::format("has a box of {} elements in dimension {}, not 1 to 256", map.box[i], i);
  }
  for (const std::uint64_t stride : map.strides)
    if (stride % 16 != 0 || stride >= (std::uint64_t{1} << 40))
      return fmt::format("has a stride of {} bytes, not a multiple of 16 below 2^40", stride);
  const std::size_t inner = map.box[0] * size_of(map.dtype);
  if (inner % 16 != 0)
    return fmt::format("has a box of {} bytes innermost, not a multiple of 16", inner);
  if (number_of(map.swizzle, {0, 32, 64, 128}) < 0)
    return fmt::format("has a swizzle of {} bytes, not 0, 32, 64 or 128", map.swizzle);
  if (map.swizzle > 0 && inner > static_cast<std::size_t>(map.swizzle))
    return fmt::format("has a box of {} bytes innermost, more than its swizzle of {}", inner,
                       map.swizzle);
  if (number_of(map.l2_promotion, {0, 64, 128, 256}) < 0)
    return fmt::format("has an L2 promotion of {} bytes, not 0, 64, 128 or 256", map.l2_promotion);
  return {};
}

// A tensor without elements has no map: the kernel gets zeros, which it must not use.
bool is_empty(const TensorMapPlan& map) {
  return std::find(map.dimensions.begin(), map.dimensions.end(), 0U) != map.dimensions.end();
}

// What differs between plans of the same kernels.
void take_numbers(const TensorMapPlan& map, TensorMapEncoding& encoding) {
  encoding.rank = static_cast<std::uint32_t>(map.dimensions.size());
  std::copy(map.dimensions.begin(), map.dimensions.end(), encoding.dimensions.begin());
  std::copy(map.strides.begin(), map.strides.end(), encoding.strides.begin());
  std::copy(map.box.begin(), map.box.end(), encoding.box.begin());
}

TensorMapEncoding encoding_of(const TensorMapPlan& map, bool used, std::size_t workspace_count) {
  TensorMapEncoding encoding;
  encoding.used = used;
  encoding.name = map.name;
  if (!used) return encoding;
  if (map.index < 0 || (map.of_workspace && static_cast<std::size_t>(map.index) >= workspace_count))
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("Tensor map '{}' is of a workspace the plan does not have.", map.name));
  encoding.of_workspace = map.of_workspace;
  encoding.index = static_cast<std::uint32_t>(map.index);
  encoding.type = tensor_map_type(map.dtype);
  encoding.swizzle = number_of(map.swizzle, {0, 32, 64, 128});
  encoding.l2_promotion = number_of(map.l2_promotion, {0, 64, 128, 256});
  if (is_empty(map)) return encoding;
  if (const std::string why = why_impossible(map); !why.empty())
    throw Error(
        ErrorCode::launch_failed,
        fmt::format("Tensor map '{}' {}; constrain the template's parameters.", map.name, why));
  take_numbers(map, encoding);
  return encoding;
}

// A manifest's map that this configuration passes to no kernel need not be possible.
std::vector<bool> used_tensor_maps(const LaunchPlan& plan) {
  std::vector<bool> used(plan.tensor_maps.size());
  for (const KernelLaunch& launch : plan.launches)
    for (const Argument& argument : launch.arguments)
      if (argument.kind == Argument::Kind::tensor_map && argument.index >= 0 &&
          static_cast<std::size_t>(argument.index) < used.size())
        used[static_cast<std::size_t>(argument.index)] = true;
  return used;
}

void place_workspaces(const LaunchPlan& plan, ArgumentLayout& layout) {
  layout.workspace_offsets.assign(plan.workspaces.size(), 0);
  layout.workspace_used.assign(plan.workspaces.size(), false);
  layout.workspace_kept.assign(plan.workspaces.size(), false);
  layout.workspace_bytes = layout.kept_bytes = layout.zeroed_bytes = 0;
  for (const Zeroed zeroed : {Zeroed::kept, Zeroed::every_launch, Zeroed::no}) {
    std::size_t& bytes = zeroed == Zeroed::kept ? layout.kept_bytes : layout.workspace_bytes;
    for (std::size_t i = 0; i < plan.workspaces.size(); ++i) {
      const WorkspacePlan& workspace = plan.workspaces[i];
      if (workspace.bytes == 0 || workspace.zeroed != zeroed) continue;
      layout.workspace_offsets[i] = bytes;
      layout.workspace_used[i] = true;
      layout.workspace_kept[i] = zeroed == Zeroed::kept;
      bytes += round_up(workspace.bytes, workspace_alignment);
    }
    if (zeroed == Zeroed::every_launch) layout.zeroed_bytes = layout.workspace_bytes;
  }
}

bool is_number(const Argument& argument) {
  return argument.kind == Argument::Kind::i32 || argument.kind == Argument::Kind::i64 ||
         argument.kind == Argument::Kind::f32;
}

// Of a number as it is passed. The low half of a little-endian i64 is the i32.
std::uint64_t bits_of(const Argument& argument) {
  return argument.kind == Argument::Kind::f32
             ? std::bit_cast<std::uint32_t>(static_cast<float>(argument.real))
             : static_cast<std::uint64_t>(argument.integer);
}

// Hands out values, one for each tensor, workspace and scalar however often it is passed.
class Placer {
 public:
  Placer(const LaunchPlan& plan, ArgumentLayout& layout)
      : plan_(plan), layout_(layout), end_(map_bytes * plan.tensor_maps.size()) {}

  std::uint32_t place(const Argument& argument) {
    using Kind = Argument::Kind;
    switch (argument.kind) {
      case Kind::tensor:
        return shared(layout_.tensors, argument.index);
      case Kind::workspace:
        require(argument.index, plan_.workspaces.size(), "workspace");
        return shared(layout_.workspaces, argument.index);
      case Kind::scalar:
        return shared(layout_.scalars, argument.index);
      case Kind::tensor_map:
        require(argument.index, plan_.tensor_maps.size(), "tensor map");
        return static_cast<std::uint32_t>(map_bytes) * static_cast<std::uint32_t>(argument.index);
      case Kind::i32:
      case Kind::i64:
      case Kind::f32:
        return constant(bits_of(argument));
    }
    throw Error(ErrorCode::internal, "a kernel argument of an unknown kind");
  }
  [[nodiscard]] std::size_t end() const { return end_; }

 private:
  static void require(std::int32_t index, std::size_t count, const char* what) {
    if (index < 0 || static_cast<std::size_t>(index) >= count)
      throw Error(ErrorCode::invalid_manifest,
                  fmt::format("A kernel argument names {} {} of {}.", what, index, count));
  }
  std::uint32_t next_value() {
    const auto offset = static_cast<std::uint32_t>(end_);
    end_ += value_bytes;
    return offset;
  }
  std::uint32_t shared(std::vector<ArgumentLayout::Patch>& patches, std::int32_t index) {
    require(index, std::numeric_limits<std::int32_t>::max(), "tensor or scalar");
    for (const auto& patch : patches)
      if (patch.index == static_cast<std::uint32_t>(index)) return patch.offset;
    patches.push_back({static_cast<std::uint32_t>(index), next_value()});
    return patches.back().offset;
  }
  std::uint32_t constant(std::uint64_t bits) {
    layout_.constants.push_back({next_value(), bits});
    return layout_.constants.back().offset;
  }

  const LaunchPlan& plan_;
  ArgumentLayout& layout_;
  std::size_t end_;
};

}  // namespace

ArgumentLayout lay_out(const LaunchPlan& plan) {
  ArgumentLayout layout;
  place_workspaces(plan, layout);
  const std::vector<bool> used = used_tensor_maps(plan);
  for (std::size_t i = 0; i < plan.tensor_maps.size(); ++i)
    layout.tensor_maps.push_back(encoding_of(plan.tensor_maps[i], used[i], plan.workspaces.size()));
  Placer placer(plan, layout);
  for (const KernelLaunch& launch : plan.launches)
    for (const Argument& argument : launch.arguments)
      layout.parameters.push_back(placer.place(argument));
  layout.pointers_offset = placer.end();
  layout.addresses_offset = layout.pointers_offset + sizeof(void*) * layout.parameters.size();
  layout.bytes = round_up(layout.addresses_offset + sizeof(void*) * layout.tensor_maps.size(),
                          alignof(TensorMap));
  for (const auto& patch : layout.tensors)
    layout.tensor_count = std::max<std::size_t>(layout.tensor_count, patch.index + 1);
  for (const auto& map : layout.tensor_maps)
    if (map.used && !map.of_workspace)
      layout.tensor_count = std::max<std::size_t>(layout.tensor_count, map.index + 1);
  for (const auto& patch : layout.scalars)
    layout.scalar_count = std::max<std::size_t>(layout.scalar_count, patch.index + 1);
  return layout;
}

bool lay_out_again(const LaunchPlan& plan, ArgumentLayout& layout,
                   std::vector<bool>& changed_maps) {
  place_workspaces(plan, layout);
  std::size_t next = 0;  // constants are in the order in which they are passed
  for (const KernelLaunch& launch : plan.launches)
    for (const Argument& argument : launch.arguments)
      if (is_number(argument)) layout.constants[next++].bits = bits_of(argument);
  bool possible = true;
  for (std::size_t i = 0; i < layout.tensor_maps.size(); ++i) {
    TensorMapEncoding& encoding = layout.tensor_maps[i];
    const TensorMapPlan& map = plan.tensor_maps[i];
    changed_maps[i] = false;
    if (!encoding.used) continue;
    const std::uint32_t rank = encoding.rank;
    const auto dimensions = encoding.dimensions, strides = encoding.strides;
    const auto box = encoding.box;
    if (is_empty(map))
      encoding.rank = 0;
    else if (why_impossible(map).empty())
      take_numbers(map, encoding);
    else
      possible = false;
    changed_maps[i] = encoding.rank != rank || encoding.dimensions != dimensions ||
                      encoding.strides != strides || encoding.box != box;
  }
  return possible;
}

}  // namespace cudadent::cuda
