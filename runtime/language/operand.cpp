#include "runtime/language/operand.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace cudadent {
namespace {

constexpr auto largest = std::numeric_limits<std::int64_t>::max();
constexpr auto smallest = std::numeric_limits<std::int64_t>::min();

Operand overflow() { return Operand::failed(Failure::overflow); }
Operand division_by_zero() { return Operand::failed(Failure::division_by_zero); }
Operand wrong_type(Operation operation) {
  return Operand::failed(Failure::wrong_type, static_cast<std::uint32_t>(operation));
}
Operand wrong_argument(BuiltIn function) {
  return Operand::failed(Failure::wrong_argument, static_cast<std::uint32_t>(function));
}

std::int64_t floor_modulo(std::int64_t a, std::int64_t b) {
  if (b == -1) return 0;  // smallest % -1 traps
  const std::int64_t remainder = a % b;
  return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

Operand floor_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return division_by_zero();
  if (a == smallest && b == -1) return overflow();
  const std::int64_t quotient = a / b;
  return Operand::of(a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient);
}

Operand ceil_divide(std::int64_t a, std::int64_t b) {
  if (b == 0) return division_by_zero();
  if (a == smallest && b == -1) return overflow();
  const std::int64_t quotient = a / b;
  return Operand::of(a % b != 0 && (a < 0) == (b < 0) ? quotient + 1 : quotient);
}

double floor_modulo(double a, double b) {
  const double remainder = std::fmod(a, b);
  if (remainder == 0) return std::copysign(0.0, b);
  return (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

double floor_divide(double a, double b) {
  // The quotient of what the remainder leaves is nearly whole; rounding it gives the exact floor.
  const double whole = std::round((a - floor_modulo(a, b)) / b);
  return whole == 0 ? std::copysign(0.0, a / b) : whole;
}

Operand integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    exponent >>= 1;
    if (exponent == 0) return Operand::of(result);
    if (__builtin_mul_overflow(base, base, &base)) return overflow();
  }
}

Operand real_power(double base, double exponent) {
  if (base == 0 && exponent < 0) return division_by_zero();
  const bool complex = base < 0 && std::isfinite(exponent) && exponent != std::floor(exponent);
  if (complex) return wrong_type(Operation::power);
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) return overflow();
  return Operand::of(result);
}

