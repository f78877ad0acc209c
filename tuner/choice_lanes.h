// Arithmetic on a node's values for many values of a parameter at once.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/language/operand.h"

namespace cudadent {

// A node's value for every value of the last parameter: one integer a lane, or the same for all.
struct Lanes {
  const std::int64_t* each = nullptr;
  std::int64_t all = 0;
};

// What apply() does for integers and booleans, whose results in lanes are all integers: truth and
// arithmetic are the same. False where it would fail, overflow or leave the integers: then values are
// taken one by one.
bool apply_lanes(Operation operation, Lanes left, Lanes right, std::span<std::int64_t> result);

}  // namespace cudadent
