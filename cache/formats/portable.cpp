#include "cache/formats/portable.h"

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "cache/records.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

using nlohmann::json;

json number_json(double number) {
  if (std::isfinite(number)) return number;
  if (std::isnan(number)) return "NaN";
  return number > 0 ? "inf" : "-inf";
}

double number_from(const json& value) {
  if (!value.is_string()) return value.get<double>();
  const auto& text = value.get_ref<const std::string&>();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "inf") return std::numeric_limits<double>::infinity();
  if (text == "-inf") return -std::numeric_limits<double>::infinity();
  throw Error(ErrorCode::invalid_argument, fmt::format("\"{}\" is no number", text));
}

// Each problem once, by its place.
class ProblemList {
 public:
  std::size_t place_of(const ProblemRecord& problem) {
    const auto [found, is_new] =
        places_.try_emplace({problem.op, problem.tuning_key, problem.problem_key,
                             problem.description, problem.device_kind},
                            list_.size());
    if (is_new)
      list_.push_back({{"op", problem.op},
                       {"tuning_key", problem.tuning_key},
                       {"problem_key", problem.problem_key},
                       {"description", problem.description},
                       {"device_kind", problem.device_kind}});
    return found->second;
  }
  json take() { return std::move(list_); }

 private:
  std::map<std::tuple<std::string, std::string, std::string, std::string, std::string>, std::size_t>
      places_;
  json list_ = json::array();
};

ProblemRecord problem_from(const json& object) {
  return {object.at("op"), object.at("tuning_key"), object.at("problem_key"),
          object.at("description"), object.at("device_kind")};
}

json winner_json(const WinnerRecord& record, std::size_t problem) {
  return {{"problem", problem},
          {"template", record.kernel_template},
          {"template_hash", record.template_hash},
          {"configuration", to_json(record.configuration)},
          {"seconds", number_json(record.seconds)},
          {"default_seconds", number_json(record.default_seconds)},
          {"compiler", record.compiler},
          {"specialization_hash", record.specialization_hash},
          {"device_name", record.device_name},
          {"driver", record.driver},
          {"uuid", record.uuid},
          {"created", record.created}};
}

WinnerRecord winner_from(const json& object, const ProblemRecord& problem) {
  WinnerRecord record;
  record.problem = problem;
  record.kernel_template = object.at("template");
  record.template_hash = object.at("template_hash");
  record.configuration = values_from_json(object.at("configuration"));
  record.seconds = number_from(object.at("seconds"));
  record.default_seconds = number_from(object.at("default_seconds"));
  record.compiler = object.at("compiler");
  record.specialization_hash = object.at("specialization_hash");
  record.device_name = object.at("device_name");
  record.driver = object.at("driver");
  record.uuid = object.at("uuid");
  record.created = object.at("created");
  return record;
}

json trial_json(const TrialRecord& record, std::size_t problem) {
  const Trial& trial = record.trial;
  json samples = json::array();
  for (const double sample : trial.samples) samples.push_back(number_json(sample));
  return {{"problem", problem},
          {"template", trial.kernel_template},
          {"template_hash", record.template_hash},
          {"configuration", to_json(trial.configuration)},
          {"compiler", record.compiler},
          {"measurement", record.measurement},
          {"specialization_hash", record.specialization_hash},
          {"resources", json::parse(encode_resources(record.resources))},
          {"status", name_of(trial.status)},
          {"message", trial.message},
          {"samples", std::move(samples)},
          {"median", number_json(trial.median)},
          {"spread", number_json(trial.spread)},
          {"error", number_json(trial.error)},
          {"compile_seconds", number_json(trial.compile_seconds)},
          {"created", record.created}};
}