Operand integer_arithmetic(Operation operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  switch (operation) {
    case Operation::add:
      return __builtin_add_overflow(a, b, &result) ? overflow() : Operand::of(result);
    case Operation::subtract:
      return __builtin_sub_overflow(a, b, &result) ? overflow() : Operand::of(result);
    case Operation::multiply:
      return __builtin_mul_overflow(a, b, &result) ? overflow() : Operand::of(result);
    case Operation::divide:
      if (b == 0) return division_by_zero();
      return Operand::of(
          static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
    case Operation::floor_divide:
      return floor_divide(a, b);
    case Operation::modulo:
      return b == 0 ? division_by_zero() : Operand::of(floor_modulo(a, b));
    default:
      if (b >= 0) return integer_power(a, b);
      return real_power(static_cast<double>(a), static_cast<double>(b));
  }
}

Operand real_arithmetic(Operation operation, double a, double b) {
  switch (operation) {
    case Operation::add:
      return Operand::of(a + b);
    case Operation::subtract:
      return Operand::of(a - b);
    case Operation::multiply:
      return Operand::of(a * b);
    case Operation::divide:
      return b == 0 ? division_by_zero() : Operand::of(a / b);
    case Operation::floor_divide:
      return b == 0 ? division_by_zero() : Operand::of(floor_divide(a, b));
    case Operation::modulo:
      return b == 0 ? division_by_zero() : Operand::of(floor_modulo(a, b));
    default:
      return real_power(a, b);
  }
}

template <class T>
bool compare(Operation operation, const T& a, const T& b) {
  switch (operation) {
    case Operation::less:
      return a < b;
    case Operation::less_equal:
      return a <= b;
    case Operation::greater:
      return a > b;
    case Operation::greater_equal:
      return a >= b;
    case Operation::equal:
      return a == b;
    default:
      return a != b;
  }
}

Operand comparison(Operation operation, const Operand& a, const Operand& b) {
  if (a.is_integer() && b.is_integer()) {
    return Operand::of(compare(operation, a.integer, b.integer));
  }
  if (a.is_number() && b.is_number()) {
    // A long double holds every 64-bit integer, so that large ones compare exactly with floats.
    const auto exact = [](const Operand& operand) {
      return operand.kind == Operand::Kind::real ? static_cast<long double>(operand.real)
                                                 : static_cast<long double>(operand.integer);
    };
    return Operand::of(compare(operation, exact(a), exact(b)));
  }
  if (a.kind == b.kind) return Operand::of(compare(operation, *a.text, *b.text));
  if (operation == Operation::equal) return Operand::of(false);
  if (operation == Operation::not_equal) return Operand::of(true);
  return wrong_type(operation);
}

bool is_arithmetic(Operation operation) {
  return operation >= Operation::add && operation <= Operation::power;
}

Operand extreme(BuiltIn function, std::span<const Operand> arguments) {
  const auto better = function == BuiltIn::min ? Operation::less : Operation::greater;
  Operand best = arguments[0];
  for (const Operand& argument : arguments.subspan(1)) {
    const Operand verdict = comparison(better, argument, best);
    if (verdict.is_failure()) return wrong_argument(function);
    if (verdict.is_true()) best = argument;
  }
  return best;
}

Operand ceil_divide(const Operand& a, const Operand& b) {
  if (a.is_integer() && b.is_integer()) return ceil_divide(a.integer, b.integer);
  if (!a.is_number() || !b.is_number()) return wrong_argument(BuiltIn::ceil_div);
  if (b.as_double() == 0) return division_by_zero();
  return Operand::of(std::ceil(a.as_double() / b.as_double()));
}

Operand power_of_two_ceiling(const Operand& argument) {
  if (!argument.is_integer()) return wrong_argument(BuiltIn::pow2_ceil);
  if (argument.integer <= 1) return Operand::of(std::int64_t{1});
  if (argument.integer > largest / 2 + 1) return overflow();
  return Operand::of(
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(argument.integer))));
}

// Not negative; 0 divides nothing and is divided by all, so gcd(0, x) is |x|, as in Python.
Operand greatest_common_divisor(std::span<const Operand> arguments) {
  std::uint64_t divisor = 0;
  for (const Operand& argument : arguments) {
    if (!argument.is_integer()) return wrong_argument(BuiltIn::gcd);
    const auto bits = static_cast<std::uint64_t>(argument.integer);
    divisor = std::gcd(divisor, argument.integer < 0 ? 0 - bits : bits);
  }
  if (divisor > static_cast<std::uint64_t>(largest)) return overflow();
  return Operand::of(static_cast<std::int64_t>(divisor));
}

Operand element_size(const Operand& argument) {
  if (argument.kind != Operand::Kind::text) return wrong_argument(BuiltIn::size);
  const auto type = data_type_named(*argument.text);
  if (!type) return wrong_argument(BuiltIn::size);
  return Operand::of(static_cast<std::int64_t>(size_of(*type)));
}

Operand absolute(const Operand& argument) {
  if (argument.kind == Operand::Kind::real) return Operand::of(std::fabs(argument.real));
  if (!argument.is_integer()) return wrong_argument(BuiltIn::abs);
  if (argument.integer == smallest) return overflow();
  return Operand::of(argument.integer < 0 ? -argument.integer : argument.integer);
}

}  // namespace

Value Operand::to_value() const {
  switch (kind) {
    case Kind::boolean:
      return integer != 0;
    case Kind::integer:
      return integer;
    case Kind::real:
      return real;
    case Kind::text:
      return *text;
    case Kind::failure:
      break;
  }
  throw Error(ErrorCode::internal, "a failed operand has no value");
}

Operand apply(Operation operation, Operand operand) noexcept {
  if (operand.is_failure()) return operand;
  if (operation == Operation::logical_not) return Operand::of(!operand.is_true());
  if (operand.kind == Operand::Kind::text) return wrong_type(operation);
  if (operand.kind == Operand::Kind::real) {
    return operation == Operation::negate ? Operand::of(-operand.real) : operand;
  }
  if (operation == Operation::positive) return Operand::of(operand.integer);
  return operand.integer == smallest ? overflow() : Operand::of(-operand.integer);
}

