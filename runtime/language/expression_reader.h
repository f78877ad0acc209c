// The text of an expression: its words, symbols and literals, one after another.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace cudadent {

// Spaces are skipped. What is taken is passed over; what is not there leaves the place as it was. Throws
// Error(invalid_manifest) that shows the text and the place.
class ExpressionReader {
 public:
  // The text must outlive the reader.
  explicit ExpressionReader(std::string_view text) : text_(text) {}

  [[noreturn]] void fail(const std::string& reason);
  void expect_end();

  // The word ahead, a dotted name as one; empty when there is none.
  [[nodiscard]] std::string_view word_ahead();
  bool take_word(std::string_view word);
  // Both, or none.
  bool take_words(std::string_view first, std::string_view second);
  // A word that is no keyword; `expected` is what the message asks for where there is none.
  std::string take_name(std::string_view expected);

  // A symbol, unless it is only the beginning of a longer one.
  bool take(std::string_view symbol, std::string_view not_followed_by = {});
  void expect(std::string_view symbol);

  // Whether a list or a tuple begins here, as opposed to an expression in parentheses: one that is
  // empty or has a comma of its own.
  [[nodiscard]] bool list_ahead();

  [[nodiscard]] bool string_ahead();
  std::string take_string();
  [[nodiscard]] bool number_ahead();
  Value take_number();

 private:
  [[nodiscard]] std::string_view rest();
  Value whole_number(std::string_view digits, int base);
  void end_number(const char* end);

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace cudadent
