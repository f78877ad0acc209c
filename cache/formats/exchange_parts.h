// What the formats of T4 and of Kernel Tuner share: for the sources of cache/formats/ alone.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cache/formats/exchange.h"

namespace cudadent {

inline constexpr double milliseconds = 1e3;  // in a second

// Every trial with the same names: those of all templates, and the template where there are several.
class ExchangeSpace {
 public:
  explicit ExchangeSpace(const std::vector<TrialRecord>& trials);
  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  // "none" for a parameter that the trial's template does not have.
  [[nodiscard]] Value value(const Trial& trial, const std::string& name) const;

 private:
  bool with_template_ = false;
  std::vector<std::string> names_;
};

// Of trials of one configuration (by an older template or compiler, say) the newest: these formats have room
// for one.
std::vector<TrialRecord> newest_trials(const std::vector<TrialRecord>& trials);
std::vector<double> in_milliseconds(const std::vector<double>& samples);
// "2026-01-31T12:00:00.000Z" as Python prints it.
std::string python_time(std::string created);
// What is ours in a result: the status and the template.
nlohmann::json own_member(const Trial& trial);

// ------------------------------------------------------------------------------------- reading

// Empty when it is missing or no text.
std::string text_at(const nlohmann::json& object, const char* key);
// 0 where a file writes the name of an error class, or nothing, in place of a number.
double seconds_from(const nlohmann::json& object, const char* name, double unit);
std::vector<double> samples_from(const nlohmann::json& object, const char* name, double unit);
// Our own word for the status when we wrote the file, else theirs.
TrialStatus status_from(const nlohmann::json& object, TrialStatus otherwise);
// Throws Error(invalid_argument).
Values configuration_of(const nlohmann::json& object);

// A problem of the name that the file or the origin gives.
ProblemRecord exchange_problem(const ExchangeOrigin& origin, const std::string& op,
                               const std::string& device);
// What carries no positive finite time failed.
TrialRecord exchange_record(Trial trial, const ProblemRecord& problem, const nlohmann::json& entry);

// The trials of a document of each format. `place` is where the reader is, for messages. Throw Error(invalid_argument)
// and nlohmann::json::exception.
std::vector<TrialRecord> from_t4(const nlohmann::json& document, const ExchangeOrigin& origin,
                                 std::string& place);
std::vector<TrialRecord> from_kernel_tuner(const nlohmann::json& document,
                                           const ExchangeOrigin& origin, std::string& place);

}  // namespace cudadent
