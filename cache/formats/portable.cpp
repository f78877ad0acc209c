#include "cache/formats/portable.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "cache/formats/record_json.h"

namespace cudadent {

namespace {

using nlohmann::json;

// Each problem once, by its place.
class ProblemList {
 public:
  std::size_t place_of(const ProblemRecord& problem) {
    const auto [found, is_new] = places_.try_emplace(problem, list_.size());
    if (is_new) add_stored_members(list_.emplace_back(json::object()), problem);
    return found->second;
  }
  json take() { return std::move(list_); }

 private:
  std::map<ProblemRecord, std::size_t> places_;
  json list_ = json::array();
};

ProblemRecord problem_from(const json& object) {
  ProblemRecord problem;
  read_stored_members(object, problem);
  return problem;
}

// Of a winner, trial or run.
template <class Record>
json record_json(const Record& record, ProblemList& problems) {
  json object{{"problem", problems.place_of(record.problem)}};
  add_stored_members(object, record);
  if constexpr (std::is_same_v<Record, TrialRecord>) add_stored_members(object, record.trial);
  return object;
}

template <class Record>
Record record_from(const json& object, const std::vector<ProblemRecord>& problems) {
  Record record;
  record.problem = problems.at(object.at("problem").get<std::size_t>());
  read_stored_members(object, record);
  return record;
}

TrialRecord trial_from(const json& object, const std::vector<ProblemRecord>& problems) {
  auto record = record_from<TrialRecord>(object, problems);
  Trial& trial = record.trial;
  read_stored_members(object, trial);
  trial.from_cache = true;
  if (trial.status == TrialStatus::ok && !(trial.median > 0 && std::isfinite(trial.median)))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a trial that is ok with a median of {} s", trial.median));
  return record;
}

// The objects of a list, each read by `read`; complaints name the place.
template <class Read>
auto list_from(const json& document, const char* name, const std::string& origin,
               const Read& read) {
  std::vector<decltype(read(document))> records;
  const auto list = document.find(name);
  if (list == document.end()) return records;
  for (std::size_t i = 0; i < list->size(); ++i) {
    try {
      records.push_back(read(list->at(i)));
    } catch (const std::exception& error) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: {}[{}]: {}", origin, name, i, error.what()));
    }
  }
  return records;
}

}  // namespace

json to_portable(const Contents& contents) {
  ProblemList problems;
  json winners = json::array(), trials = json::array(), runs = json::array();
  for (const auto& record : contents.winners) winners.push_back(record_json(record, problems));
  for (const auto& record : contents.trials) trials.push_back(record_json(record, problems));
  for (const auto& record : contents.runs) runs.push_back(record_json(record, problems));
  return {{"format", "cudadent"},        {"version", portable_version},
          {"problems", problems.take()}, {"winners", std::move(winners)},
          {"trials", std::move(trials)}, {"runs", std::move(runs)}};
}

Contents from_portable(const json& document, const std::string& origin) {
  if (!document.is_object() || document.value("format", json()) != "cudadent")
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{}: not an export of cudadent: \"format\" is not \"cudadent\"", origin));
  const json version = document.value("version", json());
  if (!version.is_number_integer() || version < 1 || version > portable_version)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{}: \"version\" is {}; this cudadent reads up to {}. Update cudadent, "
                            "or export again with this one",
                            origin, version.dump(), portable_version));
  const auto problems = list_from(document, "problems", origin, problem_from);
  const auto read_all = [&](const char* name, auto read) {
    return list_from(document, name, origin,
                     [&](const json& object) { return read(object, problems); });
  };
  return {read_all("winners", record_from<WinnerRecord>), read_all("trials", trial_from),
          read_all("runs", record_from<RunRecord>)};
}

}  // namespace cudadent
