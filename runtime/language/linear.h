// Expressions that are linear in their only name.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/language/expression.h"

namespace cudadent {

// factor · name + offset.
struct Linear {
  std::int64_t factor = 1, offset = 0;
};

// Of an expression of one name, integers, +, − and ·, such as "2*(batch + 1)", whose factor is above 0.
// Nothing for others.
std::optional<Linear> linear_in_its_name(const Expression& expression);

}  // namespace cudadent
