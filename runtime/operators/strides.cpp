#include "runtime/operators/strides.h"

#include <cudadent/cudadent.h>

#include <algorithm>
#include <array>

namespace cudadent {

bool is_empty(Extents shape) noexcept {
  return std::find(shape.begin(), shape.end(), 0) != shape.end();
}

std::vector<std::int64_t> packed_strides(Extents shape) {
  std::vector<std::int64_t> strides(shape.size());
  Packing packing;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = packing.stride();
    packing.add(shape[i], strides[i]);
  }
  return strides;
}

std::int64_t span_of(Extents shape, Extents strides) noexcept {
  if (is_empty(shape)) return 0;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) last += (shape[i] - 1) * strides[i];
  return last + 1;
}

bool steps_over_its_inside(Extents shape, Extents strides) noexcept {
  std::array<std::size_t, max_rank> order;  // of dimensions, by their strides
  std::size_t count = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (!is_stepped_over(shape, i)) continue;
    std::size_t place = count++;
    for (; place > 0 && strides[order[place - 1]] > strides[i]; --place)
      order[place] = order[place - 1];
    order[place] = i;
  }
  std::int64_t reached = 0;
  for (const std::size_t i : std::span(order).first(count)) {
    if (strides[i] <= reached) return false;
    reached += (shape[i] - 1) * strides[i];
  }
  return true;
}

bool rows_are_multiples_of(std::int64_t bytes, Extents shape, Extents strides,
                           std::size_t element_size) noexcept {
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (!is_stepped_over(shape, i)) continue;
    const bool is_row = i + 1 == shape.size();
    const std::int64_t step = strides[i] * static_cast<std::int64_t>(element_size);
    if (is_row ? strides[i] != 1 : step % bytes != 0) return false;
  }
  return true;
}

}  // namespace cudadent
