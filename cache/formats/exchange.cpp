#include "cache/formats/exchange.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cache/formats/exchange_parts.h"
#include "cache/formats/gzip.h"
#include "runtime/base/files.h"

namespace cudadent {

using nlohmann::json;

namespace {

[[noreturn]] void refuse(const std::string& file, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", file, why));
}

// What a document that breaks off holds completely: cut after the last object that closed two levels
// below the root (a result of T4, an entry of a cache), with the levels closed. Empty when there is
// none.
std::string completed(const std::string& text) {
  std::string open;  // the closing characters still owed
  std::size_t end = 0;
  std::string owed;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      open += c == '{' ? '}' : ']';
    } else if (c == '}' || c == ']') {
      if (open.empty() || open.back() != c) return {};
      open.pop_back();
      if (open.size() != 2 || c != '}') continue;
      end = i + 1;
      owed = open;
    }
  }
  return end == 0 ? std::string() : text.substr(0, end) + std::string(owed.rbegin(), owed.rend());
}

}  // namespace

std::string read_exchange_text(const std::filesystem::path& file) {
  const auto text = read_file(file);
  if (!text) refuse(file.string(), "cannot be read: no such file, or not readable");
  return text->starts_with("\x1f\x8b") ? decompress_gzip(*text, file.string()) : *text;
}

json parse_exchange(const std::string& text, const std::string& file) {
  try {
    return json::parse(text, nullptr, true, true);
  } catch (const json::exception& error) {
    const std::string whole = completed(text);
    const json document =
        whole.empty() ? json() : json::parse(whole, nullptr, false, true);  // no exceptions
    if (is_t4(document) || is_kernel_tuner(document)) return document;
    refuse(file, fmt::format("not JSON ({})", error.what()));
  }
}

Contents from_exchange(const json& document, const ExchangeOrigin& origin) {
  Contents contents;
  std::string place;
  try {
    contents.trials = is_t4(document) ? from_t4(document, origin, place)
                                      : from_kernel_tuner(document, origin, place);
  } catch (const std::exception& error) {
    refuse(origin.file, fmt::format("{}{}", place, error.what()));
  }
  return contents;
}

}  // namespace cudadent
