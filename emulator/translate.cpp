#include "emulator/translate.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <regex>

namespace cudadent::emulator {

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

[[noreturn]] void refuse(std::string_view text, std::size_t at, std::string_view why) {
  const auto line =
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  throw Error(ErrorCode::compile_failed,
              fmt::format("the emulator cannot read line {} of the source: {}", line, why));
}

// Behind the bracket that closes the one at `open`.
std::size_t behind_closing(std::string_view blanked, std::size_t open) {
  const char opening = blanked[open];
  const char closing = opening == '(' ? ')' : opening == '{' ? '}' : opening == '[' ? ']' : '>';
  int depth = 0;
  for (std::size_t i = open; i < blanked.size(); ++i) {
    if (blanked[i] == opening) ++depth;
    if (blanked[i] == closing && --depth == 0) return i + 1;
  }
  refuse(blanked, open, fmt::format("'{}' is not closed", opening));
}

std::size_t find_word(std::string_view blanked, std::string_view word, std::size_t from = 0) {
  for (auto at = blanked.find(word, from); at != std::string_view::npos;
       at = blanked.find(word, at + 1)) {
    const bool begins = at == 0 || !is_word(blanked[at - 1]);
    const bool ends = at + word.size() == blanked.size() || !is_word(blanked[at + word.size()]);
    if (begins && ends) return at;
  }
  return std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

// The parts of a list, separated by commas outside all brackets.
std::vector<std::string_view> split_list(std::string_view list) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= list.size(); ++i) {
    const char c = i < list.size() ? list[i] : ',';
    if (c == '(' || c == '[' || c == '<' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '>' || c == '}') --depth;
    if (i == list.size() || (c == ',' && depth == 0)) {
      if (!trimmed(list.substr(start, i - start)).empty())
        parts.push_back(trimmed(list.substr(start, i - start)));
      start = i + 1;
    }
  }
  return parts;
}

std::string last_word(std::string_view text) {
  text = trimmed(text);
  std::size_t start = text.size();
  while (start > 0 && is_word(text[start - 1])) --start;
  return std::string(text.substr(start));
}

// The name that a parameter of a function or template declares; empty when it has none.
std::string declared_name(std::string_view parameter) {
  parameter = parameter.substr(0, parameter.find('='));
  if (const auto reference = parameter.find("(&"); reference != std::string_view::npos)
    return last_word(
        parameter.substr(reference + 2, parameter.find(')', reference) - reference - 2));
  return last_word(parameter.substr(0, parameter.find('[')));
}

std::vector<std::string> declared_names(std::string_view list) {
  std::vector<std::string> names;
  for (const auto part : split_list(list)) names.push_back(declared_name(part));
  return names;
}

// What stands in front of a brace at namespace or class scope.
struct Head {
  std::size_t start = 0, end = 0;
};

bool contains_word(std::string_view text, std::string_view word) {
  return find_word(text, word) != std::string_view::npos;
}

constexpr std::string_view attributes_with_arguments[] = {
    "__launch_bounds__", "__align__", "alignas", "__cluster_dims__", "__attribute__"};

// Where the parameters of the function begin; npos when the head is of something else.
std::size_t parameters_of(std::string_view head, std::size_t from) {
  for (std::size_t at = head.find('(', from); at != std::string_view::npos;
       at = head.find('(', behind_closing(head, at))) {
    const std::string word = last_word(head.substr(0, at));
    if (std::find(std::begin(attributes_with_arguments), std::end(attributes_with_arguments),
                  word) == std::end(attributes_with_arguments))
      return at;
  }
  return std::string_view::npos;
}

class Scanner {
 public:
  explicit Scanner(std::string_view blanked) : blanked_(blanked) { scan(0, blanked.size(), false); }
  std::vector<FunctionText> take() { return std::move(functions_); }

 private:
  void scan(std::size_t from, std::size_t to, bool in_class) {
    std::size_t start = from;
    for (std::size_t i = from; i < to; ++i) {
      const char c = blanked_[i];
      if (c == ';' || c == '}') start = i + 1;
      if (c == '(' || c == '[') i = behind_closing(blanked_, i) - 1;
      if (c != '{') continue;
      const std::size_t end = behind_closing(blanked_, i);
      if (visit(start, i, end, in_class)) start = end;
      i = end - 1;
    }
  }

