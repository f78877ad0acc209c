// Kernel Tuner's cache files.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "cache/formats/exchange_parts.h"
#include "runtime/language/value.h"

namespace cudadent {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

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

// The times that an entry has by these names; any other number of it is a figure.
constexpr std::array<std::string_view, 6> times_of_entries{
    "time",           "compile_time",  "verification_time",
    "benchmark_time", "strategy_time", "framework_time"};

Figures figures_of(const json& entry, const std::vector<std::string>& parameters) {
  const auto among = [](const auto& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  Figures figures;
  for (const auto& [name, value] : entry.items())
    if (value.is_number() && !among(times_of_entries, name) && !among(parameters, name))
      figures[name] = value.get<double>();
  return figures;
}

Trial kernel_tuner_trial(const json& entry, const std::vector<std::string>& names,
                         const std::string& objective) {
  Trial trial;
  json configuration = json::object();
  for (const auto& name : names) {
    if (!entry.is_object() || !entry.contains(name))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the entry lacks parameter \"{}\"", name));
    configuration[name] = entry.at(name);
  }
  trial.configuration = configuration_of(configuration);
  const std::string key = entry.contains("time") ? "time" : objective;
  TrialStatus status = TrialStatus::ok;
  if (entry.contains("__error__"))
    status = status_of_error_class(text_at(entry, "__error__"));
  else if (const std::string word = text_at(entry, key.c_str()); !word.empty())
    status = status_of_error_class(word);
  trial.status = status_from(entry, status);
  trial.samples = samples_from(entry, "times", 1 / milliseconds);
  trial.compile_seconds = seconds_from(entry, "compile_time", 1 / milliseconds);
  trial.figures = figures_of(entry, names);
  // Other objectives are none of time.
  trial.median = key == "time" ? seconds_from(entry, "time", 1 / milliseconds) : 0;
  return trial;
}

// Adds to the parameters what came of them.
void add_result(ordered_json& entry, const TrialRecord& record) {
  const Trial& trial = record.trial;
  if (trial.status == TrialStatus::ok) {
    entry["time"] = trial.median * milliseconds;
    entry["times"] = in_milliseconds(trial.samples);
  } else {
    entry["time"] = error_class_of(trial.status);
    entry["__error__"] = error_class_of(trial.status);
  }
  entry["compile_time"] = trial.compile_seconds * milliseconds;
  for (const char* name :
       {"verification_time", "benchmark_time", "strategy_time", "framework_time"})
    entry[name] = 0;
  for (const auto& [name, value] : trial.figures)
    if (std::isfinite(value) && !entry.contains(name)) entry[name] = value;
  entry["timestamp"] = python_time(record.created);
  entry["cudadent"] = own_member(trial);
}

}  // namespace

ordered_json to_kernel_tuner(const std::vector<TrialRecord>& all) {
  const auto trials = newest_trials(all);
  const ExchangeSpace space(trials);
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
    add_result(entry, record);
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

bool is_kernel_tuner(const json& document) {
  return document.is_object() && document.contains("cache");
}

std::vector<TrialRecord> from_kernel_tuner(const json& document, const ExchangeOrigin& origin,
                                           std::string& place) {
  const auto fail = [](const char* why) { throw Error(ErrorCode::invalid_argument, why); };
  const auto keys = document.find("tune_params_keys");
  if (!document.at("cache").is_object()) fail("a cache file without \"cache\"");
  if (keys == document.end() || !keys->is_array())
    fail("a cache file without \"tune_params_keys\"");
  const auto problem =
      exchange_problem(origin, text_at(document, "kernel_name"), text_at(document, "device_name"));
  const auto names = keys->get<std::vector<std::string>>();
  const std::string objective =
      document.contains("objective") ? text_at(document, "objective") : "time";
  std::vector<TrialRecord> trials;
  for (const auto& entry : document.at("cache").items()) {
    place = fmt::format("cache[\"{}\"]: ", entry.key());
    trials.push_back(exchange_record(kernel_tuner_trial(entry.value(), names, objective), problem,
                                     entry.value()));
  }
  return trials;
}

}  // namespace cudadent
