#include "tuner/choice_lanes.h"

#include <cstddef>
#include <functional>

namespace cudadent {

namespace {

// Calls `function(left, right)` for every lane; false when one of them says it cannot.
template <class Function>
bool for_lanes(Lanes left, Lanes right, std::span<std::int64_t> result, Function&& function) {
  bool fits = true;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::int64_t a = left.each != nullptr ? left.each[i] : left.all;
    const std::int64_t b = right.each != nullptr ? right.each[i] : right.all;
    fits &= function(a, b, result[i]);
  }
  return fits;
}

// Python's // and % of what is not negative, which is quicker in 32 bits where that is enough.
template <bool remainder>
bool divide(std::int64_t a, std::int64_t b, std::int64_t& result) {
  if (a < 0 || b <= 0) return false;
  if (((a | b) >> 32U) == 0) {
    const auto x = static_cast<std::uint32_t>(a), y = static_cast<std::uint32_t>(b);
    result = remainder ? x % y : x / y;
  } else {
    result = remainder ? a % b : a / b;
  }
  return true;
}

}  // namespace

bool apply_lanes(Operation operation, Lanes left, Lanes right, std::span<std::int64_t> result) {
  using Number = std::int64_t;
  const auto compared = [&](auto&& holds) {
    return for_lanes(left, right, result, [&](Number a, Number b, Number& r) {
      r = holds(a, b) ? 1 : 0;
      return true;
    });
  };
  switch (operation) {
    case Operation::add:
      return for_lanes(left, right, result, [](Number a, Number b, Number& r) {
        return !__builtin_add_overflow(a, b, &r);
      });
    case Operation::subtract:
      return for_lanes(left, right, result, [](Number a, Number b, Number& r) {
        return !__builtin_sub_overflow(a, b, &r);
      });
    case Operation::multiply:
      return for_lanes(left, right, result, [](Number a, Number b, Number& r) {
        return !__builtin_mul_overflow(a, b, &r);
      });
    case Operation::floor_divide:
      return for_lanes(left, right, result, divide<false>);
    case Operation::modulo:
      return for_lanes(left, right, result, divide<true>);
    case Operation::less:
      return compared(std::less<>());
    case Operation::less_equal:
      return compared(std::less_equal<>());
    case Operation::greater:
      return compared(std::greater<>());
    case Operation::greater_equal:
      return compared(std::greater_equal<>());
    case Operation::equal:
      return compared(std::equal_to<>());
    case Operation::not_equal:
      return compared(std::not_equal_to<>());
    default:
      return false;
  }
}

}  // namespace cudadent
