#include "cache/formats/record_json.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "cache/records.h"
#include "runtime/language/value.h"

namespace cudadent {

using nlohmann::json;

json member_json(double number, NotFinite not_finite) {
  if (std::isfinite(number)) return number;
  if (not_finite == NotFinite::null) return nullptr;
  if (std::isnan(number)) return "NaN";
  return number > 0 ? "inf" : "-inf";
}

json member_json(const Values& values, NotFinite /*not_finite*/) { return to_json(values); }

json member_json(const std::vector<double>& numbers, NotFinite not_finite) {
  json list = json::array();
  for (const double number : numbers) list.push_back(member_json(number, not_finite));
  return list;
}

json member_json(const Figures& figures, NotFinite not_finite) {
  json object = json::object();
  for (const auto& [name, value] : figures) object[name] = member_json(value, not_finite);
  return object;
}

json member_json(const std::vector<KernelResources>& resources, NotFinite /*not_finite*/) {
  return json::parse(encode_resources(resources));
}

json member_json(TrialStatus status, NotFinite /*not_finite*/) { return name_of(status); }
json member_json(Provenance provenance, NotFinite /*not_finite*/) { return name_of(provenance); }

void read_member(const json& value, double& number) {
  if (!value.is_string()) {
    number = value.get<double>();
    return;
  }
  const auto& text = value.get_ref<const std::string&>();
  if (text == "NaN")
    number = std::numeric_limits<double>::quiet_NaN();
  else if (text == "inf")
    number = std::numeric_limits<double>::infinity();
  else if (text == "-inf")
    number = -std::numeric_limits<double>::infinity();
  else
    throw Error(ErrorCode::invalid_argument, fmt::format("\"{}\" is no number", text));
}

void read_member(const json& value, Values& values) { values = values_from_json(value); }

void read_member(const json& value, std::vector<double>& numbers) {
  numbers.clear();
  for (const json& item : value.get_ref<const json::array_t&>())
    read_member(item, numbers.emplace_back());
}

void read_member(const json& value, Figures& figures) {
  figures.clear();
  for (const auto& [name, figure] : value.get_ref<const json::object_t&>())
    read_member(figure, figures[name]);
}

void read_member(const json& value, std::vector<KernelResources>& resources) {
  resources = decode_resources(value.dump());
}

void read_member(const json& value, TrialStatus& status) {
  status = decode_status(value.get_ref<const std::string&>());
}

}  // namespace cudadent
