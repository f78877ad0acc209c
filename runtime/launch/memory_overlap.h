// Whether two tensors have memory in common.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>

namespace cudadent {

// The bytes from a tensor's first element to behind its last, gaps included; {0, 0}, which meets nothing, where it
// has no elements. No stride is negative.
struct ByteRange {
  std::uintptr_t begin = 0, end = 0;

  [[nodiscard]] bool meets(const ByteRange& other) const noexcept {
    return begin < other.end && other.begin < end;
  }
};
ByteRange byte_range(const Tensor& tensor) noexcept;

// Whether an element of one has a byte of an element of the other: not, for example, where one has the
// columns of a matrix that the other lacks. Found exactly, but for layouts that would take more than some
// thousand comparisons, as two of other strides that interleave everywhere do: those count as apart.
bool elements_meet(const Tensor& a, const Tensor& b) noexcept;

// Whether both have the same elements in the same order: element i of one is where element i of the other is.
bool same_elements(const Tensor& a, const Tensor& b) noexcept;

}  // namespace cudadent
