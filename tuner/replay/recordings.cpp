#include "tuner/replay/recordings.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cache/formats/exchange.h"
#include "cache/records.h"
#include "cache/store.h"

namespace cudadent {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", name, why));
}

std::vector<RecordedConfiguration> from_json(const std::string& text, const std::string& name) {
  const auto document = parse_exchange(text, name);
  if (!is_t4(document) && !is_kernel_tuner(document))
    refuse(name,
           "neither T4 (an object with \"results\") nor a Kernel Tuner cache (one with \"cache\")");
  std::vector<RecordedConfiguration> records;
  for (const auto& record : from_exchange(document, {"", "", name}).trials) {
    const Trial& trial = record.trial;
    records.push_back(
        {"", trial.configuration,
         trial.status == TrialStatus::ok ? std::optional(trial.median) : std::nullopt});
  }
  return records;
}

// --------------------------------------------------------------------------------------- database

std::vector<RecordedConfiguration> records_of(Store& store, const ProblemRecord& problem) {
  std::vector<RecordedConfiguration> result;
  for (const auto& record : store.trials(problem.op, problem.problem_key, problem.device_kind)) {
    const Trial& trial = record.trial;
    if (!is_settled(trial.status)) continue;  // says nothing about the configuration
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

bool is_database(const std::filesystem::path& file) {
  constexpr std::string_view magic = "SQLite format 3";
  std::string start(magic.size(), '\0');
  std::ifstream stream(file, std::ios::binary);
  stream.read(start.data(), static_cast<std::streamsize>(start.size()));
  return stream && start == magic;
}

}  // namespace

std::vector<RecordedConfiguration> parse_recording(const std::string& text,
                                                   const std::string& name) {
  return from_json(text, name);
}

RecordedSpace read_recorded_space(const std::filesystem::path& file, std::string_view problem) {
  if (is_database(file)) return from_database(file, problem);
  std::string name = file.filename().string();
  for (const char* ending : {".gz", ".json", ".t4", ".kernel_tuner"}) {
    if (name.ends_with(ending)) name.resize(name.size() - std::string_view(ending).size());
  }
  return {std::move(name), from_json(read_exchange_text(file), file.string())};
}

}  // namespace cudadent
