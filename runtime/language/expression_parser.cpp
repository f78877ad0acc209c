// Text to expression tree: recursive descent along Python's grammar.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "runtime/language/expression.h"

namespace cudadent {
namespace {

// Bounds recursion, here and in evaluation, so that no text can overflow the stack.
constexpr std::uint32_t max_depth = 500;
constexpr std::size_t max_list = 65536;

struct BuiltInSpec {
  std::string_view name;
  BuiltIn function;
  std::size_t least, most;  // arguments
};
constexpr std::size_t any_number = std::numeric_limits<std::size_t>::max();
constexpr std::array<BuiltInSpec, 8> built_ins{{
    {"min", BuiltIn::min, 1, any_number},
    {"max", BuiltIn::max, 1, any_number},
    {"abs", BuiltIn::abs, 1, 1},
    {"ceil_div", BuiltIn::ceil_div, 2, 2},
    {"round_up", BuiltIn::round_up, 2, 2},
    {"pow2_ceil", BuiltIn::pow2_ceil, 1, 1},
    {"gcd", BuiltIn::gcd, 1, any_number},
    {"size", BuiltIn::size, 1, 1},
}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool starts_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool continues_word(char c) { return starts_word(c) || is_digit(c); }

bool is_keyword(std::string_view word) {
  static constexpr std::array<std::string_view, 10> keywords{
      "and", "or", "not", "in", "if", "else", "for", "is", "lambda", "None"};
  return std::find(keywords.begin(), keywords.end(), word) != keywords.end();
}

}  // namespace

class ExpressionParser {
 public:
  explicit ExpressionParser(std::string_view text) { result_.text_ = text; }

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

  // ------------------------------------------------------------------------------ characters

  [[nodiscard]] std::string_view rest() {
    while (at_ < result_.text_.size() && is_space(result_.text_[at_])) ++at_;
    return std::string_view(result_.text_).substr(at_);
  }

  [[noreturn]] void fail(const std::string& reason) {
    const std::string_view left = rest();
    const auto place = left.empty()
                           ? std::string("at the end")
                           : fmt::format("at column {}, '{}'", at_ + 1, left.substr(0, 20));
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("cannot parse '{}': {} {}", result_.text_, reason, place));
  }

  void expect_end() {
    if (!rest().empty()) fail("did not expect more");
  }

  // The word ahead, a dotted name as one.
  [[nodiscard]] std::string_view word_ahead() {
    const std::string_view left = rest();
    if (left.empty() || !starts_word(left[0])) return {};
    std::size_t end = 1;
    while (end < left.size() &&
           (continues_word(left[end]) ||
            (left[end] == '.' && end + 1 < left.size() && starts_word(left[end + 1])))) {
      ++end;
    }
    return left.substr(0, end);
  }

  bool take_word(std::string_view word) {
    if (word_ahead() != word) return false;
    at_ += word.size();
    return true;
  }

  // A symbol, unless it is only the beginning of a longer one.
  bool take(std::string_view symbol, std::string_view not_followed_by = {}) {
    const std::string_view left = rest();
    if (!left.starts_with(symbol)) return false;
    if (left.size() > symbol.size() &&
        not_followed_by.find(left[symbol.size()]) != std::string_view::npos) {
      return false;
    }
    at_ += symbol.size();
    return true;
  }

  void expect(std::string_view symbol) {
    if (!take(symbol)) fail(fmt::format("expected '{}'", symbol));
  }

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
    return add({.operation = operation}, {children.begin(), children.size()});
  }

  NodeIndex add_constant(Value value) {
    result_.constants_.push_back(std::move(value));
    return add({.operation = Operation::constant,
                .index = static_cast<std::uint32_t>(result_.constants_.size() - 1)});
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
    return children.size() == 1 ? children[0] : add({.operation = operation}, children);
  }

  NodeIndex negation() {
    const Level level(*this);
    if (take_word("not")) return add(Operation::logical_not, {negation()});
    return comparison();
  }

  NodeIndex comparison() {
    std::vector<NodeIndex> children{sum()};
    std::vector<Operation> comparisons;
    while (const auto operation = take_comparison()) {
      if (!comparisons.empty() && ends_in_list(children.back())) fail("a list is not comparable");
      const bool membership = *operation == Operation::in || *operation == Operation::not_in;
      comparisons.push_back(*operation);
      children.push_back(membership && list_ahead() ? member_list() : sum());
    }
    if (comparisons.empty()) return children[0];
    if (comparisons.size() == 1) return add({.operation = comparisons[0]}, children);
    Expression::Node chain{.operation = Operation::chain};
    chain.index = static_cast<std::uint32_t>(result_.comparisons_.size());
    result_.comparisons_.insert(result_.comparisons_.end(), comparisons.begin(), comparisons.end());
    return add(chain, children);
  }

  [[nodiscard]] bool ends_in_list(NodeIndex node) const {
    return result_.nodes_[node].operation == Operation::list;
  }

  std::optional<Operation> take_comparison() {
    if (take("<=")) return Operation::less_equal;
    if (take("<", "<")) return Operation::less;
    if (take(">=")) return Operation::greater_equal;
    if (take(">", ">")) return Operation::greater;
    if (take("==")) return Operation::equal;
    if (take("!=")) return Operation::not_equal;
    if (take_word("in")) return Operation::in;
    const std::size_t start = at_;
    if (take_word("not")) {
      if (take_word("in")) return Operation::not_in;
      at_ = start;
    }
    return std::nullopt;
  }

