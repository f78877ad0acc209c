#include "runtime/language/expression_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace cudadent {

namespace {

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

std::string_view ExpressionReader::rest() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  return text_.substr(at_);
}

void ExpressionReader::fail(const std::string& reason) {
  const std::string_view left = rest();
  const auto place = left.empty() ? std::string("at the end")
                                  : fmt::format("at column {}, '{}'", at_ + 1, left.substr(0, 20));
  throw Error(ErrorCode::invalid_manifest,
              fmt::format("cannot parse '{}': {} {}", text_, reason, place));
}

void ExpressionReader::expect_end() {
  if (!rest().empty()) fail("did not expect more");
}

// ------------------------------------------------------------------------------ words, symbols

std::string_view ExpressionReader::word_ahead() {
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

bool ExpressionReader::take_word(std::string_view word) {
  if (word_ahead() != word) return false;
  at_ += word.size();
  return true;
}

bool ExpressionReader::take_words(std::string_view first, std::string_view second) {
  const std::size_t start = at_;
  if (take_word(first) && take_word(second)) return true;
  at_ = start;
  return false;
}

std::string ExpressionReader::take_name(std::string_view expected) {
  const std::string_view word = word_ahead();
  if (word.empty() || is_keyword(word)) fail(fmt::format("expected {}", expected));
  at_ += word.size();
  return std::string(word);
}

bool ExpressionReader::take(std::string_view symbol, std::string_view not_followed_by) {
  const std::string_view left = rest();
  if (!left.starts_with(symbol)) return false;
  if (left.size() > symbol.size() &&
      not_followed_by.find(left[symbol.size()]) != std::string_view::npos) {
    return false;
  }
  at_ += symbol.size();
  return true;
}

void ExpressionReader::expect(std::string_view symbol) {
  if (!take(symbol)) fail(fmt::format("expected '{}'", symbol));
}

bool ExpressionReader::list_ahead() {
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

// --------------------------------------------------------------------------------- literals

bool ExpressionReader::string_ahead() {
  const std::string_view left = rest();
  return left.starts_with('\'') || left.starts_with('"');
}

std::string ExpressionReader::take_string() {
  const char quote = rest()[0];
  std::string value;
  for (std::size_t i = at_ + 1; i < text_.size(); ++i) {
    char c = text_[i];
    if (c == quote) {
      at_ = i + 1;
      return value;
    }
    if (c == '\\' && i + 1 < text_.size()) {
      c = text_[++i];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
    }
    value += c;
  }
  fail("the string does not end");
}

bool ExpressionReader::number_ahead() {
  const std::string_view left = rest();
  if (left.empty()) return false;
  return is_digit(left[0]) || (left[0] == '.' && left.size() > 1 && is_digit(left[1]));
}

Value ExpressionReader::take_number() {
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

Value ExpressionReader::whole_number(std::string_view digits, int base) {
  std::int64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (parsed.ec == std::errc::result_out_of_range) fail("the number does not fit 64 bits");
  if (parsed.ec != std::errc()) fail("expected a number");
  const bool leading_zero = base == 10 && digits[0] == '0' && value != 0;
  if (leading_zero) fail("a number must not begin with 0");
  end_number(parsed.ptr);
  return value;
}

void ExpressionReader::end_number(const char* end) {
  at_ = static_cast<std::size_t>(end - text_.data());
  const bool glued = at_ < text_.size() && continues_word(text_[at_]);
  if (glued) fail("did not expect this after a number");
}

}  // namespace cudadent
