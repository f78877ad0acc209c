#include "cache/formats/exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <system_error>
#include <utility>

#include "cache/formats/gzip.h"
#include "cache/records.h"
#include "runtime/language/value.h"

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

std::string text_at(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
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

// 0 where a file writes the name of an error class, or nothing, in place of a number.
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

Values configuration_of(const json& object) {
  try {
    return values_from_json(object);
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("a configuration is not an object of plain values: {}", error.what()));
  }
}

// One that claims success needs a time that can be one: some tools write 0 or -1 for what failed.
void check_time(Trial& trial) {
  const auto usable = [](double seconds) { return std::isfinite(seconds) && seconds > 0; };
  if (trial.status != TrialStatus::ok || usable(trial.median)) return;
  trial.message = fmt::format("the file says success, and no time above 0 ({} s)", trial.median);
  trial.status = TrialStatus::launch_error;
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
  for (const auto& measurement : result.value("measurements", json::array())) {
    if (!measurement.is_object() || text_at(measurement, "name") != "time") continue;
    const std::string own = text_at(measurement, "unit");
    trial.median =
        seconds_from(measurement, "value", seconds_in(own.empty() ? document_unit : own));
    break;
  }
  return trial;
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
  // Other objectives are none of time.
  trial.median = key == "time" ? seconds_from(entry, "time", 1 / milliseconds) : 0;
  return trial;
}

TrialRecord record_of(Trial trial, const ProblemRecord& problem, const json& entry) {
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
  return document.is_object() && document.contains("cache");
}

std::string read_exchange_text(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  std::error_code ignored;
  if (stream) bytes << stream.rdbuf();
  if (!stream || std::filesystem::is_directory(file, ignored))
    refuse(file.string(), "cannot be read: no such file, or not readable");
  std::string text = std::move(bytes).str();
  return text.starts_with("\x1f\x8b") ? decompress_gzip(text, file.string()) : text;
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
    if (is_t4(document)) {
      if (!document.at("results").is_array()) refuse(origin.file, "T4 without results");
      const json metadata = document.contains("metadata") && document.at("metadata").is_object()
                                ? document.at("metadata")
                                : json::object();
      const auto problem =
          problem_of(origin, text_at(metadata, "kernel_name"), text_at(metadata, "device_name"));
      std::size_t number = 0;
      for (const auto& result : document.at("results")) {
        place = fmt::format("results[{}]: ", number++);
        contents.trials.push_back(
            record_of(t4_trial(result, text_at(metadata, "timeunit")), problem, result));
      }
    } else {
      const auto keys = document.find("tune_params_keys");
      if (!document.at("cache").is_object()) refuse(origin.file, "a cache file without \"cache\"");
      if (keys == document.end() || !keys->is_array())
        refuse(origin.file, "a cache file without \"tune_params_keys\"");
      const auto problem =
          problem_of(origin, text_at(document, "kernel_name"), text_at(document, "device_name"));
      const auto names = keys->get<std::vector<std::string>>();
      const std::string objective =
          document.contains("objective") ? text_at(document, "objective") : "time";
      for (const auto& entry : document.at("cache").items()) {
        place = fmt::format("cache[\"{}\"]: ", entry.key());
        contents.trials.push_back(
            record_of(kernel_tuner_trial(entry.value(), names, objective), problem, entry.value()));
      }
    }
  } catch (const std::exception& error) {
    if (place.empty() && dynamic_cast<const Error*>(&error) != nullptr) throw;
    refuse(origin.file, fmt::format("{}{}", place, error.what()));
  }
  return contents;
}

}  // namespace cudadent
