// Text to expression tree: recursive descent along Python's grammar.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>

#include "runtime/language/expression.h"
#include "runtime/language/expression_reader.h"

namespace cudadent {
namespace {

// Bounds recursion, here and in evaluation, so that no text can overflow the stack.
constexpr std::uint32_t max_depth = 500;
constexpr std::size_t max_list = 65536;

struct Arity {
  std::size_t min, max;  // arguments
};
constexpr std::size_t any_number = std::numeric_limits<std::size_t>::max();
constexpr std::array<Arity, built_in_names.size()> arities{
    {{1, any_number}, {1, any_number}, {1, 1}, {2, 2}, {2, 2}, {1, 1}, {1, any_number}, {1, 1}}};

}  // namespace

class ExpressionParser : private ExpressionReader {
 public:
  explicit ExpressionParser(std::string_view text, const Words& words = {})
      : ExpressionReader(text), words_(words) {
    result_.text_ = text;
  }

  Expression expression() {
    result_.root_ = conditional();
    expect_end();
    return std::move(result_);
  }

  std::vector<Value> list() {
    std::vector<Value> values = list_sum();
    expect_end();
    return values;
  }

 private:
  using NodeIndex = std::uint32_t;

  // Counts one level of nesting for as long as it lives.
  class Level {
   public:
    explicit Level(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.level_ > max_depth) parser_.fail("it is nested too deeply");
    }
    ~Level() { --parser_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

  // ------------------------------------------------------------------------------------ nodes

  NodeIndex add(Expression::Node node, std::span<const NodeIndex> children = {}) {
    node.first_child = static_cast<std::uint32_t>(result_.children_.size());
    node.child_count = static_cast<std::uint32_t>(children.size());
    std::uint32_t depth = 1;
    for (const NodeIndex child : children) depth = std::max(depth, depth_[child] + 1);
    if (depth > 2 * max_depth) fail("it is nested too deeply");
    result_.children_.insert(result_.children_.end(), children.begin(), children.end());
    result_.nodes_.push_back(node);
    depth_.push_back(depth);
    return static_cast<NodeIndex>(result_.nodes_.size() - 1);
  }

  NodeIndex add(Operation operation, std::initializer_list<NodeIndex> children) {
    return add({{operation}}, {children.begin(), children.size()});
  }

  NodeIndex add_indexed(Operation operation, std::size_t index) {
    Expression::Node node{{operation}};
    node.index = static_cast<std::uint32_t>(index);
    return add(node);
  }

  NodeIndex add_constant(Value value) {
    result_.constants_.push_back(std::move(value));
    return add_indexed(Operation::constant, result_.constants_.size() - 1);
  }

  std::uint32_t index_of_name(std::string_view name) {
    auto& names = result_.names_;
    const auto found = std::find(names.begin(), names.end(), name);
    const auto index = static_cast<std::uint32_t>(found - names.begin());
    if (found == names.end()) names.emplace_back(name);
    return index;
  }

  // ---------------------------------------------------------------------------------- grammar

  NodeIndex conditional() {
    const Level level(*this);
    const NodeIndex value = either();
    if (!take_word("if")) return value;
    const NodeIndex condition = either();
    if (!take_word("else")) fail("expected 'else'");
    return add(Operation::conditional, {condition, value, conditional()});
  }

  NodeIndex either() { return joined("or", Operation::logical_or, &ExpressionParser::both); }
  NodeIndex both() { return joined("and", Operation::logical_and, &ExpressionParser::negation); }

  NodeIndex joined(std::string_view word, Operation operation,
                   NodeIndex (ExpressionParser::*operand)()) {
    std::vector<NodeIndex> children{(this->*operand)()};
    while (take_word(word)) children.push_back((this->*operand)());
    return children.size() == 1 ? children[0] : add({{operation}}, children);
  }

  NodeIndex negation() {
    const Level level(*this);
    if (take_word("not")) return add(Operation::logical_not, {negation()});
    return comparison();
  }

  // a < b < c is (a < b and b < c), with b computed once: both have it for a child.
  NodeIndex comparison() {
    NodeIndex left = sum();
    std::vector<NodeIndex> comparisons;
    bool after_list = false;
    while (const auto operation = take_comparison()) {
      if (after_list) fail("a list is not comparable");
      const bool membership = *operation == Operation::in || *operation == Operation::not_in;
      after_list = membership && list_ahead();
      if (after_list) {
        comparisons.push_back(membership_of(*operation, left));
      } else {
        const NodeIndex right = sum();
        comparisons.push_back(add(*operation, {left, right}));
        left = right;
      }
    }
    if (comparisons.empty()) return left;
    return comparisons.size() == 1 ? comparisons[0] : add({{Operation::logical_and}}, comparisons);
  }

  NodeIndex membership_of(Operation operation, NodeIndex needle) {
    const bool square = take("[");
    if (!square) expect("(");
    std::vector<NodeIndex> children = elements(square ? "]" : ")");
    children.insert(children.begin(), needle);
    return add({{.operation = operation, .list = true}}, children);
  }

  std::optional<Operation> take_comparison() {
    if (take("<=")) return Operation::less_equal;
    if (take("<", "<")) return Operation::less;
    if (take(">=")) return Operation::greater_equal;
    if (take(">", ">")) return Operation::greater;
    if (take("==")) return Operation::equal;
    if (take("!=")) return Operation::not_equal;
    if (take_word("in")) return Operation::in;
    if (take_words("not", "in")) return Operation::not_in;
    return std::nullopt;
  }

  std::vector<NodeIndex> elements(std::string_view close) {
    std::vector<NodeIndex> result;
    while (!take(close)) {
      result.push_back(conditional());
      if (take(",")) continue;
      expect(close);
      break;
    }
    return result;
  }

  NodeIndex sum() {
    NodeIndex left = product();
    while (true) {
      if (take("+")) {
        left = add(Operation::add, {left, product()});
      } else if (take("-")) {
        left = add(Operation::subtract, {left, product()});
      } else {
        return left;
      }
    }
  }

  NodeIndex product() {
    NodeIndex left = factor();
    while (true) {
      if (take("*", "*")) {
        left = add(Operation::multiply, {left, factor()});
      } else if (take("//")) {
        left = add(Operation::floor_divide, {left, factor()});
      } else if (take("/")) {
        left = add(Operation::divide, {left, factor()});
      } else if (take("%")) {
        left = add(Operation::modulo, {left, factor()});
      } else {
        return left;
      }
    }
  }

  // A sign binds less than a power to its right: -2**2 is -4, 2**-1 is 0.5.
  NodeIndex factor() {
    const Level level(*this);
    if (take("-")) return add(Operation::negate, {factor()});
    if (take("+")) return add(Operation::positive, {factor()});
    const NodeIndex base = primary();
    return take("**") ? add(Operation::power, {base, factor()}) : base;
  }

  NodeIndex primary() {
    if (string_ahead()) return add_constant(take_string());
    if (number_ahead()) return add_constant(take_number());
    if (take("(")) {
      const NodeIndex inner = conditional();
      expect(")");
      return inner;
    }
    const std::string word = take_name("a value");
    if (word == "True" || word == "False") return add_constant(word == "True");
    if (take("(")) return call(word);
    if (words_.contains(word)) return add_constant(word);
    return add_indexed(Operation::name, index_of_name(word));
  }

  NodeIndex call(const std::string& name) {
    const auto found = std::find(built_in_names.begin(), built_in_names.end(), name);
    if (found == built_in_names.end())
      fail(fmt::format("unknown function '{}'; known: {};", name, fmt::join(built_in_names, " ")));
    const auto index = static_cast<std::size_t>(found - built_in_names.begin());
    const auto [min, max] = arities.at(index);
    const std::vector<NodeIndex> arguments = elements(")");
    if (arguments.size() < min || arguments.size() > max) {
      fail(fmt::format("{}() takes {}{} argument{}, not {},", name, min,
                       max > min ? " or more" : "", max == 1 ? "" : "s", arguments.size()));
    }
    return add({{.operation = Operation::call, .function = static_cast<BuiltIn>(index)}},
               arguments);
  }

  // ------------------------------------------------------------------------- lists of constants

  std::vector<Value> list_sum() {
    std::vector<Value> values = list_term();
    while (take("+")) {
      const std::vector<Value> more = list_term();
      values.insert(values.end(), more.begin(), more.end());
      if (values.size() > max_list) fail("the list is too long");
    }
    return values;
  }

  std::vector<Value> list_term() {
    const Level level(*this);
    if (take("[")) return constant_elements("]");
    if (list_ahead()) {
      expect("(");
      return constant_elements(")");
    }
    if (take_word("range")) return range();
    if (take_word("list") || take_word("tuple")) {
      expect("(");
      std::vector<Value> values = list_sum();
      expect(")");
      return values;
    }
    return {constant(conditional())};
  }

  // What stands between brackets: values, or a comprehension over another list.
  std::vector<Value> constant_elements(std::string_view close) {
    if (take(close)) return {};
    const NodeIndex first = conditional();
    if (take_word("for")) return comprehension(first, close);
    std::vector<Value> values{constant(first)};
    while (!take(close)) {
      expect(",");
      if (take(close)) break;
      values.push_back(constant(conditional()));
    }
    return values;
  }

  std::vector<Value> comprehension(NodeIndex element, std::string_view close) {
    const std::string name = take_name("a name");
    if (!take_word("in")) fail("expected 'in'");
    const std::vector<Value> over = list_sum();
    std::optional<NodeIndex> condition;
    if (take_word("if")) condition = either();
    expect(close);
    std::vector<Value> values;
    for (const Value& each : over) {
      if (condition && !value_of(*condition, name, each).is_true()) continue;
      values.push_back(value_of(element, name, each).to_value());
    }
    return values;
  }

  std::vector<Value> range() {
    expect("(");
    std::vector<std::int64_t> bounds;
    for (const NodeIndex argument : elements(")")) {
      const Value value = constant(argument);
      if (!std::holds_alternative<std::int64_t>(value)) fail("range() takes integers");
      bounds.push_back(std::get<std::int64_t>(value));
    }
    if (bounds.empty() || bounds.size() > 3) fail("range() takes one to three arguments");
    const std::int64_t start = bounds.size() == 1 ? 0 : bounds[0];
    const std::int64_t stop = bounds.size() == 1 ? bounds[0] : bounds[1];
    const std::int64_t step = bounds.size() == 3 ? bounds[2] : 1;
    if (step == 0) fail("range() needs a step other than 0");
    std::vector<Value> values;
    for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
      values.emplace_back(i);
      if (values.size() > max_list) fail("the list is too long");
      if (__builtin_add_overflow(i, step, &i)) break;
    }
    return values;
  }

