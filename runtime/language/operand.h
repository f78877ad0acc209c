// What expressions compute with: a Value that owns nothing, and Python's arithmetic on it.
//
// A failed operation is an operand too. It only becomes an Error when it reaches the result, so that
// a branch not taken may fail without harm and hot loops need no exception.
#pragma once

#include <cudadent/cudadent.h>

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cudadent {

enum class Operation : std::uint8_t {
  constant,
  name,
  negate,
  positive,
  logical_not,
  logical_and,
  logical_or,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  less,
  less_equal,
  greater,
  greater_equal,
  equal,
  not_equal,
  in,
  not_in,
  conditional,
  call
};
enum class BuiltIn : std::uint8_t { min, max, abs, ceil_div, round_up, pow2_ceil, gcd, size };
inline constexpr std::array<std::string_view, 8> built_in_names{
    "min", "max", "abs", "ceil_div", "round_up", "pow2_ceil", "gcd", "size"};

enum class Failure : std::uint8_t {
  unknown_name,  // detail: index of the name
  division_by_zero,
  overflow,        // an integer that does not fit 64 bits, or a power out of a float's range
  wrong_type,      // detail: the Operation
  wrong_argument,  // detail: the BuiltIn
};

// Trivially copyable; `text` is borrowed from the Value it was made of.
struct Operand {
  enum class Kind : std::uint8_t { failure, boolean, integer, real, text };

  Kind kind = Kind::integer;
  Failure failure = Failure::unknown_name;
  std::uint32_t detail = 0;
  union {
    std::int64_t integer = 0;  // also of a boolean: 0 or 1
    double real;
    const std::string* text;
  };

  static Operand of(bool value) noexcept { return of_integer(Kind::boolean, value ? 1 : 0); }
  static Operand of(std::int64_t value) noexcept { return of_integer(Kind::integer, value); }
  static Operand of(double value) noexcept {
    Operand result;
    result.kind = Kind::real;
    result.real = value;
    return result;
  }
  static Operand of(const Value& value) noexcept {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return of(*integer);
    if (const auto* real = std::get_if<double>(&value)) return of(*real);
    if (const auto* flag = std::get_if<bool>(&value)) return of(*flag);
    Operand result;
    result.kind = Kind::text;
    result.text = std::get_if<std::string>(&value);
    return result;
  }
  static Operand failed(Failure failure, std::uint32_t detail = 0) noexcept {
    Operand result;
    result.kind = Kind::failure;
    result.failure = failure;
    result.detail = detail;
    return result;
  }

  [[nodiscard]] bool is_failure() const noexcept { return kind == Kind::failure; }
  // Booleans are integers, as in Python.
  [[nodiscard]] bool is_integer() const noexcept {
    return kind == Kind::integer || kind == Kind::boolean;
  }
  [[nodiscard]] bool is_number() const noexcept { return is_integer() || kind == Kind::real; }
  [[nodiscard]] double as_double() const noexcept {
    return kind == Kind::real ? real : static_cast<double>(integer);
  }
  // Python's truth; of a failure: false.
  [[nodiscard]] bool is_true() const noexcept {
    if (kind == Kind::real) return real != 0;
    if (kind == Kind::text) return !text->empty();
    return kind != Kind::failure && integer != 0;
  }
  // The payload as it lies in memory, for telling operands of one kind apart.
  [[nodiscard]] std::uint64_t bits() const noexcept {
    if (kind == Kind::real) return std::bit_cast<std::uint64_t>(real);
    if (kind == Kind::text) return reinterpret_cast<std::uintptr_t>(text);
    return static_cast<std::uint64_t>(integer);
  }
  [[nodiscard]] Value to_value() const;  // must not be a failure

 private:
  static Operand of_integer(Kind kind, std::int64_t value) noexcept {
    Operand result;
    result.kind = kind;
    result.integer = value;
    return result;
  }
};

// negate, positive, logical_not.
Operand apply(Operation operation, Operand operand) noexcept;
// Arithmetic and comparisons; `in` and `not_in` of two texts (part of).
Operand apply_any(Operation operation, Operand left, Operand right) noexcept;

// The same, quick for the integers that nearly all expressions are about.
inline Operand apply(Operation operation, Operand left, Operand right) noexcept {
  if (left.kind != Operand::Kind::integer || right.kind != Operand::Kind::integer) {
    return apply_any(operation, left, right);
  }
  const std::int64_t a = left.integer, b = right.integer;
  std::int64_t result = 0;
  switch (operation) {
    case Operation::add:
      if (!__builtin_add_overflow(a, b, &result)) return Operand::of(result);
      break;
    case Operation::subtract:
      if (!__builtin_sub_overflow(a, b, &result)) return Operand::of(result);
      break;
    case Operation::multiply:
      if (!__builtin_mul_overflow(a, b, &result)) return Operand::of(result);
      break;
    case Operation::floor_divide:
      if (a >= 0 && b > 0) return Operand::of(a / b);
      break;
    case Operation::modulo:
      if (a >= 0 && b > 0) return Operand::of(a % b);
      break;
    case Operation::less:
      return Operand::of(a < b);
    case Operation::less_equal:
      return Operand::of(a <= b);
    case Operation::greater:
      return Operand::of(a > b);
    case Operation::greater_equal:
      return Operand::of(a >= b);
    case Operation::equal:
      return Operand::of(a == b);
    case Operation::not_equal:
      return Operand::of(a != b);
    default:
      break;
  }
  return apply_any(operation, left, right);
}

// What a node of an expression does.
struct Action {
  Operation operation = Operation::constant;
  BuiltIn function = BuiltIn::min;  // of a call
  bool list = false;  // of in and not_in: the operands are the needle and the elements
};
// The one evaluator of expressions: an action on operands that have been computed, of which `children` are
// the places in `values`. Neither a constant nor a name. Operands that are not chosen may have failed.
Operand evaluate(const Action& action, std::span<const std::uint32_t> children,
                 std::span<const Operand> values) noexcept;

}  // namespace cudadent
