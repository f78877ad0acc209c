#include "cache/formats/exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cache/records.h"
#include "runtime/value.h"

namespace cudadent {

namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr double milliseconds = 1e3;  // in a second
constexpr const char* template_parameter = "template";

// The word of T4 for a status.
const char* invalidity_of(TrialStatus status) {
  switch (status) {
    case TrialStatus::ok:
      return "correct";
    case TrialStatus::compile_error:
      return "compile";
    case TrialStatus::compile_timeout:
    case TrialStatus::timeout:
      return "timeout";
    case TrialStatus::invalid_resources:
      return "constraints";
    case TrialStatus::wrong_result:
      return "correctness";
    case TrialStatus::launch_error:
    case TrialStatus::fault:
      break;
  }
  return "runtime";
}

TrialStatus status_of_invalidity(const std::string& word) {
  if (word == "correct") return TrialStatus::ok;
  if (word == "compile") return TrialStatus::compile_error;
  if (word == "timeout") return TrialStatus::timeout;
  if (word == "constraints") return TrialStatus::invalid_resources;
  if (word == "correctness") return TrialStatus::wrong_result;
  return TrialStatus::launch_error;
}

// The class that Kernel Tuner names in place of a time.
const char* error_class_of(TrialStatus status) {
  switch (status) {
    case TrialStatus::compile_error:
    case TrialStatus::compile_timeout:
      return "CompilationFailedConfig";
    case TrialStatus::invalid_resources:
      return "InvalidConfig";
    default:
      return "RuntimeFailedConfig";
  }
}

TrialStatus status_of_error_class(const std::string& name) {
  if (name.starts_with("Compilation")) return TrialStatus::compile_error;
  if (name.starts_with("Invalid")) return TrialStatus::invalid_resources;
  return TrialStatus::launch_error;
}

// Every trial with the same names: those of all templates, and the template where there are several.
class Space {
 public:
  explicit Space(const std::vector<TrialRecord>& trials) {
    std::set<std::string> templates, names;
    for (const auto& record : trials) {
      templates.insert(record.trial.kernel_template);
      for (const auto& [name, value] : record.trial.configuration) names.insert(name);
    }
    with_template_ = templates.size() > 1;
    if (with_template_) names_.emplace_back(template_parameter);
    names_.insert(names_.end(), names.begin(), names.end());
  }

  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }

  [[nodiscard]] Value value(const Trial& trial, const std::string& name) const {
    if (with_template_ && name == template_parameter) return trial.kernel_template;
    const auto found = trial.configuration.find(name);
    return found == trial.configuration.end() ? Value(std::string("none")) : found->second;
  }

 private:
  bool with_template_ = false;
  std::vector<std::string> names_;
};

