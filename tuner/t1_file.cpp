#include "tuner/t1_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/language/value.h"

namespace cudadent {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{} is not a T1 file: {}. Expected {{\"ConfigurationSpace\": "
                  "{{\"TuningParameters\": [{{\"Name\": …, \"Values\": …}}], \"Conditions\": "
                  "[{{\"Expression\": …}}]}}}}",
                  name, why));
}

const Json& member(const Json& object, const char* key, const std::string& name) {
  if (!object.is_object()) refuse(name, fmt::format("what should hold {} is no object", key));
  const auto found = object.find(key);
  if (found == object.end()) refuse(name, fmt::format("there is no {}", key));
  return *found;
}

std::string text_of(const Json& object, const char* key, const std::string& name) {
  const Json& text = member(object, key, name);
  if (!text.is_string()) refuse(name, fmt::format("{} is no string: {}", key, text.dump()));
  return text.get<std::string>();
}

// Values are a string with a Python list, as the format says, or a list, as some write.
std::vector<Value> values_of(const Json& parameter, const std::string& name) {
  const Json& values = member(parameter, "Values", name);
  if (values.is_string()) return Expression::parse_list(values.get<std::string>());
  if (!values.is_array()) refuse(name, "Values are neither a string nor a list: " + values.dump());
  std::vector<Value> result;
  for (const Json& value : values) result.push_back(value_from_json(value));
  return result;
}

template <class Read>
auto in_context(const std::string& context, Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", context, error.what()));
  }
}

}  // namespace

SpaceDefinition parse_t1(const std::string& text, const std::string& name) {
  Json document;
  try {
    document = Json::parse(text);
  } catch (const Json::exception& error) {
    refuse(name, fmt::format("not JSON ({})", error.what()));
  }
  const Json& space = member(document, "ConfigurationSpace", name);
  const Json& parameters = member(space, "TuningParameters", name);
  if (!parameters.is_array()) refuse(name, "TuningParameters is no list");
  SpaceDefinition definition;
  for (const Json& parameter : parameters) {
    std::string parameter_name = text_of(parameter, "Name", name);
    auto values = in_context(fmt::format("{}, values of {}", name, parameter_name),
                             [&] { return values_of(parameter, name); });
    definition.parameters.push_back({std::move(parameter_name), std::move(values)});
  }
  const auto conditions = space.find("Conditions");
  if (conditions == space.end() || conditions->is_null()) return definition;
  if (!conditions->is_array()) refuse(name, "Conditions is no list");
  for (const Json& condition : *conditions) {
    const std::string expression = text_of(condition, "Expression", name);
    definition.constraints.push_back(in_context(fmt::format("{}, a condition", name),
                                                [&] { return Expression::parse(expression); }));
  }
  return definition;
}

SpaceDefinition read_t1(const std::filesystem::path& file) {
  const auto text = read_file(file);
  if (!text) refuse(file.string(), "it cannot be read");
  return parse_t1(*text, file.string());
}

}  // namespace cudadent