  // Whether a list or a tuple begins here, as opposed to an expression in parentheses: one that is
  // empty or has a comma of its own.
  [[nodiscard]] bool list_ahead() {
    const std::string_view left = rest();
    if (left.starts_with('[')) return true;
    if (!left.starts_with('(')) return false;
    std::size_t depth = 0;
    bool empty = true;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const char c = left[i];
      if (c == '(' || c == '[') {
        empty = empty && depth == 0;
        ++depth;
      } else if (c == ')' || c == ']') {
        if (--depth == 0) return empty;
      } else if (c == ',' && depth == 1) {
        return true;
      } else if (c == '\'' || c == '"') {
        empty = false;
        i = left.find(c, i + 1);
        if (i == std::string_view::npos) return false;
      } else if (!is_space(c)) {
        empty = false;
      }
    }
    return false;
  }

  NodeIndex member_list() {
    const bool square = take("[");
    if (!square) expect("(");
    return add({.operation = Operation::list}, elements(square ? "]" : ")"));
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
    const std::string_view left = rest();
    if (left.empty()) fail("expected a value");
    if (left[0] == '\'' || left[0] == '"') return add_constant(string());
    if (is_digit(left[0]) || (left[0] == '.' && left.size() > 1 && is_digit(left[1]))) {
      return add_constant(number());
    }
    if (take("(")) {
      const NodeIndex inner = conditional();
      expect(")");
      return inner;
    }
    const std::string word(word_ahead());
    if (word.empty() || is_keyword(word)) fail("expected a value");
    at_ += word.size();
    if (word == "True" || word == "False") return add_constant(word == "True");
    if (take("(")) return call(word);
    return add({.operation = Operation::name, .index = index_of_name(word)});
  }

  NodeIndex call(const std::string& name) {
    const auto spec = std::find_if(built_ins.begin(), built_ins.end(),
                                   [&](const BuiltInSpec& each) { return each.name == name; });
    if (spec == built_ins.end()) {
      std::string known;
      for (const auto& each : built_ins) known += fmt::format(" {}", each.name);
      fail(fmt::format("unknown function '{}'; known:{};", name, known));
    }
    const std::vector<NodeIndex> arguments = elements(")");
    if (arguments.size() < spec->least || arguments.size() > spec->most) {
      fail(fmt::format("{}() takes {}{} argument{}, not {},", name, spec->least,
                       spec->most > spec->least ? " or more" : "", spec->most == 1 ? "" : "s",
                       arguments.size()));
    }
    return add({.operation = Operation::call, .function = spec->function}, arguments);
  }

  // --------------------------------------------------------------------------------- literals

  std::string string() {
    const char quote = result_.text_[at_];
    std::string value;
    for (std::size_t i = at_ + 1; i < result_.text_.size(); ++i) {
      char c = result_.text_[i];
      if (c == quote) {
        at_ = i + 1;
        return value;
      }
      if (c == '\\' && i + 1 < result_.text_.size()) {
        c = result_.text_[++i];
        if (c == 'n') c = '\n';
        if (c == 't') c = '\t';
      }
      value += c;
    }
    fail("the string does not end");
  }

  Value number() {
    const std::string_view left = rest();
    if (left.starts_with("0x") || left.starts_with("0X")) return whole_number(left.substr(2), 16);
    const std::size_t digits = std::min(left.find_first_not_of("0123456789"), left.size());
    const char next = digits < left.size() ? left[digits] : ' ';
    if (next != '.' && next != 'e' && next != 'E') return whole_number(left, 10);
    double value = 0;
    const auto parsed = std::from_chars(left.data(), left.data() + left.size(), value);
    if (parsed.ec != std::errc()) fail("the number does not fit");
    end_number(parsed.ptr);
    return value;
  }

  Value whole_number(std::string_view digits, int base) {
    std::int64_t value = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (parsed.ec == std::errc::result_out_of_range) fail("the number does not fit 64 bits");
    if (parsed.ec != std::errc()) fail("expected a number");
    const bool leading_zero = base == 10 && digits[0] == '0' && value != 0;
    if (leading_zero) fail("a number must not begin with 0");
    end_number(parsed.ptr);
    return value;
  }

  void end_number(const char* end) {
    at_ = static_cast<std::size_t>(end - result_.text_.data());
    const bool glued = at_ < result_.text_.size() && continues_word(result_.text_[at_]);
    if (glued) fail("did not expect this after a number");
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
    const std::string_view word = word_ahead();
    if (word == "range") return range();
    if (word == "list" || word == "tuple") {
      at_ += word.size();
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
    const std::string name(word_ahead());
    if (name.empty() || is_keyword(name)) fail("expected a name");
    at_ += name.size();
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
    take_word("range");
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
    result_.root_ = node;
    const Operand result = result_.evaluate(std::span<const Operand>(values));
    if (result.is_failure()) result_.throw_failure(result, values);
    return result;
  }

  Expression result_;
  std::vector<std::uint32_t> depth_;  // of each node's tree
  std::size_t at_ = 0;
  std::uint32_t level_ = 0;
};

Expression Expression::parse(std::string_view text) { return ExpressionParser(text).expression(); }

std::vector<Value> Expression::parse_list(std::string_view text) {
  return ExpressionParser(text).list();
}

}  // namespace cudadent
