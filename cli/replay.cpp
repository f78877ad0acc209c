#include "tuner/replay/replay.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/replay_page.h"
#include "tuner/replay/recordings.h"
#include "tuner/strategy.h"

namespace cudadent::cli {

namespace {

struct ReplayCommand {
  std::vector<std::string> files;
  std::vector<std::string> strategies{"auto"};
  std::vector<std::uint64_t> budgets{25, 50, 100, 200};
  std::string problem, plot;
  ReplayOptions options;
  bool json = false;
};

std::vector<std::string> chosen_strategies(const std::vector<std::string>& wanted) {
  if (std::find(wanted.begin(), wanted.end(), "all") == wanted.end()) return wanted;
  std::vector<std::string> all;
  for (const auto& [name, description] : strategies()) all.push_back(name);
  return all;
}

// One line that is written over, on a terminal only.
void show_progress(const std::string& space, std::size_t done, std::size_t total) {
  fmt::print(stderr, "\r{}: {} of {} runs\033[K", space, done, total);
  if (done == total) fmt::print(stderr, "\r\033[K");
  std::fflush(stderr);
}

std::string fraction_text(const ReplayCurve& curve, std::uint64_t evaluations) {
  const auto at = static_cast<std::size_t>(evaluations) - 1;
  return fmt::format("{:.4f} ± {:.3f}", curve.mean[at], curve.deviation[at]);
}

void print_curves(const std::vector<ReplayCurve>& curves, const ReplayCommand& command,
                  const std::vector<double>* baseline) {
  std::vector<std::vector<std::string>> rows{{"strategy"}};
  for (const auto budget : command.budgets) rows[0].push_back(fmt::format("at {}", budget));
  for (const char* heading : {"score", "stops", "at", "fraction", "missed", "choosing"}) {
    rows[0].emplace_back(heading);
  }
  for (const ReplayCurve& curve : curves) {
    auto& row = rows.emplace_back(std::vector{curve.strategy});
    for (const auto budget : command.budgets) row.push_back(fraction_text(curve, budget));
    row.push_back(fmt::format("{:.3f}", curve.score));
    row.push_back(fmt::format("{}", curve.stopped));
    const bool stops = curve.stopped > 0;
    row.push_back(stops ? fmt::format("{:.0f}", curve.stopped_evaluations) : "");
    row.push_back(stops ? fmt::format("{:.4f}", curve.stopped_fraction) : "");
    row.push_back(stops ? fmt::format("{:.4f}", curve.stopped_missed) : "");
    row.push_back(duration_text(curve.ask_seconds));
  }
  if (baseline != nullptr) {
    auto& row = rows.emplace_back(std::vector<std::string>{"(random, analytic)"});
    for (const auto budget : command.budgets) {
      row.push_back(fmt::format("{:.4f}", (*baseline)[static_cast<std::size_t>(budget) - 1]));
    }
    row.resize(rows[0].size());
  }
  print_table(rows);
}

void print_replays(const std::vector<SpaceReplay>& replays, const ReplayCommand& command) {
  for (const SpaceReplay& each : replays) {
    fmt::print(
        "{}: {} configurations, {} of them fail; optimum {}, median {}; score over {} "
        "evaluations\n",
        each.space, each.configurations, each.failures, duration_text(each.optimum),
        duration_text(each.median), each.score_budget);
    print_curves(each.curves, command, &each.baseline);
    fmt::print("\n");
  }
  if (replays.size() < 2) return;
  fmt::print("mean of {} spaces\n", replays.size());
  print_curves(averaged(replays), command, nullptr);
}

nlohmann::json json_of(const ReplayCurve& curve) {
  return {{"strategy", curve.strategy},
          {"mean", curve.mean},
          {"deviation", curve.deviation},
          {"lowest", curve.lowest},
          {"highest", curve.highest},
          {"score", curve.score},
          {"stopped", curve.stopped},
          {"stopped_evaluations", curve.stopped_evaluations},
          {"stopped_fraction", curve.stopped_fraction},
          {"stopped_missed", curve.stopped_missed},
          {"ask_seconds", curve.ask_seconds}};
}

nlohmann::json json_of(const std::vector<SpaceReplay>& replays, const ReplayOptions& options) {
  nlohmann::json result{{"budget", options.budget},
                        {"repeats", options.repeats},
                        {"seed", options.seed},
                        {"batch", options.batch},
                        {"spaces", nlohmann::json::array()},
                        {"average", nlohmann::json::array()}};
  for (const SpaceReplay& each : replays) {
    nlohmann::json space{{"space", each.space},       {"configurations", each.configurations},
                         {"failures", each.failures}, {"optimum", each.optimum},
                         {"median", each.median},     {"score_budget", each.score_budget},
                         {"baseline", each.baseline}, {"curves", nlohmann::json::array()}};
    for (const auto& curve : each.curves) space["curves"].push_back(json_of(curve));
    result["spaces"].push_back(std::move(space));
  }
  for (const auto& curve : averaged(replays)) result["average"].push_back(json_of(curve));
  return result;
}

void run_replay(ReplayCommand command) {
  ReplayOptions& options = command.options;
  options.strategies = chosen_strategies(command.strategies);
  std::sort(command.budgets.begin(), command.budgets.end());
  options.budget = command.budgets.back();
  std::vector<SpaceReplay> replays;
  for (const std::string& file : command.files) {
    const RecordedSpace recorded = read_recorded_space(file, command.problem);
    options.on_progress = {};
    if (is_terminal(STDERR_FILENO)) {
      options.on_progress = [&](std::size_t done, std::size_t total) {
        show_progress(recorded.name(), done, total);
      };
    }
    replays.push_back(replay(recorded, options));
  }
  if (!command.plot.empty()) write_replay_page(replays, command.plot);
  if (command.json) {
    print_json(json_of(replays, options));
  } else {
    print_replays(replays, command);
  }
}

}  // namespace

void add_replay(const Command& program) {
  const auto command = program.subcommand(
      "replay", "compare search strategies on recorded spaces: how close to the optimum, how soon");
  auto state = std::make_shared<ReplayCommand>();
  command
      .option("file", state->files,
              "T4 files, Kernel Tuner cache files (gzip or not), or databases")
      .required()
      .existing_file();
  command.option("--strategy", state->strategies, "names separated by commas, or all")
      .separated_by(',')
      .show_default();
  command
      .option("--budget", state->budgets, "evaluations after which to report, separated by commas")
      .separated_by(',')
      .within(std::uint64_t{1}, std::uint64_t{1'000'000})
      .show_default();
  command
      .option("--repeat", state->options.repeats, "runs of each strategy, with seeds of their own")
      .within(1, 100'000)
      .show_default();
  command.option("--seed", state->options.seed, "of the first run").show_default();
  command.option("--batch", state->options.batch, "candidates asked for at once")
      .within(1, 4096)
      .show_default();
  command.option("--threads", state->options.threads, "0: one a core")
      .within(0, 1024)
      .show_default();
  command.option("--problem", state->problem, "which one of a database: a part of its description");
  command.option("--plot", state->plot, "write a page with the curves to this file");
  command.flag("--json", state->json, "whole curves as JSON");
  command.run([state] { run_replay(*state); });
}

}  // namespace cudadent::cli
