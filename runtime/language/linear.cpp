#include "runtime/language/linear.h"

#include <algorithm>

#include "runtime/language/value.h"

namespace cudadent {

namespace {

bool has_name(const Expression& expression, const Expression::Node& node) {
  if (node.operation == Operation::name) return true;
  const auto children = expression.children(node);
  return std::any_of(children.begin(), children.end(), [&](std::uint32_t child) {
    return has_name(expression, expression.nodes()[child]);
  });
}

bool is_linear(const Expression& expression, const Expression::Node& node) {
  const auto children = expression.children(node);
  switch (node.operation) {
    case Operation::name:
      return true;
    case Operation::constant:
      return std::holds_alternative<std::int64_t>(expression.constant_of(node));
    case Operation::multiply:
      if (has_name(expression, expression.nodes()[children[0]]) &&
          has_name(expression, expression.nodes()[children[1]]))
        return false;
      [[fallthrough]];
    case Operation::add:
    case Operation::subtract:
    case Operation::negate:
    case Operation::positive:
      return std::all_of(children.begin(), children.end(), [&](std::uint32_t child) {
        return is_linear(expression, expression.nodes()[child]);
      });
    default:
      return false;
  }
}

}  // namespace

std::optional<Linear> linear_in_its_name(const Expression& expression) {
  if (expression.names().size() != 1 ||
      !is_linear(expression, expression.nodes()[expression.root()]))
    return std::nullopt;
  const auto at = [&](std::int64_t value) {
    const Values values{{expression.names().front(), value}};
    return as_integer(expression.evaluate(Scope(values)), expression.text());
  };
  const Linear linear{at(1) - at(0), at(0)};
  return linear.factor > 0 ? std::optional(linear) : std::nullopt;
}

}  // namespace cudadent
