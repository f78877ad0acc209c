#include "tuner/sweep/sweep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/selection.h"
#include "cli/sweep_view.h"
#include "runtime/devices/devices.h"
#include "tuner/budget.h"
#include "tuner/strategy.h"
#include "tuner/sweep/json_reader.h"

namespace cudadent::cli {

namespace {

struct SweepCommand {
  CommonOptions common;
  std::string file;
  std::string devices;
  std::string budget, per_problem;
  std::string strategy = "auto";
  std::uint64_t seed = 0;
  int compile_workers = 0;
  bool fresh = false, dry_run = false, list_suites = false;
};

std::vector<std::string> device_names(const SweepCommand& command) {
  if (command.devices.empty()) return {command.common.device};
  std::vector<std::string> names;
  if (command.devices == "all") {
    const BackendKind& kind = default_backend_kind();
    for (int i = 0; i < device_count(kind); ++i) names.push_back(DeviceName{&kind, i}.text());
    return names;
  }
  std::istringstream words(command.devices);
  for (std::string name; std::getline(words, name, ',');)
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

// A runtime for each device: each has a connection to the database and a backend of its own.
struct Devices {
  std::vector<std::unique_ptr<Runtime>> runtimes;
  std::vector<SweepDevice> devices;

  explicit Devices(const SweepCommand& command) {
    for (const auto& name : device_names(command)) {
      RuntimeOptions options = command.common.runtime_options();
      options.device = name;
      runtimes.push_back(std::make_unique<Runtime>(options));
      auto& parts = runtimes.back()->parts();
      devices.push_back({name == "auto" ? parts.backend->device().backend : name,
                         parts.tuning_context(), parts.source});
    }
  }
};

void print_suites(const SweepCommand& command, const Suites& suites) {
  if (command.common.json) {
    auto json = nlohmann::json::array();
    for (const auto& [name, suite] : suites.all()) {
      nlohmann::json part{{"suite", name}, {"doc", suite.doc}, {"source", suite.source}};
      for (const auto& layer : suite.layers)
        part["problems"].push_back(
            {{"label", layer.label}, {"op", layer.op}, {"problem", layer.problem}});
      json.push_back(std::move(part));
    }
    return print_json(json);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, suite] : suites.all())
    rows.push_back({name, fmt::format("{} problems", suite.layers.size()), suite.doc});
  print_table(rows);
}

SweepOptions options_of(const SweepCommand& command, const SweepPlan& plan, std::size_t devices) {
  SweepOptions options;
  options.total_seconds = plan.total_seconds;
  if (!command.budget.empty()) {
    const Budget budget = parse_budget(command.budget);
    if (budget.seconds <= 0)
      throw Error(ErrorCode::invalid_argument,
                  "--budget is shared by all problems and must be a time, like 30m; for a number "
                  "of trials a problem use --per-problem");
    options.total_seconds = budget.seconds;
  }
  if (!command.per_problem.empty())
    options.per_problem = parse_budget(command.per_problem);
  else if (plan.per_problem)
    options.per_problem = *plan.per_problem;
  else if (options.total_seconds > 0)
    options.per_problem.seconds = 0;  // the share of the whole is limit enough
  options.tuning.strategy = command.strategy;
  options.tuning.seed = command.seed;
  options.tuning.fresh = command.fresh;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  options.tuning.compile_workers = command.compile_workers > 0
                                       ? command.compile_workers
                                       : std::max(1, cores / static_cast<int>(devices));
  options.tuning.cancelled = [] { return interrupted(); };
  return options;
}

void run_command(const SweepCommand& command) {
  auto folders = Environment::read().template_paths;
  folders.insert(folders.end(), command.common.template_paths.begin(),
                 command.common.template_paths.end());
  const Suites suites(folders);
  if (command.list_suites) return print_suites(command, suites);
  if (command.file.empty())
    throw Error(ErrorCode::invalid_argument, "no sweep: name its file, or ask for --list-suites");
  const SweepPlan plan = parse_sweep(read_json(command.file), command.file, suites);
  if (!command.dry_run) check_database(command.common);
  const Devices opened(command);
  auto options = options_of(command, plan, opened.devices.size());
  auto jobs = sweep_jobs(plan, opened.devices, command.fresh);
  if (command.dry_run)
    return command.common.json ? print_json(plan_json(jobs)) : print_plan(jobs, options);

  const auto style = command.common.json ? SweepView::Style::json
                     : is_terminal(1)    ? SweepView::Style::live
                                         : SweepView::Style::lines;
  SweepView view(style, jobs, options.total_seconds, static_cast<int>(opened.devices.size()));
  options.on_start = [&](const SweepJob& job) { view.start(job); };
  options.on_progress = [&](const SweepJob& job, const Trial* trial) { view.progress(job, trial); };
  options.on_end = [&](const SweepJob& job) { view.end(job); };
  catch_interrupt();
  view.begin();
  const bool to_the_end = run_sweep(jobs, opened.devices, options);
  view.finish();
  for (const auto& runtime : opened.runtimes) check_remembered(*runtime);
  if (!to_the_end) throw Exit{130};  // as a shell says of an interrupted program
  if (std::any_of(jobs.begin(), jobs.end(),
                  [](const SweepJob& job) { return job.state == SweepState::failed; }))
    throw Exit{1};
}

}  // namespace

void add_sweep(const Command& program) {
  const auto command = program.subcommand("sweep", "tune many problems, listed in a JSON file");
  auto state = std::make_shared<SweepCommand>();
  state->common.add_to(command);
  command.option("file", state->file, "the problems: lists, ranges, suites (docs/sweeps.md)");
  command.option("--devices", state->devices,
                 "all (every GPU, else the host), or a list: cuda:0,cuda:1");
  command.option("--budget", state->budget, "time for all problems together, by priority");
  command.option("--per-problem", state->per_problem, "30s, 2m, or a number of trials");
  std::vector<std::string> names;
  for (const auto& [name, doc] : strategies()) names.push_back(name);
  command.option("--strategy", state->strategy, fmt::format("{}", fmt::join(names, ", ")))
      .show_default();
  command.option("--seed", state->seed, "of inputs and search").show_default();
  command.option("--compile-workers", state->compile_workers,
                 "for each device; 0: the cores, shared");
  command.flag("--fresh", state->fresh, "tune again what has a winner");
  command.flag("--dry-run", state->dry_run, "list the problems and what is known of them");
  command.flag("--list-suites", state->list_suites, "list the suites a sweep can name");
  command.run([state] { run_command(*state); });
}

}  // namespace cudadent::cli
