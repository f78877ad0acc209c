#include "runtime/language/manifest_field.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "runtime/language/value.h"

namespace cudadent {

Json manifest_json(std::string_view text, const std::string& origin) {
  std::vector<std::set<std::string>> open;  // keys of the objects that the parser is in
  const auto check_key = [&](int, Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second)
      throw Error(
          ErrorCode::invalid_manifest,
          fmt::format("{}: the field {} stands twice in one object", origin, parsed.dump()));
    return true;
  };
  try {
    // Comments are allowed: manifests are written by people.
    return Json::parse(text, check_key, true, true);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorCode::invalid_manifest, fmt::format("{}: not JSON: {}", origin, error.what()));
  }
}

void Field::fail(const std::string& reason) const {
  throw Error(ErrorCode::invalid_manifest, fmt::format("{}: {}: {}", context_.origin,
                                                       path_.empty() ? "manifest" : path_, reason));
}

void Field::check_object() const {
  if (!json_.is_object()) fail("expected an object");
}

void Field::check_array() const {
  if (!json_.is_array()) fail("expected an array");
}

Field Field::at(const std::string& key) const {
  check_object();
  if (!json_.contains(key)) fail(fmt::format("\"{}\" is missing", key));
  return {json_.at(key), context_, path_.empty() ? key : path_ + "." + key};
}

Field Field::element(std::size_t i) const {
  return {json_.at(i), context_, fmt::format("{}[{}]", path_, i)};
}

void Field::allow_keys(const Names& keys) const {
  check_object();
  for (const auto& [key, value] : json_.items())
    if (!keys.contains(key))
      fail(fmt::format("unknown field \"{}\"; known: {}", key, fmt::join(keys, ", ")));
}

std::string Field::text() const {
  if (!json_.is_string()) fail(fmt::format("expected a string, found {}", json_.dump()));
  return json_.get<std::string>();
}

std::string Field::prose_at(const std::string& key) const {
  if (!has(key)) return {};
  const Field member = at(key);
  return member.json().is_array() ? member.joined_lines() : member.text();
}

std::string Field::text_or(const std::string& key, const std::string& otherwise) const {
  return has(key) ? at(key).text() : otherwise;
}

std::vector<std::string> Field::texts() const {
  std::vector<std::string> all;
  each_element([&](const Field& element) { all.push_back(element.text()); });
  return all;
}

bool Field::flag() const {
  if (!json_.is_boolean()) fail(fmt::format("expected true or false, found {}", json_.dump()));
  return json_.get<bool>();
}

bool Field::flag_or(const std::string& key, bool otherwise) const {
  return has(key) ? at(key).flag() : otherwise;
}

Value Field::scalar() const {
  try {
    return value_from_json(json_);
  } catch (const Error& error) {
    fail(error.what());
  }
}

std::vector<Value> Field::values() const {
  std::vector<Value> values;
  each_element([&](const Field& element) {
    Value value = element.scalar();
    if (const auto* word = std::get_if<std::string>(&value)) check_identifier(element, *word);
    if (!values.empty() && is_number(value) != is_number(values.front()))
      element.fail("expected all words, or all numbers and flags");
    if (std::find(values.begin(), values.end(), value) != values.end())
      element.fail(fmt::format("the value {} stands twice", to_literal(value)));
    values.push_back(std::move(value));
  });
  if (values.empty()) fail("no values");
  return values;
}

std::string Field::joined_lines() const {
  if (json_.empty()) fail("expected text in lines, found an empty list");
  return fmt::format("{}", fmt::join(texts(), " "));
}

Expression Field::parsed(const std::string& text) const {
  try {
    return Expression::parse(text, context_.words);
  } catch (const Error& error) {
    fail(error.what());
  }
}

Expression Field::expression() const {
  if (json_.is_string()) return parsed(text());
  if (json_.is_array()) return parsed(joined_lines());
  if (json_.is_object()) return parsed(choice());
  return Expression::constant(scalar());
}

