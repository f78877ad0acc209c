#include "tuner/replay/recordings.h"

#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cache/store.h"
#include "runtime/value.h"

namespace cudadent {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", name, why));
}

// ------------------------------------------------------------------------------------ broken JSON

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

// Lists of single runs are most of a file, and not used.
Json parse_json(const std::string& text, const std::string& name) {
  const auto wanted = [](int, Json::parse_event_t event, Json& parsed) {
    return event != Json::parse_event_t::key || (parsed != "runtimes" && parsed != "timestamp");
  };
  try {
    return Json::parse(text, wanted);
  } catch (const Json::exception& error) {
    const std::string whole = completed(text);
    if (whole.empty()) refuse(name, fmt::format("not JSON ({})", error.what()));
    try {
      return Json::parse(whole, wanted);
    } catch (const Json::exception&) {
      refuse(name, fmt::format("not JSON ({})", error.what()));
    }
  }
}

// ------------------------------------------------------------------------------------------ times

double seconds_in(const std::string& unit, const std::string& name) {
  if (unit.empty() || unit == "ms" || unit == "miliseconds" || unit == "milliseconds") return 1e-3;
  if (unit == "s" || unit == "seconds") return 1;
  if (unit == "us" || unit == "µs" || unit == "microseconds") return 1e-6;
  if (unit == "ns" || unit == "nanoseconds") return 1e-9;
  refuse(name,
         fmt::format("unknown unit of time '{}'; known: s, ms, us, ns and their full names", unit));
}

std::string text_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// Nothing where a file writes the name of an error class in place of a time.
std::optional<double> positive(const Json& value, double unit) {
  if (!value.is_number()) return std::nullopt;
  const double seconds = value.get<double>() * unit;
  return std::isfinite(seconds) && seconds > 0 ? std::optional(seconds) : std::nullopt;
}

// --------------------------------------------------------------------------------------------- T4

std::optional<double> t4_seconds(const Json& result, const std::string& default_unit,
                                 const std::string& name) {
  const std::string invalidity = text_at(result, "invalidity");
  if (!invalidity.empty() && invalidity != "correct") return std::nullopt;
  const auto measurements = result.find("measurements");
  if (measurements == result.end() || !measurements->is_array()) return std::nullopt;
  for (const Json& measurement : *measurements) {
    if (!measurement.is_object() || text_at(measurement, "name") != "time") continue;
    const std::string unit = text_at(measurement, "unit");
    const auto value = measurement.find("value");
    if (value == measurement.end()) return std::nullopt;
    return positive(*value, seconds_in(unit.empty() ? default_unit : unit, name));
  }
  return std::nullopt;
}

Values configuration_of(const Json& object, const std::string& name) {
  try {
    return values_from_json(object);
  } catch (const Error& error) {
    refuse(name, fmt::format("a configuration is not an object of plain values: {}", error.what()));
  }
}

std::vector<RecordedConfiguration> from_t4(const Json& document, const std::string& name) {
  const auto results = document.find("results");
  if (results == document.end() || !results->is_array()) refuse(name, "T4 without results");
  std::string unit;
  if (const auto metadata = document.find("metadata");
      metadata != document.end() && metadata->is_object()) {
    unit = text_at(*metadata, "timeunit");
  }
  std::vector<RecordedConfiguration> records;
  for (const Json& result : *results) {
    const bool complete = result.is_object() && result.contains("configuration");
    if (!complete) refuse(name, fmt::format("result {} has no configuration", records.size()));
    records.push_back(
        {"", configuration_of(result["configuration"], name), t4_seconds(result, unit, name)});
  }
  return records;
}

// ----------------------------------------------------------------------------------- Kernel Tuner

