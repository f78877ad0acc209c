#include "runtime/launch/launch_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "runtime/launch/memory_overlap.h"
#include "runtime/operators/problem.h"

namespace cudadent {

LaunchChecks::LaunchChecks(const OperatorManifest& op) : order_(op.call_order()) {
  for (std::size_t i = 0; i < op.tensors.size(); ++i) {
    if (!op.tensors[i].output) continue;
    outputs_ |= 1U << i;
    for (const auto& name : op.tensors[i].in_place) in_place_[i] |= 1U << *op.tensor_index(name);
  }
  for (std::size_t i = 0; i < op.scalars.size(); ++i)
    if (!op.scalars[i].in_problem) limits_.push_back({i, op.scalars[i].least, op.scalars[i].most});
}

bool LaunchChecks::pass(std::span<const Tensor> tensors,
                        std::span<const double> scalars) const noexcept {
  if (!scalars.empty())
    for (const auto& [scalar, least, most] : limits_)
      if (scalars[scalar] < least || scalars[scalar] > most) return false;
  return find_overlap(tensors).output == tensors.size();
}

void LaunchChecks::check(const OperatorManifest& op, std::span<const Tensor> tensors,
                         std::span<const double> scalars) const {
  if (!scalars.empty())
    for (const auto& limits : limits_)
      if (!std::isnan(scalars[limits.scalar]))
        check_scalar(op, op.scalars[limits.scalar], scalars[limits.scalar]);
  const auto [output, other] = find_overlap(tensors);
  if (output == tensors.size()) return;
  const TensorSpec& spec = op.tensors[order_.place(output, tensors.size())];
  const std::string& name = op.tensors[order_.place(other, tensors.size())].name;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{}: {} shares memory with {}, which the kernels read or write meanwhile{}. "
                  "Pass memory of its own.",
                  op.name, spec.name, name,
                  spec.in_place.empty()
                      ? std::string()
                      : fmt::format("; it may only be {} itself, with the same strides",
                                    fmt::join(spec.in_place, " or "))));
}

LaunchChecks::Pair LaunchChecks::find_overlap(std::span<const Tensor> tensors) const noexcept {
  const std::size_t count = tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t place = order_.place(i, count);
    if ((outputs_ >> place & 1U) == 0 || !tensors[i].present()) continue;
    const ByteRange written = byte_range(tensors[i]);
    for (std::size_t j = 0; j < count; ++j) {
      if (!tensors[j].present()) continue;
      const std::size_t other = order_.place(j, count);
      // Of two outputs once.
      if (j == i || ((outputs_ >> other & 1U) != 0 && j < i)) continue;
      // Most are apart; that of many is seen without their strides.
      if (reinterpret_cast<std::uintptr_t>(tensors[j].data) >= written.end ||
          !written.meets(byte_range(tensors[j])))
        continue;
      if (!may_meet(place, other, tensors[i], tensors[j])) return {i, j};
    }
  }
  return {count, count};
}

// Where their ranges of memory meet.
bool LaunchChecks::may_meet(std::size_t output, std::size_t other, const Tensor& a,
                            const Tensor& b) const noexcept {
  if ((in_place_[output] >> other & 1U) != 0 && same_elements(a, b)) return true;
  return !elements_meet(a, b);
}

}  // namespace cudadent
