#include "runtime/launch/memory_overlap.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace cudadent {

namespace {

// A run of `bytes` that repeats along some dimensions, those with the longest steps first.
struct Layout {
  struct Dimension {
    std::int64_t step = 0, count = 1;  // bytes, and how many
    std::int64_t inside = 0;           // bytes from the first to the last that one step holds
  };
  std::array<Dimension, max_rank> dimensions;
  std::size_t rank = 0;
  std::int64_t bytes = 0;

  explicit Layout(const Tensor& tensor) : bytes(static_cast<std::int64_t>(size_of(tensor.dtype))) {
    const auto element = bytes;
    for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.rank); ++i)
      if (tensor.shape[i] > 1 && tensor.strides[i] > 0)
        dimensions[rank++] = {tensor.strides[i] * element, tensor.shape[i], 0};
    std::sort(dimensions.begin(), dimensions.begin() + static_cast<std::ptrdiff_t>(rank),
              [](const Dimension& a, const Dimension& b) { return a.step > b.step; });
    // What lies side by side is one run.
    while (rank > 0 && dimensions[rank - 1].step <= bytes) {
      const Dimension& inner = dimensions[--rank];
      bytes += (inner.count - 1) * inner.step;
    }
    for (std::size_t i = rank; i-- > 0;) dimensions[i].inside = extent(i + 1);
  }
  // Bytes from the first to the last of what is inside the first `depth` dimensions.
  [[nodiscard]] std::int64_t extent(std::size_t depth) const {
    if (depth >= rank) return bytes;
    const Dimension& outer = dimensions[depth];
    return (outer.count - 1) * outer.step + outer.inside;
  }
};

// Rounded down; b is positive.
std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

class Search {
 public:
  Search(const Layout& a, const Layout& b) : a_(a), b_(b) {}

  // Whether what is inside the first `i` dimensions of a and the first `j` of b meets, where that of b begins
  // `distance` bytes behind that of a.
  bool meet(std::size_t i, std::size_t j, std::int64_t distance) {
    if (distance >= a_.extent(i) || -distance >= b_.extent(j)) return false;
    const bool a_ends = i == a_.rank, b_ends = j == b_.rank;
    if (a_ends && b_ends) return true;
    if (--left_ < 0) return false;
    const std::int64_t a_step = a_ends ? 0 : a_.dimensions[i].step;
    const std::int64_t b_step = b_ends ? 0 : b_.dimensions[j].step;
    // Steps of both by the same: what counts is how many more one has taken.
    if (a_step == b_step)
      return any(a_.dimensions[i].inside, b_.dimensions[j].inside, a_step, distance,
                 1 - b_.dimensions[j].count, a_.dimensions[i].count - 1,
                 [&](std::int64_t after) { return meet(i + 1, j + 1, after); });
    if (a_step > b_step)
      return any(a_.dimensions[i].inside, b_.extent(j), a_step, distance, 0,
                 a_.dimensions[i].count - 1,
                 [&](std::int64_t after) { return meet(i + 1, j, after); });
    return any(a_.extent(i), b_.dimensions[j].inside, b_step, distance, 1 - b_.dimensions[j].count,
               0, [&](std::int64_t after) { return meet(i, j + 1, after); });
  }

 private:
  // Whether `then` holds for a number of steps of a from `least` to `most` after which so many bytes of a and b
  // meet; it gets the distance from there.
  template <class Then>
  bool any(std::int64_t a_bytes, std::int64_t b_bytes, std::int64_t step, std::int64_t distance,
           std::int64_t least, std::int64_t most, Then then) {
    // distance - steps · step is above -b_bytes and below a_bytes.
    const std::int64_t first = std::max(least, floor_div(distance - a_bytes, step) + 1);
    const std::int64_t last = std::min(most, floor_div(distance + b_bytes - 1, step));
    for (std::int64_t steps = first; steps <= last && left_ >= 0; ++steps)
      if (then(distance - steps * step)) return true;
    return false;
  }

  const Layout &a_, &b_;
  int left_ = 4096;  // comparisons
};

}  // namespace

ByteRange byte_range(const Tensor& tensor) noexcept {
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
  std::int64_t last = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.rank); ++i) {
    if (tensor.shape[i] == 0) return {};
    last += (tensor.shape[i] - 1) * tensor.strides[i];
  }
  return {begin, begin + (static_cast<std::uintptr_t>(last) + 1) * size_of(tensor.dtype)};
}

bool elements_meet(const Tensor& a, const Tensor& b) noexcept {
  if (!byte_range(a).meets(byte_range(b))) return false;
  const Layout of_a(a), of_b(b);
  const auto distance = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(b.data) -
                                                  reinterpret_cast<std::uintptr_t>(a.data));
  return Search(of_a, of_b).meet(0, 0, distance);
}

bool same_elements(const Tensor& a, const Tensor& b) noexcept {
  if (a.data != b.data || a.dtype != b.dtype) return false;
  // Dimensions of one element are not stepped along.
  const auto next = [](const Tensor& tensor, std::size_t i) {
    while (i < static_cast<std::size_t>(tensor.rank) && tensor.shape[i] == 1) ++i;
    return i;
  };
  const auto a_rank = static_cast<std::size_t>(a.rank), b_rank = static_cast<std::size_t>(b.rank);
  std::size_t i = next(a, 0), j = next(b, 0);
  for (; i < a_rank && j < b_rank; i = next(a, i + 1), j = next(b, j + 1))
    if (a.shape[i] != b.shape[j] || a.strides[i] != b.strides[j]) return false;
  return i >= a_rank && j >= b_rank;
}

}  // namespace cudadent