  // A brace pair and what stands in front of it; whether a declaration ends with it.
  bool visit(std::size_t start, std::size_t open, std::size_t end, bool in_class) {
    const std::string_view head = blanked_.substr(start, open - start);
    std::size_t behind_template = 0;
    std::vector<std::string> template_arguments;
    for (auto at = find_word(head, "template"); at != std::string_view::npos;
         at = find_word(head, "template", behind_template)) {
      const auto list = head.find('<', at);
      behind_template = behind_closing(head, list);
      template_arguments = declared_names(head.substr(list + 1, behind_template - list - 2));
    }
    const std::string_view declaration = head.substr(behind_template);
    const auto parameters = parameters_of(declaration, 0);
    const bool is_class =
        (contains_word(declaration, "struct") || contains_word(declaration, "class") ||
         contains_word(declaration, "union")) &&
        parameters == std::string_view::npos;
    if (contains_word(declaration, "namespace") || is_class || trimmed(declaration) == "extern") {
      scan(open + 1, end - 1, is_class);
      return true;
    }
    // An enumeration, an initialiser, a concept.
    if (parameters == std::string_view::npos ||
        declaration.substr(0, parameters).find('=') != std::string_view::npos)
      return false;
    const auto closing = behind_closing(declaration, parameters);
    functions_.push_back(
        {last_word(declaration.substr(0, parameters)), template_arguments,
         declared_names(declaration.substr(parameters + 1, closing - parameters - 2)), open, end,
         in_class});
    return true;
  }

  std::string_view blanked_;
  std::vector<FunctionText> functions_;
};

// A stretch of the source and what takes its place.
struct Replacement {
  std::size_t start, end;
  std::string text;
};

std::string line_ends(std::string_view text) {
  return std::string(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')), '\n');
}

std::string forwarding_body(const FunctionText& function, bool known) {
  if (!known)
    return fmt::format(
        "{{ emulated_detail::machine().fail(\"{0} has inline assembly and no emulation: write "
        "emulated::{0} in emulator/device/instructions.h\"); }}",
        function.name);
  const std::string arguments =
      function.template_arguments.empty()
          ? std::string()
          : fmt::format("<{}>", fmt::join(function.template_arguments, ", "));
  return fmt::format("{{ return ::emulated::{}{}({}); }}", function.name, arguments,
                     fmt::join(function.arguments, ", "));
}

void forward_instructions(std::string_view source, std::string_view blanked,
                          const std::set<std::string>& emulated,
                          std::vector<Replacement>& replacements) {
  for (const FunctionText& function : function_definitions(blanked)) {
    const auto body = blanked.substr(function.body, function.body_end - function.body);
    const bool known = !function.member && emulated.contains(function.name);
    if (!known && !contains_word(body, "asm")) continue;
    replacements.push_back(
        {function.body, function.body_end,
         forwarding_body(function, known) + line_ends(source.substr(function.body, body.size()))});
  }
}

// `extern __shared__ __align__(A) T name[];` and `__shared__ __align__(A) T name[..];`
void place_shared_variables(std::string_view source, std::string_view blanked,
                            std::vector<Replacement>& replacements) {
  static const std::regex form(
      R"(^\s*((?:__align__|alignas)\s*\(\s*([^;]*?)\s*\)\s*)?((?:const\s+|unsigned\s+|signed\s+|long\s+)*[A-Za-z_][\w:]*(?:\s*<[^;]*>)?(?:\s*\*)*)\s*([A-Za-z_]\w*)\s*((?:\[[^;]*\])?)\s*$)");
  for (auto at = find_word(blanked, "__shared__"); at != std::string_view::npos;
       at = find_word(blanked, "__shared__", at + 1)) {
    const auto end = blanked.find(';', at);
    if (end == std::string_view::npos) refuse(blanked, at, "a __shared__ variable without ';'");
    const std::string rest(blanked.substr(at + 10, end - at - 10));
    std::smatch parts;
    if (!std::regex_match(rest, parts, form))
      refuse(
          blanked, at,
          fmt::format("write \"__shared__ __align__(A) T name[N];\", one variable a declaration, "
                      "not \"__shared__{}\"",
                      rest));
    const std::string type = parts[3], name = parts[4], extents = parts[5];
    const std::string alignment =
        parts[2].matched ? parts[2].str() : fmt::format("alignof({})", type);
    const auto external = blanked.substr(0, at).find_last_not_of(" \n");
    const bool dynamic = external != std::string_view::npos && external >= 5 &&
                         blanked.substr(external - 5, 6) == "extern";
    const std::size_t start = dynamic ? external - 5 : at;
    const std::string text =
        dynamic ? fmt::format(
                      "{0}* const {1} = static_cast<{0}*>(emulated_detail::machine()."
                      "dynamic_shared({2}, \"{1}\"))",
                      type, name, alignment)
                : fmt::format(
                      "static char {1}_declaration_; using {1}_type_ = {0}{3}; auto& {1} = "
                      "*static_cast<{1}_type_*>(emulated_detail::machine().static_shared("
                      "&{1}_declaration_, sizeof({1}_type_), {2}, \"{1}\"))",
                      type, name, alignment, extents);
    replacements.push_back({start, end, text + line_ends(source.substr(start, end - start))});
  }
}

// What __launch_bounds__ says in front of the kernel's name; empty without.
std::string launch_bounds_of(std::string_view source, std::string_view blanked,
                             const std::string& entry) {
  for (auto at = find_word(blanked, entry); at != std::string_view::npos;
       at = find_word(blanked, entry, at + 1)) {
    const auto next = blanked.find_first_not_of(" \n", at + entry.size());
    if (next == std::string_view::npos || blanked[next] != '(') continue;
    const auto before = blanked.find_last_of(";}", at);
    const auto head = blanked.substr(before + 1, at - before - 1);
    if (!contains_word(head, "__global__")) continue;
    const auto bounds = find_word(head, "__launch_bounds__");
    if (bounds == std::string_view::npos) return {};
    const auto open = head.find('(', bounds);
    return std::string(source.substr(before + 1 + open + 1, behind_closing(head, open) - open - 2));
  }
  throw Error(ErrorCode::compile_failed,
              fmt::format("The template has no kernel '{}': is it extern \"C\" __global__, and "
                          "spelled as in \"launches\"?",
                          entry));
}

}  // namespace

