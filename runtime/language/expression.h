// The expression language of manifests: a small safe subset of Python's expressions.
//
// Integers, floats, strings, True/False, names (also dotted: device.sm), + - * / // % **,
// comparison chains, and/or/not, in / not in with a tuple or list, conditional expressions, and the
// functions min max abs ceil_div round_up pow2_ceil gcd size. Semantics are Python's: / is a float
// division, // and % floor, and/or return an operand. Nothing else can be reached from an
// expression.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/language/operand.h"
#include "runtime/language/value.h"

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
  // Words of `words` stand for themselves, as if they were in quotes. Throws Error(invalid_manifest) that
  // shows the text and the place.
  static Expression parse(std::string_view text, const Words& words = {});
  // A list of constants as T1 files hold: "[1, 2, 4]", "(1, 2)", "list(range(32, 1025, 32))",
  // "[2**i for i in range(6)]", sums of such; a single value is a list of one.
  static std::vector<Value> parse_list(std::string_view text);
  static Expression constant(Value value);

  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  // The tree as text, the same however the expression is laid out: for hashes.
  [[nodiscard]] std::string tree() const;
  // Free names in order of first appearance, each once.
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  // Throws Error(invalid_manifest) for an unknown name, a wrong type, a division by zero or an
  // integer that does not fit 64 bits, naming the expression and the cause.
  [[nodiscard]] Value evaluate(const Scope& scope) const;
  // The same with the values of names(), in that order; for evaluating one expression many times.
  [[nodiscard]] Value evaluate(std::span<const Value* const> values) const;
  // The same without throwing; the result may be a failure, for throw_failure(), and may borrow text
  // from the values or from this expression.
  [[nodiscard]] Operand evaluate(std::span<const Operand> values) const;
  // Throws what evaluate() throws for a result that is a failure; `known` are names to list.
  [[noreturn]] void throw_failure(const Operand& failure, std::span<const Operand> values,
                                  std::span<const std::string> known = {}) const;

  // The tree, for those who compile it into something else. Children come before their parents.
  struct Node : Action {
    std::uint32_t first_child = 0;  // into the children
    std::uint32_t child_count = 0;
    std::uint32_t index = 0;  // a name's or a constant's
  };
  [[nodiscard]] std::span<const Node> nodes() const noexcept { return nodes_; }
  [[nodiscard]] std::uint32_t root() const noexcept { return root_; }
  [[nodiscard]] std::span<const std::uint32_t> children(const Node& node) const noexcept {
    return std::span(children_).subspan(node.first_child, node.child_count);
  }
  [[nodiscard]] const Value& constant_of(const Node& node) const { return constants_[node.index]; }

 private:
  friend class ExpressionParser;

  // Computes the nodes from `first` to `last`, each into its place.
  void compute(std::uint32_t first, std::uint32_t last, std::span<const Operand> names,
               std::span<Operand> results) const noexcept;
  [[nodiscard]] std::string tree(std::uint32_t node) const;

  std::string text_;
  std::vector<std::string> names_;
  std::vector<Value> constants_;
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> children_;
  std::uint32_t root_ = 0;
};

}  // namespace cudadent
