// The expression language of manifests: a small safe subset of Python's expressions.
//
// Integers, floats, strings, True/False, names (also dotted: device.sm), + - * / // % **,
// comparison chains, and/or/not, in / not in with a tuple or list, conditional expressions, and the
// functions min max abs ceil_div round_up pow2_ceil size. Semantics are Python's: / is a float
// division, // and % floor, and/or return an operand. Nothing else can be reached from an
// expression.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

// Names visible to an expression, innermost first. Holds pointers: the Values must outlive it.
class Scope {
 public:
  Scope() = default;
  explicit Scope(const Values& values) { layers_.push_back(&values); }
  // A scope that looks in `values` first.
  [[nodiscard]] Scope with(const Values& values) const;
  [[nodiscard]] const Value* find(std::string_view name) const;
  // Every visible name, for error messages.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::vector<const Values*> layers_;
};

class Expression {
 public:
  // Throws Error(invalid_manifest) that shows the text and the place.
  static Expression parse(std::string_view text);
  // A list "[1, 2, 4]" or "(1, 2)" of constant expressions, as T1 files hold; a single value is a
  // list of one.
  static std::vector<Value> parse_list(std::string_view text);
  static Expression constant(Value value);

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  // Free names in order of first appearance, each once.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  // Throws Error(invalid_manifest) for an unknown name, a wrong type, a division by zero or an
  // integer that does not fit 64 bits, naming the expression and the cause.
  [[nodiscard]] Value evaluate(const Scope& scope) const;
  // The same with the values of names(), in that order; for evaluating one expression many times.
  [[nodiscard]] Value evaluate(std::span<const Value* const> values) const;

 private:
  friend class ExpressionParser;
  enum class Op : std::uint8_t {
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
    chain,
    call
  };
  enum class Function : std::uint8_t { min, max, abs, ceil_div, round_up, pow2_ceil, size };
  // Children are nodes_[children_[first_child … first_child + child_count)].
  struct Node {
    Op op = Op::constant;
    Function function = Function::min;
    std::uint32_t first_child = 0;
    std::uint32_t child_count = 0;
    std::uint32_t name = 0;  // index into names_
    Value value;             // of a constant
  };
  Value evaluate_node(std::uint32_t node, std::span<const Value* const> values) const;
  [[noreturn]] void fail(const std::string& reason) const;

  std::string text_;
  std::vector<std::string> names_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> children_;
  std::uint32_t root_ = 0;
};

}  // namespace cudadent