// Of trials of one configuration (by an older template or compiler, say) the newest: these formats have room
// for one.
std::vector<TrialRecord> newest(const std::vector<TrialRecord>& trials) {
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

// "2026-01-31T12:00:00.000Z" as Python prints it.
std::string python_time(std::string created) {
  std::replace(created.begin(), created.end(), 'T', ' ');
  if (created.ends_with('Z')) created.replace(created.size() - 1, 1, "+00:00");
  return created;
}

std::string iso_time(std::string timestamp) {
  const auto zone = timestamp.find('+', 10);
  if (zone != std::string::npos) timestamp.resize(zone);
  if (timestamp.size() > 23) timestamp.resize(23);
  std::replace(timestamp.begin(), timestamp.end(), ' ', 'T');
  return timestamp.empty() ? timestamp : timestamp + "Z";
}

json t4_result(const TrialRecord& record, const Space& space) {
  const Trial& trial = record.trial;
  json configuration = json::object();
  for (const auto& name : space.names()) configuration[name] = to_json(space.value(trial, name));
  json result{
      {"timestamp", python_time(record.created)},
      {"configuration", std::move(configuration)},
      {"objectives", {"time"}},
      {"times",
       {{"compilation_time", trial.compile_seconds * milliseconds},
        {"runtimes", in_milliseconds(trial.samples)},
        {"framework", 0},
        {"search_algorithm", 0},
        {"validation", 0}}},
      {"invalidity", invalidity_of(trial.status)},
      {"correctness", trial.status == TrialStatus::ok ? 1 : 0},
      {"measurements", json::array()},
      {"cudadent", {{"status", name_of(trial.status)}, {"template", trial.kernel_template}}}};
  if (trial.status == TrialStatus::ok)
    result["measurements"].push_back(
        {{"name", "time"}, {"value", trial.median * milliseconds}, {"unit", "milliseconds"}});
  return result;
}

// ------------------------------------------------------------------------------------- reading

double seconds_from(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() / milliseconds : 0;
}

std::vector<double> samples_from(const json& object, const char* name) {
  std::vector<double> samples;
  const auto found = object.find(name);
  if (found != object.end() && found->is_array())
    for (const auto& time : *found)
      if (time.is_number()) samples.push_back(time.get<double>() / milliseconds);
  return samples;
}

double median_of(std::vector<double> samples) {
  if (samples.empty()) return 0;
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

// Our own word for the status when we wrote the file, else theirs.
TrialStatus status_from(const json& object, TrialStatus otherwise) {
  const auto ours = object.find("cudadent");
  return ours == object.end() ? otherwise
                              : decode_status(ours->at("status").get_ref<const std::string&>());
}

Trial t4_trial(const json& result) {
  Trial trial;
  trial.configuration = values_from_json(result.at("configuration"));
  trial.status = status_from(result, status_of_invalidity(result.value("invalidity", "correct")));
  const json times = result.value("times", json::object());
  trial.samples = samples_from(times, times.contains("runtimes") ? "runtimes" : "benchmark");
  trial.compile_seconds =
      seconds_from(times, times.contains("compilation_time") ? "compilation_time" : "compilation");
  trial.median = median_of(trial.samples);
  for (const auto& measurement : result.value("measurements", json::array()))
    if (measurement.value("name", "") == "time" && measurement.contains("value"))
      trial.median = seconds_from(measurement, "value");
  return trial;
}

Trial kernel_tuner_trial(const json& entry, const std::vector<std::string>& names,
                         const std::string& objective) {
  Trial trial;
  for (const auto& name : names) trial.configuration[name] = value_from_json(entry.at(name));
  const json& time = entry.at(objective);
  TrialStatus status = TrialStatus::ok;
  if (entry.contains("__error__"))
    status = status_of_error_class(entry.at("__error__").get<std::string>());
  else if (time.is_string())
    status = status_of_error_class(time.get<std::string>());
  trial.status = status_from(entry, status);
  trial.samples = samples_from(entry, "times");
  trial.compile_seconds = seconds_from(entry, "compile_time");
  trial.median = seconds_from(entry, objective.c_str());
  return trial;
}

TrialRecord record_of(Trial trial, const ProblemRecord& problem, const json& entry) {
  TrialRecord record;
  record.problem = problem;
  record.template_hash = "imported";
  record.compiler = "imported";
  record.measurement = "imported";
  record.created = iso_time(entry.value("timestamp", ""));
  trial.kernel_template = "imported";
  if (const auto found = trial.configuration.find(template_parameter);
      found != trial.configuration.end())
    trial.kernel_template = to_text(found->second);
  if (trial.status != TrialStatus::ok) trial.median = 0;
  record.trial = std::move(trial);
  return record;
}

ProblemRecord problem_of(const ExchangeOrigin& origin, const std::string& op,
                         const std::string& device) {
  const std::string stem = std::filesystem::path(origin.file).stem().string();
  const std::string name = !origin.op.empty() ? origin.op : op.empty() ? stem : op;
  const std::string kind = !origin.device_kind.empty() ? origin.device_kind
                           : device.empty()            ? "unknown"
                                                       : device;
  const std::string key = json{{"source", stem}}.dump();
  return {name, key, key, fmt::format("{} from {}", name, stem), kind};
}

}  // namespace

json to_t4(const std::vector<TrialRecord>& all) {
  const auto trials = newest(all);
  const Space space(trials);
  json results = json::array();
  for (const auto& record : trials) results.push_back(t4_result(record, space));
  json document{{"schema_version", "1.0.0"},
                {"metadata", {{"timeunit", "milliseconds"}}},
                {"results", std::move(results)}};
  if (!trials.empty())
    document["metadata"].update({{"kernel_name", trials.front().problem.op},
                                 {"problem", trials.front().problem.description},
                                 {"device_name", trials.front().problem.device_kind}});
  return document;
}

ordered_json to_kernel_tuner(const std::vector<TrialRecord>& all) {
  const auto trials = newest(all);
  const Space space(trials);
  ordered_json parameters = ordered_json::object(), cache = ordered_json::object();
  for (const auto& name : space.names()) {
    std::vector<json> values;
    for (const auto& record : trials) values.push_back(to_json(space.value(record.trial, name)));
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    parameters[name] = values;
  }
  for (const auto& record : trials) {
    const Trial& trial = record.trial;
    ordered_json entry;
    std::string key;
    for (const auto& name : space.names()) {
      const Value value = space.value(trial, name);
      key += (key.empty() ? "" : ",") + to_text(value);
      entry[name] = to_json(value);
    }
    const bool ok = trial.status == TrialStatus::ok;
    if (ok) {
      entry["time"] = trial.median * milliseconds;
      entry["times"] = in_milliseconds(trial.samples);
    } else {
      entry["time"] = error_class_of(trial.status);
      entry["__error__"] = error_class_of(trial.status);
    }
    entry["compile_time"] = trial.compile_seconds * milliseconds;
    entry["verification_time"] = 0;
    entry["benchmark_time"] = 0;
    entry["strategy_time"] = 0;
    entry["framework_time"] = 0;
    entry["timestamp"] = python_time(record.created);
    entry["cudadent"] = {{"status", name_of(trial.status)}, {"template", trial.kernel_template}};
    cache[key] = std::move(entry);
  }
  const ProblemRecord problem = trials.empty() ? ProblemRecord() : trials.front().problem;
  return {{"device_name", problem.device_kind},
          {"kernel_name", problem.op},
          {"problem_size", problem.description},
          {"tune_params_keys", space.names()},
          {"tune_params", std::move(parameters)},
          {"objective", "time"},
          {"cache", std::move(cache)}};
}

bool is_t4(const json& document) { return document.is_object() && document.contains("results"); }

bool is_kernel_tuner(const json& document) {
  return document.is_object() && document.contains("cache") &&
         document.contains("tune_params_keys");
}

Contents from_exchange(const json& document, const ExchangeOrigin& origin) {
  Contents contents;
  std::string place;
  try {
    if (is_t4(document)) {
      const json metadata = document.value("metadata", json::object());
      const auto problem =
          problem_of(origin, metadata.value("kernel_name", ""), metadata.value("device_name", ""));
      std::size_t number = 0;
      for (const auto& result : document.at("results")) {
        place = fmt::format("results[{}]", number++);
        contents.trials.push_back(record_of(t4_trial(result), problem, result));
      }
    } else {
      const auto problem =
          problem_of(origin, document.value("kernel_name", ""), document.value("device_name", ""));
      const auto names = document.at("tune_params_keys").get<std::vector<std::string>>();
      const std::string objective = document.value("objective", "time");
      for (const auto& entry : document.at("cache").items()) {
        place = fmt::format("cache[\"{}\"]", entry.key());
        contents.trials.push_back(
            record_of(kernel_tuner_trial(entry.value(), names, objective), problem, entry.value()));
      }
    }
  } catch (const std::exception& error) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: {}: {}", origin.file, place, error.what()));
  }
  return contents;
}

}  // namespace cudadent
