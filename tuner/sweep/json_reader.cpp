#include "tuner/sweep/json_reader.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/files.h"

namespace cudadent {

nlohmann::json parse_json(std::string_view text, const std::string& origin) {
  try {
    return nlohmann::json::parse(text, nullptr, true, true);
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is not JSON: {}", origin, error.what()));
  }
}

nlohmann::json read_json(const std::filesystem::path& file) {
  const auto text = read_file(file);
  if (!text)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("cannot read {}: no such file, or not readable", file.string()));
  return parse_json(*text, file.string());
}

JsonReader::JsonReader(const nlohmann::json& json, std::string place)
    : json_(json), place_(std::move(place)) {
  if (!json_.is_object())
    fail(fmt::format("expected an object, found {}", json_.dump().substr(0, 60)));
}

void JsonReader::fail(const std::string& complaint) const {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", place_, complaint));
}

bool JsonReader::has(const char* name) const { return json_.contains(name); }

void JsonReader::allow(std::initializer_list<std::string_view> names) const {
  for (const auto& entry : json_.items())
    if (std::find(names.begin(), names.end(), entry.key()) == names.end())
      fail(fmt::format("unknown name \"{}\"; known: {}", entry.key(), fmt::join(names, ", ")));
}

const nlohmann::json& JsonReader::at(const char* name, const char* expected) const {
  const auto found = json_.find(name);
  if (found == json_.end()) fail(fmt::format("\"{}\" is missing: {}", name, expected));
  return *found;
}

std::string JsonReader::text(const char* name) const {
  const auto& value = at(name, "a text");
  if (!value.is_string())
    fail(fmt::format("\"{}\": expected a text, found {}", name, value.dump()));
  return value.get<std::string>();
}

std::string JsonReader::text(const char* name, const char* otherwise) const {
  return has(name) ? text(name) : otherwise;
}

double JsonReader::number(const char* name) const {
  const auto& value = at(name, "a number");
  if (!value.is_number())
    fail(fmt::format("\"{}\": expected a number, found {}", name, value.dump()));
  return value.get<double>();
}

JsonReader JsonReader::object(const char* name) const {
  return {at(name, "an object"), fmt::format("{}: {}", place_, name)};
}

std::vector<JsonReader> JsonReader::list(const char* name) const {
  const auto& values = at(name, "a list of objects");
  if (!values.is_array())
    fail(fmt::format("\"{}\": expected a list, found {}", name, values.dump().substr(0, 60)));
  std::vector<JsonReader> readers;
  for (std::size_t i = 0; i < values.size(); ++i)
    readers.emplace_back(values[i], fmt::format("{}: {}[{}]", place_, name, i));
  return readers;
}

}  // namespace cudadent
