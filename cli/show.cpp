#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "cache/shipped.h"
#include "cli/common.h"
#include "cli/selection.h"
#include "runtime/language/value.h"
#include "tuner/report/trial_figures.h"
#include "tuner/tuning_task.h"

namespace cudadent::cli {

namespace {

struct ShowCommand {
  CommonOptions common;
  ProblemWords problem;
  bool trials = false;
};

struct Shown : WinnerRecord {
  bool outdated = false;  // it ships, and is not used since its template has changed
};

std::vector<Shown> with_state(std::vector<WinnerRecord> winners, const CommonOptions& common) {
  std::vector<Shown> all;
  for (auto& winner : winners) all.push_back({std::move(winner)});
  if (std::none_of(all.begin(), all.end(), [](const Shown& winner) { return winner.shipped; }))
    return all;
  TemplateLibrary library = common.library();
  for (Shown& winner : all) winner.outdated = winner.shipped && !is_current(winner, library);
  return all;
}

// Winners of the op asked for, and of those the ones whose problem has every value given.
std::vector<Shown> selected(Store& store, const ShowCommand& command) {
  std::set<std::string> ops;
  for (const auto& problem : store.problems()) ops.insert(problem.op);
  auto winners = store.winners();
  for (const auto& winner : winners) ops.insert(winner.problem.op);
  check_operator(command.problem, command.common, ops);
  std::erase_if(winners, [&](const WinnerRecord& winner) {
    return !matches(winner.problem, command.problem);
  });
  return with_state(std::move(winners), command.common);
}

std::string gain(const WinnerRecord& winner) {
  if (winner.objective != time_objective) return "least " + winner.objective;
  return winner.default_seconds > 0 && winner.seconds > 0
             ? fmt::format("{:.2f}× default", winner.default_seconds / winner.seconds)
             : "";
}

// Where a winner comes from, if it is not the database.
std::string origin_text(const Shown& winner) {
  if (winner.layer.empty()) return "";
  if (!winner.shipped) return "from " + winner.layer.string();
  return fmt::format("shipped in {}{}", winner.layer.string(),
                     winner.outdated ? ", not used: its template has changed" : "");
}

nlohmann::json winner_json(Store& store, const Shown& winner, bool with_trials) {
  nlohmann::json json{{"problem", winner.problem.description},
                      {"device", winner.problem.device_kind},
                      {"template", winner.kernel_template},
                      {"configuration", cudadent::to_json(winner.configuration)},
                      {"seconds", winner.seconds},
                      {"default_seconds", winner.default_seconds},
                      {"objective", winner.objective},
                      {"compiler", winner.compiler},
                      {"created", winner.created}};
  if (!winner.layer.empty()) json["layer"] = winner.layer.string();
  if (winner.shipped) {
    json["shipped"] = true;
    json["outdated"] = winner.outdated;
  }
  if (!with_trials) return json;
  json["trials"] = nlohmann::json::array();
  for (const auto& record :
       store.trials(winner.problem.op, winner.problem.problem_key, winner.problem.device_kind)) {
    auto trial = to_json(record.trial);
    for (const auto& resources : record.resources) trial["resources"].push_back(to_json(resources));
    trial["created"] = record.created;
    json["trials"].push_back(std::move(trial));
  }
  return json;
}

void print_trials(Store& store, const WinnerRecord& winner) {
  auto records =
      store.trials(winner.problem.op, winner.problem.problem_key, winner.problem.device_kind);
  std::stable_sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
    const auto rank = [](const Trial& trial) {
      return std::pair(trial.status != TrialStatus::ok, trial.median);
    };
    return rank(a.trial) < rank(b.trial);
  });
  const auto figures = figure_names(records);
  std::vector<std::vector<std::string>> rows{
      {"  median", "spread", "error", "registers", "spills"}};
  rows.front().insert(rows.front().end(), figures.begin(), figures.end());
  rows.front().insert(rows.front().end(), {"template", "configuration"});
  for (const auto& record : records) {
    const Trial& trial = record.trial;
    const bool ok = trial.status == TrialStatus::ok;
    std::int64_t registers = -1, spills = -1;
    for (const auto& resources : record.resources) {
      registers = std::max(registers, resources.registers);
      spills = std::max(spills, resources.spill_bytes);
    }
    const auto count = [](std::int64_t n) { return n < 0 ? std::string("–") : std::to_string(n); };
    rows.push_back({"  " + (ok ? duration_text(trial.median) : std::string(name_of(trial.status))),
                    ok ? fmt::format("{:.1f} %", 100 * trial.spread) : "",
                    ok ? fmt::format("{:.1e}", trial.error) : "", count(registers), count(spills)});
    for (const auto& name : figures) {
      const auto found = trial.figures.find(name);
      rows.back().push_back(found == trial.figures.end() ? "–" : number_text(found->second));
    }
    rows.back().insert(rows.back().end(), {trial.kernel_template, to_text(trial.configuration)});
  }
  print_table(rows);
}

void print_shipped_counts(const std::vector<Shown>& winners) {
  const auto shipped = std::count_if(winners.begin(), winners.end(),
                                     [](const Shown& winner) { return winner.shipped; });
  const auto outdated = std::count_if(winners.begin(), winners.end(),
                                      [](const Shown& winner) { return winner.outdated; });
  if (shipped > 0)
    fmt::print(
        "shipped with cudadent: {} winners, of which {} are not used: their templates have "
        "changed\n",
        shipped, outdated);
}

void run_show(const ShowCommand& command) {
  const Environment environment = Environment::read();
  Store store(database_of(command.common),
              {.layers = environment.layers,
               .shipped = command.common.no_shipped ? nullptr : shipped_source(environment),
               .log = command.common.runtime_options().log});
  const auto winners = selected(store, command);
  if (command.common.json) {
    auto json = nlohmann::json::array();
    for (const auto& winner : winners) json.push_back(winner_json(store, winner, command.trials));
    print_json(json);
    return;
  }
  const auto counts = store.counts();
  fmt::print("{}: {} winners, {} trials, {} binaries ({})\n", store.file().string(), counts.winners,
             counts.trials, counts.binaries, byte_text(counts.binary_bytes));
  print_shipped_counts(winners);
  std::vector<std::vector<std::string>> rows;
  for (const auto& winner : winners) {
    std::vector<std::string> row{
        winner.problem.description, duration_text(winner.seconds), gain(winner),
        winner.problem.device_kind, winner.kernel_template,        to_text(winner.configuration)};
    if (!winner.layer.empty()) row.push_back(origin_text(winner));
    if (!command.trials) {
      rows.push_back(std::move(row));
      continue;
    }
    print_table({row});
    print_trials(store, winner);
  }
  print_table(rows);
}

}  // namespace

void add_show(const Command& program) {
  const auto command = program.subcommand("show", "list winners, and what was tried");
  auto state = std::make_shared<ShowCommand>();
  state->common.add_to(command);
  state->problem.add_to(command, false);
  command.flag("--trials", state->trials, "every trial of each winner's problem, best first");
  command.run([state] { run_show(*state); });
}

}  // namespace cudadent::cli
