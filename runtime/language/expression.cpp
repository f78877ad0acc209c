#include "runtime/language/expression.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "runtime/language/value.h"

namespace cudadent {
namespace {

std::string_view symbol_of(Operation operation) {
  static constexpr std::array<std::string_view, 26> symbols{
      "constant", "name", "-",  "+",      "not",  "and", "or",  "+",   "-",
      "*",        "/",    "//", "%",      "**",   "<",   "<=",  ">",   ">=",
      "==",       "!=",   "in", "not in", "list", "if",  "<…<", "call"};
  return symbols[static_cast<std::size_t>(operation)];
}

std::string_view requirement_of(BuiltIn function) {
  switch (function) {
    case BuiltIn::min:
      return "min() needs arguments of one kind";
    case BuiltIn::max:
      return "max() needs arguments of one kind";
    case BuiltIn::abs:
      return "abs() needs a number";
    case BuiltIn::ceil_div:
      return "ceil_div() needs numbers";
    case BuiltIn::round_up:
      return "round_up() needs numbers";
    case BuiltIn::pow2_ceil:
      return "pow2_ceil() needs an integer";
    case BuiltIn::gcd:
      return "gcd() needs integers";
    case BuiltIn::size:
      break;
  }
  return "size() needs the name of a data type, such as 'bf16'";
}

std::string reason_of(const Operand& failure) {
  switch (failure.failure) {
    case Failure::division_by_zero:
      return "division by zero";
    case Failure::overflow:
      return "a number out of range";
    case Failure::wrong_type:
      return fmt::format("'{}' does not work on values of these kinds",
                         symbol_of(static_cast<Operation>(failure.detail)));
    case Failure::wrong_argument:
      return std::string(requirement_of(static_cast<BuiltIn>(failure.detail)));
    case Failure::unknown_name:
      break;
  }
  return "unknown name";
}

// Operands of a node's children, without allocating for the usual few.
class Operands {
 public:
  explicit Operands(std::size_t count) : size_(count) {
    if (count > few_.size()) many_.resize(count);
  }
  [[nodiscard]] std::span<Operand> span() noexcept {
    return many_.empty() ? std::span(few_).first(size_) : std::span(many_);
  }

 private:
  std::size_t size_;
  std::array<Operand, 16> few_;
  std::vector<Operand> many_;
};

class Evaluator {
 public:
  Evaluator(const Expression& expression, std::span<const Operand> values)
      : expression_(expression), nodes_(expression.nodes()), values_(values) {}

  [[nodiscard]] Operand operator()(std::uint32_t index) const {
    const Expression::Node& node = nodes_[index];
    const auto children = expression_.children(node);
    switch (node.operation) {
      case Operation::constant:
        return Operand::of(expression_.constant_of(node));
      case Operation::name:
        return values_[node.index];
      case Operation::negate:
      case Operation::positive:
      case Operation::logical_not:
        return apply(node.operation, (*this)(children[0]));
      case Operation::logical_and:
      case Operation::logical_or:
        return first_decisive(children, node.operation == Operation::logical_or);
      case Operation::conditional: {
        const Operand condition = (*this)(children[0]);
        if (condition.is_failure()) return condition;
        return (*this)(children[condition.is_true() ? 1 : 2]);
      }
      case Operation::in:
      case Operation::not_in:
        return compare(node.operation, (*this)(children[0]), children[1]);
      case Operation::chain:
        return chain(node, children);
      case Operation::call:
        return over_all(children, [&](auto list) { return call(node.function, list); });
      default: {
        const Operand left = (*this)(children[0]);
        const Operand right = (*this)(children[1]);
        return apply(node.operation, left, right);
      }
    }
  }

 private:
  // `or` stops at the first true operand, `and` at the first false one.
  [[nodiscard]] Operand first_decisive(std::span<const std::uint32_t> children, bool stop) const {
    Operand operand;
    for (const std::uint32_t child : children) {
      operand = (*this)(child);
      if (operand.is_failure() || operand.is_true() == stop) break;
    }
    return operand;
  }