TrialRecord trial_from(const json& object, const ProblemRecord& problem) {
  TrialRecord record;
  record.problem = problem;
  record.template_hash = object.at("template_hash");
  record.compiler = object.at("compiler");
  record.measurement = object.at("measurement");
  record.specialization_hash = object.at("specialization_hash");
  record.resources = decode_resources(object.at("resources").dump());
  record.created = object.at("created");
  Trial& trial = record.trial;
  trial.kernel_template = object.at("template");
  trial.configuration = values_from_json(object.at("configuration"));
  trial.status = decode_status(object.at("status").get_ref<const std::string&>());
  trial.message = object.at("message");
  for (const auto& sample : object.at("samples")) trial.samples.push_back(number_from(sample));
  trial.median = number_from(object.at("median"));
  trial.spread = number_from(object.at("spread"));
  trial.error = number_from(object.at("error"));
  trial.compile_seconds = number_from(object.at("compile_seconds"));
  trial.from_cache = true;
  if (trial.status == TrialStatus::ok && !(trial.median > 0 && std::isfinite(trial.median)))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a trial that is ok with a median of {} s", trial.median));
  return record;
}

using RunText = std::pair<const char*, std::string RunRecord::*>;
using RunReal = std::pair<const char*, double RunRecord::*>;
constexpr std::array<RunText, 10> run_texts = {{{"started", &RunRecord::started},
                                                {"machine", &RunRecord::machine},
                                                {"version", &RunRecord::version},
                                                {"device_name", &RunRecord::device_name},
                                                {"driver", &RunRecord::driver},
                                                {"uuid", &RunRecord::uuid},
                                                {"compiler", &RunRecord::compiler},
                                                {"measurement", &RunRecord::measurement},
                                                {"strategy", &RunRecord::strategy},
                                                {"stopped_by", &RunRecord::stopped_by}}};
constexpr std::array<RunReal, 9> run_reals = {{{"flops", &RunRecord::flops},
                                               {"bytes", &RunRecord::bytes},
                                               {"elapsed", &RunRecord::elapsed},
                                               {"enumerate_seconds", &RunRecord::enumerate_seconds},
                                               {"compile_seconds", &RunRecord::compile_seconds},
                                               {"measure_seconds", &RunRecord::measure_seconds},
                                               {"verify_seconds", &RunRecord::verify_seconds},
                                               {"search_seconds", &RunRecord::search_seconds},
                                               {"idle_seconds", &RunRecord::idle_seconds}}};

json run_json(const RunRecord& record, std::size_t problem) {
  json object{{"problem", problem},
              {"device_facts", to_json(record.device_facts)},
              {"seed", record.seed},
              {"candidates", record.candidates},
              {"measured", record.measured},
              {"failed", record.failed},
              {"recalled", record.recalled},
              {"isolated", record.isolated},
              {"worker_restarts", record.worker_restarts}};
  for (const auto& [name, field] : run_texts) object[name] = record.*field;
  for (const auto& [name, field] : run_reals) object[name] = number_json(record.*field);
  return object;
}

RunRecord run_from(const json& object, const ProblemRecord& problem) {
  RunRecord record;
  record.problem = problem;
  record.device_facts = values_from_json(object.at("device_facts"));
  record.seed = object.at("seed");
  record.candidates = object.at("candidates");
  record.measured = object.at("measured");
  record.failed = object.at("failed");
  record.recalled = object.at("recalled");
  record.isolated = object.at("isolated");
  record.worker_restarts = object.at("worker_restarts");
  for (const auto& [name, field] : run_texts) record.*field = object.at(name).get<std::string>();
  for (const auto& [name, field] : run_reals) record.*field = number_from(object.at(name));
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
  for (const auto& record : contents.winners)
    winners.push_back(winner_json(record, problems.place_of(record.problem)));
  for (const auto& record : contents.trials)
    trials.push_back(trial_json(record, problems.place_of(record.problem)));
  for (const auto& record : contents.runs)
    runs.push_back(run_json(record, problems.place_of(record.problem)));
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
  const auto problem_of = [&](const json& object) -> const ProblemRecord& {
    return problems.at(object.at("problem").get<std::size_t>());
  };
  return {list_from(document, "winners", origin,
                    [&](const json& object) { return winner_from(object, problem_of(object)); }),
          list_from(document, "trials", origin,
                    [&](const json& object) { return trial_from(object, problem_of(object)); }),
          list_from(document, "runs", origin,
                    [&](const json& object) { return run_from(object, problem_of(object)); })};
}

}  // namespace cudadent