// A choice as the expression that it stands for: value if condition else …
std::string Field::choice() const {
  if (!is_choice())
    fail("expected an expression: a string, a list of lines, or an object with \"choose\"");
  allow_keys({"choose", "default"});
  std::string text;
  at("choose").each_element([&](const Field& row) {
    if (!row.json().is_array() || row.json().size() != 2)
      row.fail(fmt::format("expected [condition, value], found {}", row.json().dump()));
    text += fmt::format("{} if {} else ", row.element(1).part_of_choice(),
                        row.element(0).part_of_choice());
  });
  if (text.empty()) at("choose").fail("expected at least one row");
  return text + at("default").expression().text();
}

std::string Field::part_of_choice() const {
  const Expression part = expression();
  const bool needs_parentheses = part.nodes()[part.root()].operation == Operation::conditional;
  return needs_parentheses ? fmt::format("({})", part.text()) : part.text();
}

Expression Field::expression(const Names& known) const {
  Expression parsed = expression();
  check_names(*this, parsed, known);
  return parsed;
}

std::vector<Expression> Field::expressions(const Names& known) const {
  std::vector<Expression> all;
  each_element([&](const Field& element) { all.push_back(element.expression()); });
  for (const auto& expression : all) check_names(*this, expression, known);
  return all;
}

std::optional<Expression> Field::expression_at(const std::string& key, const Names& known) const {
  if (!has(key)) return std::nullopt;
  return at(key).expression(known);
}

std::vector<Expression> Field::expressions_at(const std::string& key, const Names& known) const {
  if (!has(key)) return {};
  return at(key).expressions(known);
}

bool is_word_letter(char letter) {
  return std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '_';
}

bool is_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_word_letter);
}

void check_identifier(const Field& field, const std::string& name) {
  static const std::set<std::string> reserved{
      // C++'s
      "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break",
      "case", "catch", "char", "char16_t", "char32_t", "char8_t", "class", "co_await", "co_return",
      "co_yield", "compl", "concept", "const", "const_cast", "consteval", "constexpr", "constinit",
      "continue", "decltype", "default", "delete", "do", "double", "dynamic_cast", "else", "enum",
      "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if", "inline",
      "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
      "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast",
      "requires", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast",
      "struct", "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef",
      "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t",
      "while", "xor", "xor_eq",
      // the expressions'
      "False", "None", "True", "in", "is", "lambda", "device"};
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) != 0 || !is_word(name) ||
      reserved.contains(name))
    field.fail(fmt::format("\"{}\" cannot be a name: expected letters, digits and _, not a keyword",
                           name));
}

void check_constant(const Field& field, const std::string& name) {
  static const std::set<std::string> used{
      // functions of expressions
      "abs", "ceil_div", "gcd", "max", "min", "pow2_ceil", "round_up", "size",
      // the shared types
      "Block", "bf16", "e4m3", "e5m2", "f16", "f32", "f64", "i16", "i32", "i64", "i8", "simd",
      "u16", "u32", "u64", "u8"};
  check_identifier(field, name);
  if (used.contains(name))
    field.fail(fmt::format("\"{}\" cannot be a name: it is a function or a type", name));
}

void check_names(const Field& field, const Expression& expression, const Names& known) {
  for (const auto& name : expression.names())
    if (!known.contains(name))
      field.fail(fmt::format("expression '{}': unknown name '{}'; known: {}", expression.text(),
                             name, fmt::join(known, ", ")));
}

void check_words(const Field& field, const Words& words, const Names& known) {
  for (const auto& word : words)
    if (known.contains(word))
      field.fail(
          fmt::format("\"{}\" is both a word of an option or parameter and the name of a value: an "
                      "expression could mean either. Rename one",
                      word));
}

void fail_used_twice(const Field& field, const std::string& name) {
  field.fail(fmt::format("the name \"{}\" is used twice", name));
}

}  // namespace cudadent
