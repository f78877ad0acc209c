#include "cache/formats/exchange_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "cache/records.h"
#include "runtime/language/value.h"

namespace cudadent {

using nlohmann::json;

namespace {

constexpr const char* template_parameter = "template";

std::string iso_time(std::string timestamp) {
  const auto zone = timestamp.find('+', 10);
  if (zone != std::string::npos) timestamp.resize(zone);
  if (timestamp.size() > 23) timestamp.resize(23);
  std::replace(timestamp.begin(), timestamp.end(), ' ', 'T');
  return timestamp.empty() ? timestamp : timestamp + "Z";
}

// One that claims success needs a time that can be one: some tools write 0 or -1 for what failed.
void check_time(Trial& trial) {
  const auto usable = [](double seconds) { return std::isfinite(seconds) && seconds > 0; };
  if (trial.status != TrialStatus::ok || usable(trial.median)) return;
  trial.message = fmt::format("the file says success, and no time above 0 ({} s)", trial.median);
  trial.status = TrialStatus::launch_error;
}

}  // namespace

ExchangeSpace::ExchangeSpace(const std::vector<TrialRecord>& trials) {
  std::set<std::string> templates, names;
  for (const auto& record : trials) {
    templates.insert(record.trial.kernel_template);
    for (const auto& [name, value] : record.trial.configuration) names.insert(name);
  }
  with_template_ = templates.size() > 1;
  if (with_template_) names_.emplace_back(template_parameter);
  names_.insert(names_.end(), names.begin(), names.end());
}

Value ExchangeSpace::value(const Trial& trial, const std::string& name) const {
  if (with_template_ && name == template_parameter) return trial.kernel_template;
  const auto found = trial.configuration.find(name);
  return found == trial.configuration.end() ? Value(std::string("none")) : found->second;
}

std::vector<TrialRecord> newest_trials(const std::vector<TrialRecord>& trials) {
  std::map<std::pair<std::string, std::string>, std::size_t> places;
  std::vector<TrialRecord> kept;
  for (const auto& record : trials) {
    const auto [found, is_new] = places.try_emplace(
        {record.trial.kernel_template, encode_configuration(record.trial.configuration)},
        kept.size());
    if (is_new)
      kept.push_back(record);
    else if (record.created >= kept[found->second].created)
      kept[found->second] = record;
  }
  return kept;
}

std::vector<double> in_milliseconds(const std::vector<double>& samples) {
  std::vector<double> times;
  for (const double sample : samples)
    if (std::isfinite(sample)) times.push_back(sample * milliseconds);
  return times;
}

std::string python_time(std::string created) {
  std::replace(created.begin(), created.end(), 'T', ' ');
  if (created.ends_with('Z')) created.replace(created.size() - 1, 1, "+00:00");
  return created;
}

json own_member(const Trial& trial) {
  return {{"status", name_of(trial.status)}, {"template", trial.kernel_template}};
}

std::string text_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

double seconds_from(const json& object, const char* name, double unit) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() * unit : 0;
}

std::vector<double> samples_from(const json& object, const char* name, double unit) {
  std::vector<double> samples;
  const auto found = object.find(name);
  if (found != object.end() && found->is_array())
    for (const auto& time : *found)
      if (time.is_number()) samples.push_back(time.get<double>() * unit);
  return samples;
}

TrialStatus status_from(const json& object, TrialStatus otherwise) {
  const auto ours = object.find("cudadent");
  return ours == object.end() ? otherwise
                              : decode_status(ours->at("status").get_ref<const std::string&>());
}

Values configuration_of(const json& object) {
  try {
    return values_from_json(object);
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("a configuration is not an object of plain values: {}", error.what()));
  }
}

ProblemRecord exchange_problem(const ExchangeOrigin& origin, const std::string& op,
                               const std::string& device) {
  const std::string stem = std::filesystem::path(origin.file).stem().string();
  const std::string name = !origin.op.empty() ? origin.op : op.empty() ? stem : op;
  const std::string kind = !origin.device_kind.empty() ? origin.device_kind
                           : device.empty()            ? "unknown"
                                                       : device;
  const std::string key = json{{"source", stem}}.dump();
  return {name, key, key, fmt::format("{} from {}", name, stem), kind};
}

TrialRecord exchange_record(Trial trial, const ProblemRecord& problem, const json& entry) {
  TrialRecord record;
  record.problem = problem;
  record.template_hash = "imported";
  record.compiler = "imported";
  record.measurement = "imported";
  record.created = iso_time(text_at(entry, "timestamp"));
  trial.kernel_template = "imported";
  if (const auto found = trial.configuration.find(template_parameter);
      found != trial.configuration.end())
    trial.kernel_template = to_text(found->second);
  check_time(trial);
  if (trial.status != TrialStatus::ok) trial.median = 0;
  record.trial = std::move(trial);
  return record;
}

}  // namespace cudadent