Operand apply_any(Operation operation, Operand left, Operand right) noexcept {
  if (left.is_failure()) return left;
  if (right.is_failure()) return right;
  if (operation == Operation::in || operation == Operation::not_in) {
    if (left.kind != Operand::Kind::text || right.kind != left.kind) return wrong_type(operation);
    const bool found = right.text->find(*left.text) != std::string::npos;
    return Operand::of(found == (operation == Operation::in));
  }
  if (!is_arithmetic(operation)) return comparison(operation, left, right);
  if (left.is_integer() && right.is_integer()) {
    return integer_arithmetic(operation, left.integer, right.integer);
  }
  if (!left.is_number() || !right.is_number()) return wrong_type(operation);
  return real_arithmetic(operation, left.as_double(), right.as_double());
}

namespace {

// The parser has seen to the number of arguments, the caller to those that have failed.
Operand call(BuiltIn function, std::span<const Operand> arguments) noexcept {
  switch (function) {
    case BuiltIn::min:
    case BuiltIn::max:
      return extreme(function, arguments);
    case BuiltIn::abs:
      return absolute(arguments[0]);
    case BuiltIn::ceil_div:
      return ceil_divide(arguments[0], arguments[1]);
    case BuiltIn::round_up:
      return apply(Operation::multiply, ceil_divide(arguments[0], arguments[1]), arguments[1]);
    case BuiltIn::pow2_ceil:
      return power_of_two_ceiling(arguments[0]);
    case BuiltIn::gcd:
      return greatest_common_divisor(arguments);
    case BuiltIn::size:
      break;
  }
  return element_size(arguments[0]);
}

// `or` stops at the first true operand, `and` at the first false one.
Operand first_decisive(std::span<const std::uint32_t> nodes, std::span<const Operand> values,
                       bool stop) noexcept {
  Operand operand;
  for (const std::uint32_t node : nodes) {
    operand = values[node];
    if (operand.is_failure() || operand.is_true() == stop) break;
  }
  return operand;
}

// Whether the first is among the others, an element at a time: nothing is gathered.
Operand contained_in(Operation operation, std::span<const std::uint32_t> nodes,
                     std::span<const Operand> values) noexcept {
  const Operand& needle = values[nodes[0]];
  if (needle.is_failure()) return needle;
  bool found = false;
  for (const std::uint32_t node : nodes.subspan(1)) {
    const Operand& element = values[node];
    if (element.is_failure()) return element;
    found = found || comparison(Operation::equal, needle, element).is_true();
  }
  return Operand::of(found == (operation == Operation::in));
}

// Of more than two arguments only min, max and gcd have any: they take the third to what the first two gave.
Operand call_of(BuiltIn function, std::span<const std::uint32_t> nodes,
                std::span<const Operand> values) noexcept {
  for (const std::uint32_t node : nodes)
    if (values[node].is_failure()) return values[node];
  if (nodes.size() == 1) return call(function, std::span(&values[nodes[0]], 1));
  std::array<Operand, 2> pair{values[nodes[0]]};
  for (const std::uint32_t node : nodes.subspan(1)) {
    pair[1] = values[node];
    pair[0] = call(function, pair);
    if (pair[0].is_failure()) break;
  }
  return pair[0];
}

}  // namespace

Operand evaluate(const Action& action, std::span<const std::uint32_t> children,
                 std::span<const Operand> values) noexcept {
  const Operation operation = action.operation;
  switch (operation) {
    case Operation::negate:
    case Operation::positive:
    case Operation::logical_not:
      return apply(operation, values[children[0]]);
    case Operation::logical_and:
    case Operation::logical_or:
      return first_decisive(children, values, operation == Operation::logical_or);
    case Operation::conditional: {
      const Operand& condition = values[children[0]];
      if (condition.is_failure()) return condition;
      return values[children[condition.is_true() ? 1 : 2]];
    }
    case Operation::in:
    case Operation::not_in:
      if (action.list) return contained_in(operation, children, values);
      break;
    case Operation::call:
      return call_of(action.function, children, values);
    default:
      break;
  }
  return apply(operation, values[children[0]], values[children[1]]);
}

}  // namespace cudadent