  Value constant(NodeIndex node) { return value_of(node, {}, {}).to_value(); }

  // The value of a node when `name` stands for `value` and no other name is known.
  Operand value_of(NodeIndex node, std::string_view name, const Value& value) {
    std::vector<Operand> values;
    for (std::uint32_t i = 0; i < result_.names_.size(); ++i) {
      values.push_back(result_.names_[i] == name ? Operand::of(value)
                                                 : Operand::failed(Failure::unknown_name, i));
    }
    computed_.resize(result_.nodes_.size());
    result_.compute(first_of(node), node, values, computed_);
    const Operand result = computed_[node];
    if (result.is_failure()) result_.throw_failure(result, values);
    return result;
  }

  // The first of the nodes below one: those in between are below it, too.
  [[nodiscard]] NodeIndex first_of(NodeIndex node) const {
    NodeIndex first = node;
    for (const NodeIndex child : result_.children(result_.nodes_[node]))
      first = std::min(first, first_of(child));
    return first;
  }

  const Words& words_;
  Expression result_;
  std::vector<Operand> computed_;     // by node, of lists of constants
  std::vector<std::uint32_t> depth_;  // of each node's tree
  std::uint32_t level_ = 0;
};

Expression Expression::parse(std::string_view text, const Words& words) {
  return ExpressionParser(text, words).expression();
}

std::vector<Value> Expression::parse_list(std::string_view text) {
  return ExpressionParser(text).list();
}

}  // namespace cudadent