std::vector<RecordedConfiguration> from_kernel_tuner(const Json& document,
                                                     const std::string& name) {
  const auto cache = document.find("cache");
  const auto keys = document.find("tune_params_keys");
  if (cache == document.end() || !cache->is_object())
    refuse(name, "a cache file without \"cache\"");
  if (keys == document.end() || !keys->is_array()) {
    refuse(name, "a cache file without \"tune_params_keys\"");
  }
  std::vector<RecordedConfiguration> records;
  for (const auto& [label, entry] : cache->items()) {
    Json configuration = Json::object();
    for (const Json& key : *keys) {
      const bool known = key.is_string() && entry.is_object() && entry.contains(key);
      if (!known) refuse(name, fmt::format("entry {} lacks parameter {}", label, key.dump()));
      configuration[key.get<std::string>()] = entry[key.get<std::string>()];
    }
    std::optional<double> seconds;
    const auto time = entry.find("time");
    if (time != entry.end() && !entry.contains("__error__")) seconds = positive(*time, 1e-3);
    records.push_back({"", configuration_of(configuration, name), seconds});
  }
  return records;
}

std::vector<RecordedConfiguration> from_json(const std::string& text, const std::string& name) {
  const Json document = parse_json(text, name);
  if (document.is_object() && document.contains("results")) return from_t4(document, name);
  if (document.is_object() && document.contains("cache")) return from_kernel_tuner(document, name);
  refuse(name,
         "neither T4 (an object with \"results\") nor a Kernel Tuner cache (one with \"cache\")");
}

// --------------------------------------------------------------------------------------- database

std::vector<RecordedConfiguration> records_of(Store& store, const ProblemRecord& problem) {
  std::vector<RecordedConfiguration> result;
  for (const auto& record : store.trials(problem.op, problem.problem_key, problem.device_kind)) {
    const Trial& trial = record.trial;
    std::optional<double> seconds;
    if (trial.status == TrialStatus::ok && trial.median > 0) seconds = trial.median;
    result.push_back({trial.kernel_template, trial.configuration, seconds});
  }
  return result;
}

RecordedSpace from_database(const std::filesystem::path& file, std::string_view wanted) {
  Store store(file);
  std::vector<ProblemRecord> matching;
  for (const ProblemRecord& problem : store.problems()) {
    const bool chosen = problem.description.find(wanted) != std::string::npos ||
                        problem.problem_key.find(wanted) != std::string::npos;
    if (chosen) matching.push_back(problem);
  }
  const auto same = [&](const ProblemRecord& each) { return each.description == wanted; };
  if (const auto exact = std::find_if(matching.begin(), matching.end(), same);
      exact != matching.end()) {
    matching = {*exact};
  }
  if (matching.size() == 1) {
    return {matching[0].description, records_of(store, matching[0])};
  }
  std::string known;
  for (const auto& problem : matching.empty() ? store.problems() : matching) {
    known += fmt::format("\n  {} on {}", problem.description, problem.device_kind);
  }
  if (known.empty()) refuse(file.string(), "the database holds no trials yet");
  refuse(file.string(), fmt::format("{} of its problems match '{}'; choose one with --problem:{}",
                                    matching.size(), wanted, known));
}

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  if (stream) bytes << stream.rdbuf();
  if (!stream) refuse(file.string(), "cannot be read; a recorded space was expected there");
  return std::move(bytes).str();
}

}  // namespace

std::vector<RecordedConfiguration> parse_t4(const std::string& text, const std::string& name) {
  return from_t4(parse_json(text, name), name);
}

std::vector<RecordedConfiguration> parse_kernel_tuner(const std::string& text,
                                                      const std::string& name) {
  return from_kernel_tuner(parse_json(text, name), name);
}

RecordedSpace read_recorded_space(const std::filesystem::path& file, std::string_view problem) {
  std::string bytes = bytes_of(file);
  if (bytes.starts_with("SQLite format 3")) return from_database(file, problem);
  if (bytes.starts_with("\x1f\x8b")) bytes = decompress_gzip(bytes, file.string());
  std::string name = file.filename().string();
  for (const char* ending : {".gz", ".json", ".t4", ".kernel_tuner"}) {
    if (name.ends_with(ending)) name.resize(name.size() - std::string_view(ending).size());
  }
  return {std::move(name), from_json(bytes, file.string())};
}

}  // namespace cudadent