std::string blank_out(std::string_view text) {
  std::string result(text);
  const auto blank = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < std::min(to, result.size()); ++i)
      if (result[i] != '\n') result[i] = ' ';
  };
  bool line_begins = true;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const char c = text[i];
    if (c == '\n') {
      line_begins = true;
    } else if (c == '#' && line_begins) {
      std::size_t end = i;
      while (end < text.size() && (text[end] != '\n' || text[end - 1] == '\\')) ++end;
      blank(i, end);
      i = end - 1;
    } else if (text.substr(i, 2) == "//") {
      const std::size_t end = std::min(text.find('\n', i), text.size());
      blank(i, end);
      i = end - 1;
    } else if (text.substr(i, 2) == "/*") {
      const std::size_t end = std::min(text.find("*/", i), text.size() - 2) + 2;
      blank(i, end);
      i = end - 1;
    } else if (c == '"' || (c == '\'' && (i == 0 || !is_word(text[i - 1])))) {
      std::size_t end = i + 1;
      while (end < text.size() && text[end] != c) end += text[end] == '\\' ? 2 : 1;
      blank(i, end + 1);
      i = end;
    } else if (!std::isspace(static_cast<unsigned char>(c))) {
      line_begins = false;
    }
  }
  return result;
}

std::vector<FunctionText> function_definitions(std::string_view blanked) {
  return Scanner(blanked).take();
}

std::set<std::string> emulated_names(std::string_view instructions) {
  const auto start = instructions.find("namespace emulated {");
  const auto part = instructions.substr(std::min(start, instructions.size()));
  std::set<std::string> names;
  for (const auto& function : function_definitions(blank_out(part))) names.insert(function.name);
  return names;
}

std::string translate(std::string_view source, const std::set<std::string>& emulated,
                      const std::vector<std::string>& entries) {
  const std::string blanked = blank_out(source);
  std::vector<Replacement> replacements;
  forward_instructions(source, blanked, emulated, replacements);
  place_shared_variables(source, blanked, replacements);
  std::sort(replacements.begin(), replacements.end(),
            [](const auto& a, const auto& b) { return a.start < b.start; });
  std::string result;
  std::size_t at = 0;
  for (const auto& replacement : replacements) {
    if (replacement.start < at) refuse(source, replacement.start, "shared memory beside assembly");
    result += source.substr(at, replacement.start - at);
    result += replacement.text;
    at = replacement.end;
  }
  result += source.substr(at);
  for (const auto& entry : entries)
    result += fmt::format("CUDADENT_ENTRY({}{}{})\n", entry,
                          launch_bounds_of(source, blanked, entry).empty() ? "" : ", ",
                          launch_bounds_of(source, blanked, entry));
  return result;
}

}  // namespace cudadent::emulator
