// What a launch is asked on every call, whether its problem is known or not: outputs lie apart from what else
// the kernels read and write, and numbers that arrive at launch are within their limits.
#pragma once

#include <cudadent/cudadent.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/language/manifest.h"

namespace cudadent {

class LaunchChecks {
 public:
  LaunchChecks() = default;
  explicit LaunchChecks(const OperatorManifest& op);

  // Tensors as a call gives them, no more than the manifest has, and scalars in its order, as many as it has or
  // none; a NaN stands for what is bound or the default. Allocates nothing.
  [[nodiscard]] bool pass(std::span<const Tensor> tensors,
                          std::span<const double> scalars) const noexcept;
  // Throws Error(invalid_argument) that says what does not pass.
  void check(const OperatorManifest& op, std::span<const Tensor> tensors,
             std::span<const double> scalars) const;

 private:
  struct Limits {
    std::size_t scalar;
    double least, most;
  };
  // Of two tensors of a call by their indices; `output` is the first.
  struct Pair {
    std::size_t output, other;
  };
  // The first output that lies over another tensor; outputs beyond the tensors' number where none does.
  [[nodiscard]] Pair find_overlap(std::span<const Tensor> tensors) const noexcept;
  [[nodiscard]] bool may_meet(std::size_t output, std::size_t other, const Tensor& a,
                              const Tensor& b) const noexcept;

  CallOrder order_;
  std::uint32_t outputs_ = 0;  // a bit for each tensor of the manifest
  std::array<std::uint32_t, max_tensors>
      in_place_{};  // of an output: inputs whose elements it may replace
  std::vector<Limits>
      limits_;  // of scalars that are not in the problem, where these are looked at with it
};

}  // namespace cudadent
