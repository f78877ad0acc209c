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
  static constexpr std::array<std::string_view, 24> symbols{
      "constant", "name", "-", "+",  "not", "and", "or", "+",  "-",  "*",      "/",  "//",
      "%",        "**",   "<", "<=", ">",   ">=",  "==", "!=", "in", "not in", "if", "call"};
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

// Operands by number, without allocating for the usual few.
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
  std::array<Operand, 32> few_;
  std::vector<Operand> many_;
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

void Expression::compute(std::uint32_t first, std::uint32_t last, std::span<const Operand> names,
                         std::span<Operand> results) const noexcept {
  for (std::uint32_t i = first; i <= last; ++i) {
    const Node& node = nodes_[i];
    if (node.operation == Operation::constant)
      results[i] = Operand::of(constants_[node.index]);
    else if (node.operation == Operation::name)
      results[i] = names[node.index];
    else
      results[i] = cudadent::evaluate(node, children(node), results);
  }
}

Operand Expression::evaluate(std::span<const Operand> values) const {
  if (nodes_.empty()) return {};
  Operands results(nodes_.size());
  compute(0, root_, values, results.span());
  return results.span()[root_];
}

std::string Expression::tree() const { return nodes_.empty() ? std::string() : tree(root_); }

std::string Expression::tree(std::uint32_t index) const {
  const Node& node = nodes_[index];
  if (node.operation == Operation::constant) return to_literal(constants_[node.index]);
  if (node.operation == Operation::name) return names_[node.index];
  std::string text =
      fmt::format("({}", node.operation == Operation::call
                             ? built_in_names[static_cast<std::size_t>(node.function)]
                             : symbol_of(node.operation));
  if (node.list) text += " of";
  for (const std::uint32_t child : children(node)) text += " " + tree(child);
  return text + ")";
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
