// How the elements of a tensor lie in memory: arithmetic on shapes and strides, both outermost first
// and in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cudadent {

using Extents = std::span<const std::int64_t>;

// Larger strides, in elements, are taken for a mistake; products with extents stay within 64 bits.
inline constexpr std::int64_t max_stride = std::int64_t{1} << 40;

// Goes through a tensor's dimensions from the innermost outwards and says what each one's stride is if it
// steps over what lies inside it and no more.
class Packing {
 public:
  [[nodiscard]] std::int64_t stride() const noexcept { return stride_; }
  void add(std::int64_t extent, std::int64_t stride) noexcept {
    if (extent * stride > stride_) stride_ = extent * stride;
  }

 private:
  std::int64_t stride_ = 1;
};

bool is_empty(Extents shape) noexcept;
// Whether going along dimension i ever leaves the first element.
inline bool is_stepped_over(Extents shape, std::size_t i) noexcept {
  return shape[i] > 1 && !is_empty(shape);
}

std::vector<std::int64_t> packed_strides(Extents shape);

// Elements from the first to behind the last, gaps included; 0 when there are none. No stride is
// negative.
std::int64_t span_of(Extents shape, Extents strides) noexcept;

// Whether every stride steps over all that the smaller ones reach, so that no two elements can share
// memory. Of at most max_rank dimensions.
bool steps_over_its_inside(Extents shape, Extents strides) noexcept;

// Whether every row starts at a multiple of `bytes` if the first does, and the elements of a row lie side
// by side.
bool rows_are_multiples_of(std::int64_t bytes, Extents shape, Extents strides,
                           std::size_t element_size) noexcept;

}  // namespace cudadent