  [[nodiscard]] Operand chain(const Expression::Node& node,
                              std::span<const std::uint32_t> children) const {
    const auto comparisons = expression_.comparisons(node);
    Operand left = (*this)(children[0]);
    Operand verdict;
    for (std::size_t i = 0; i < comparisons.size(); ++i) {
      const std::uint32_t next = children[i + 1];
      if (nodes_[next].operation == Operation::list) return compare(comparisons[i], left, next);
      const Operand right = (*this)(next);
      verdict = apply(comparisons[i], left, right);
      if (!verdict.is_true()) break;  // false or a failure
      left = right;
    }
    return verdict;
  }

  [[nodiscard]] Operand compare(Operation operation, Operand left, std::uint32_t right) const {
    if (nodes_[right].operation != Operation::list) return apply(operation, left, (*this)(right));
    return over_all(expression_.children(nodes_[right]),
                    [&](auto list) { return contained(operation, left, list); });
  }

  // Not inlined: its buffer would grow every frame of the recursion.
  template <class Function>
  [[nodiscard, gnu::noinline]] Operand over_all(std::span<const std::uint32_t> children,
                                                Function&& function) const {
    Operands operands(children.size());
    const auto list = operands.span();
    for (std::size_t i = 0; i < children.size(); ++i) list[i] = (*this)(children[i]);
    return function(std::span<const Operand>(list));
  }

  const Expression& expression_;
  std::span<const Expression::Node> nodes_;
  std::span<const Operand> values_;
};

}  // namespace

Scope Scope::with(const Values& values) const {
  Scope result(values);
  result.layers_.insert(result.layers_.end(), layers_.begin(), layers_.end());
  return result;
}

const Value* Scope::find(std::string_view name) const {
  for (const Values* layer : layers_) {
    if (const auto found = layer->find(name); found != layer->end()) return &found->second;
  }
  return nullptr;
}

std::vector<std::string> Scope::names() const {
  std::set<std::string> result;
  for (const Values* layer : layers_) {
    for (const auto& [name, value] : *layer) result.insert(name);
  }
  return {result.begin(), result.end()};
}

Expression Expression::constant(Value value) {
  Expression result;
  result.text_ = to_literal(value);
  result.constants_.push_back(std::move(value));
  result.nodes_.emplace_back();
  return result;
}

Operand Expression::evaluate(std::span<const Operand> values) const noexcept {
  return nodes_.empty() ? Operand{} : Evaluator(*this, values)(root_);
}

Value Expression::evaluate(const Scope& scope) const {
  Operands operands(names_.size());
  const auto values = operands.span();
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const Value* value = scope.find(names_[i]);
    values[i] = value != nullptr
                    ? Operand::of(*value)
                    : Operand::failed(Failure::unknown_name, static_cast<std::uint32_t>(i));
  }
  const Operand result = evaluate(std::span<const Operand>(values));
  if (result.is_failure()) throw_failure(result, values, scope.names());
  return result.to_value();
}

Value Expression::evaluate(std::span<const Value* const> given) const {
  Operands operands(names_.size());
  const auto values = operands.span();
  for (std::size_t i = 0; i < names_.size(); ++i) values[i] = Operand::of(*given[i]);
  const Operand result = evaluate(std::span<const Operand>(values));
  if (result.is_failure()) throw_failure(result, values);
  return result.to_value();
}

void Expression::throw_failure(const Operand& failure, std::span<const Operand> values,
                               std::span<const std::string> known) const {
  std::string reason = reason_of(failure);
  if (failure.failure == Failure::unknown_name) {
    reason = fmt::format("unknown name '{}'", names_.at(failure.detail));
    if (!known.empty()) reason += fmt::format("; known: {}", fmt::join(known, ", "));
  } else if (!names_.empty()) {
    std::vector<std::string> given;
    for (std::size_t i = 0; i < names_.size() && i < values.size(); ++i) {
      if (values[i].is_failure()) continue;
      given.push_back(fmt::format("{} = {}", names_[i], to_literal(values[i].to_value())));
    }
    reason += fmt::format(", where {}", fmt::join(given, ", "));
  }
  throw Error(ErrorCode::invalid_manifest, fmt::format("expression '{}': {}", text_, reason));
}

}  // namespace cudadent
