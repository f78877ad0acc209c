// T4 results.
#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>

#include "cache/formats/exchange_parts.h"
#include "runtime/language/value.h"

namespace cudadent {

using nlohmann::json;

namespace {

// The word of T4 for a status.
const char* invalidity_of(TrialStatus status) {
  switch (status) {
    case TrialStatus::ok:
      return "correct";
    case TrialStatus::compile_error:
      return "compile";
    case TrialStatus::compile_timeout:
    case TrialStatus::timeout:
    case TrialStatus::timeout_once:
      return "timeout";
    case TrialStatus::invalid_resources:
      return "constraints";
    case TrialStatus::wrong_result:
      return "correctness";
    case TrialStatus::launch_error:
    case TrialStatus::fault:
    case TrialStatus::disturbed:
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

json t4_result(const TrialRecord& record, const ExchangeSpace& space) {
  const Trial& trial = record.trial;
  json configuration = json::object();
  for (const auto& name : space.names()) configuration[name] = to_json(space.value(trial, name));
  json result{{"timestamp", python_time(record.created)},
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
              {"cudadent", own_member(trial)}};
  if (trial.status == TrialStatus::ok)
    result["measurements"].push_back(
        {{"name", "time"}, {"value", trial.median * milliseconds}, {"unit", "milliseconds"}});
  for (const auto& [name, value] : trial.figures)
    if (std::isfinite(value))
      result["measurements"].push_back({{"name", name}, {"value", value}, {"unit", ""}});
  return result;
}

double seconds_in(const std::string& unit) {
  if (unit.empty() || unit == "ms" || unit == "miliseconds" || unit == "milliseconds") return 1e-3;
  if (unit == "s" || unit == "seconds") return 1;
  if (unit == "us" || unit == "µs" || unit == "microseconds") return 1e-6;
  if (unit == "ns" || unit == "nanoseconds") return 1e-9;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("unknown unit of time '{}'; known: s, ms, us, ns and their full names", unit));
}

double median_of(std::vector<double> samples) {
  if (samples.empty()) return 0;
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

Trial t4_trial(const json& result, const std::string& document_unit) {
  if (!result.is_object() || !result.contains("configuration"))
    throw Error(ErrorCode::invalid_argument, "a result that has no configuration");
  Trial trial;
  trial.configuration = configuration_of(result.at("configuration"));
  const std::string invalidity = text_at(result, "invalidity");
  trial.status =
      status_from(result, status_of_invalidity(invalidity.empty() ? "correct" : invalidity));
  const json times = result.value("times", json::object());
  const double unit = seconds_in(document_unit);
  trial.samples = samples_from(times, times.contains("runtimes") ? "runtimes" : "benchmark", unit);
  trial.compile_seconds = seconds_from(
      times, times.contains("compilation_time") ? "compilation_time" : "compilation", unit);
  trial.median = median_of(trial.samples);
  bool has_time = false;  // of several the first counts
  for (const auto& measurement : result.value("measurements", json::array())) {
    if (!measurement.is_object()) continue;
    const std::string name = text_at(measurement, "name");
    const std::string own = text_at(measurement, "unit");
    if (name != "time") {
      if (const auto value = measurement.find("value");
          !name.empty() && value != measurement.end() && value->is_number())
        trial.figures[name] = value->get<double>();
    } else if (!std::exchange(has_time, true)) {
      trial.median =
          seconds_from(measurement, "value", seconds_in(own.empty() ? document_unit : own));
    }
  }
  return trial;
}

}  // namespace

json to_t4(const std::vector<TrialRecord>& all) {
  const auto trials = newest_trials(all);
  const ExchangeSpace space(trials);
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

bool is_t4(const json& document) { return document.is_object() && document.contains("results"); }

std::vector<TrialRecord> from_t4(const json& document, const ExchangeOrigin& origin,
                                 std::string& place) {
  if (!document.at("results").is_array())
    throw Error(ErrorCode::invalid_argument, "T4 without results");
  const json metadata = document.contains("metadata") && document.at("metadata").is_object()
                            ? document.at("metadata")
                            : json::object();
  const auto problem =
      exchange_problem(origin, text_at(metadata, "kernel_name"), text_at(metadata, "device_name"));
  std::vector<TrialRecord> trials;
  for (const auto& result : document.at("results")) {
    place = fmt::format("results[{}]: ", trials.size());
    trials.push_back(
        exchange_record(t4_trial(result, text_at(metadata, "timeunit")), problem, result));
  }
  return trials;
}

}  // namespace cudadent
