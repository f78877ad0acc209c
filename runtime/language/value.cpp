#include "runtime/language/value.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace cudadent {

namespace {

struct DataTypeRow {
  DataType type;
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<DataTypeRow, 11> data_types{{{DataType::f64, "f64", 8},
                                                  {DataType::f32, "f32", 4},
                                                  {DataType::bf16, "bf16", 2},
                                                  {DataType::f16, "f16", 2},
                                                  {DataType::i64, "i64", 8},
                                                  {DataType::i32, "i32", 4},
                                                  {DataType::i8, "i8", 1},
                                                  {DataType::u8, "u8", 1},
                                                  {DataType::boolean, "bool", 1},
                                                  {DataType::e4m3, "e4m3", 1},
                                                  {DataType::e5m2, "e5m2", 1}}};

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};

[[noreturn]] void wrong_kind(const Value& value, std::string_view what, std::string_view expected) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is {}, expected {}", what, to_literal(value), expected));
}

}  // namespace

std::size_t size_of(DataType type) noexcept {
  return data_types[static_cast<std::size_t>(type)].bytes;
}

std::string_view name_of(DataType type) noexcept {
  return data_types[static_cast<std::size_t>(type)].name;
}

std::optional<DataType> data_type_named(std::string_view name) noexcept {
  for (const auto& row : data_types)
    if (row.name == name) return row.type;
  return std::nullopt;
}

const Words& data_type_words() {
  static const Words words = [] {
    Words names;
    for (const auto& row : data_types) names.emplace(row.name);
    return names;
  }();
  return words;
}

std::string_view name_of(Provenance provenance) noexcept {
  switch (provenance) {
    case Provenance::tuned:
      return "tuned";
    case Provenance::cached:
      return "cached";
    case Provenance::shipped:
      return "shipped";
    case Provenance::neighbour:
      return "neighbour";
    case Provenance::nearest:
      return "nearest";
    case Provenance::other_device:
      return "other device";
    case Provenance::predicted:
      return "predicted";
    case Provenance::defaulted:
      return "default";
  }
  return "unknown";
}

std::string_view name_of(TrialStatus status) noexcept {
  switch (status) {
    case TrialStatus::ok:
      return "ok";
    case TrialStatus::compile_error:
      return "compile_error";
    case TrialStatus::compile_timeout:
      return "compile_timeout";
    case TrialStatus::invalid_resources:
      return "invalid_resources";
    case TrialStatus::launch_error:
      return "launch_error";
    case TrialStatus::fault:
      return "fault";
    case TrialStatus::timeout:
      return "timeout";
    case TrialStatus::wrong_result:
      return "wrong_result";
    case TrialStatus::timeout_once:
      return "timeout_once";
    case TrialStatus::disturbed:
      return "disturbed";
  }
  return "unknown";
}

std::string to_text(const Value& value) {
  return std::visit(Overloaded{[](bool v) { return std::string(v ? "true" : "false"); },
                               [](std::int64_t v) { return fmt::format("{}", v); },
                               [](double v) { return fmt::format("{}", v); },
                               [](const std::string& v) { return v; }},
                    value);
}

std::string to_literal(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return fmt::format("'{}'", *text);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
  std::string text = to_text(value);
  // "1" would be an integer; "1e+300", "inf" and "nan" are not.
  if (std::holds_alternative<double>(value) && text.find_first_of(".en") == std::string::npos)
    text += ".0";
  return text;
}

std::string to_text(const Values& values) {
  std::string text;
  for (const auto& [name, value] : values)
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, to_text(value));
  return text;
}

Value parse_value(std::string_view text) {
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  const char* end = text.data() + text.size();
  std::int64_t integer = 0;
  if (auto [p, error] = std::from_chars(text.data(), end, integer);
      error == std::errc{} && p == end)
    return integer;
  double real = 0;
  // from_chars reads "inf" and "nan" too: those are words.
  if (auto [p, error] = std::from_chars(text.data(), end, real);
      error == std::errc{} && p == end && std::isfinite(real))
    return real;
  return std::string(text);
}

nlohmann::json to_json(const Value& value) {
  return std::visit([](const auto& v) { return nlohmann::json(v); }, value);
}

nlohmann::json to_json(const Values& values) {
  auto json = nlohmann::json::object();
  for (const auto& [name, value] : values) json[name] = to_json(value);
  return json;
}

Value value_from_json(const nlohmann::json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
    throw Error(ErrorCode::invalid_argument, fmt::format("{} does not fit 64 bits", json.dump()));
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} is not a number, a flag or a string", json.dump()));
}

Values values_from_json(const nlohmann::json& json) {
  if (!json.is_object())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is not an object of values", json.dump()));
  Values values;
  for (const auto& [name, value] : json.items()) values[name] = value_from_json(value);
  return values;
}

bool is_true(const Value& value) noexcept {
  return std::visit(
      Overloaded{[](bool v) { return v; }, [](std::int64_t v) { return v != 0; },
                 [](double v) { return v != 0; }, [](const std::string& v) { return !v.empty(); }},
      value);
}

bool is_number(const Value& value) noexcept { return !std::holds_alternative<std::string>(value); }

std::int64_t as_integer(const Value& value, std::string_view what) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
  if (const auto* real = std::get_if<double>(&value)) {
    // 2^63 is the first double that does not fit.
    if (std::trunc(*real) == *real && std::abs(*real) < 9223372036854775808.0)
      return static_cast<std::int64_t>(*real);
  }
  wrong_kind(value, what, "an integer");
}

double as_real(const Value& value, std::string_view what) {
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
  wrong_kind(value, what, "a number");
}

const std::string& as_string(const Value& value, std::string_view what) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  wrong_kind(value, what, "a string");
}

std::string_view version() noexcept { return CUDADENT_VERSION; }

}  // namespace cudadent
