#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cache/records.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/selection.h"
#include "runtime/language/value.h"
#include "tuner/budget.h"
#include "tuner/statistics.h"
#include "tuner/strategy.h"
#include "tuner/tuning_task.h"

namespace cudadent::cli {

namespace {

struct TuneCommand {
  CommonOptions common;
  ProblemWords problem;
  std::string budget = "60s";
  std::string strategy = "auto";
  std::uint64_t seed = 0;
  std::int64_t patience = 0;
  int compile_workers = 0;
  Isolation isolation = Isolation::automatic;
  double compile_timeout = TuneOptions().compile_timeout, run_timeout = TuneOptions().run_timeout;
  bool to_the_end = false;
  std::vector<std::string> only;
  std::vector<std::string> observers;
  std::string objective = TuneOptions().objective;
  bool fresh = false;
};

// Of the objective: a time, or another figure.
std::string value_text(const std::string& objective, double value) {
  return objective == time_objective ? duration_text(value) : number_text(value);
}

void draw_progress(const TuneProgress& progress, const std::string& objective) {
  const auto* last = progress.last;
  std::string line = fmt::format("{} {:>6.1f} s  {}/{} tried, {} failed, best {}", progress.phase,
                                 progress.elapsed, progress.measured, progress.candidates,
                                 progress.failed, value_text(objective, progress.best));
  if (last != nullptr)
    line += fmt::format("  last {} {}", last->kernel_template,
                        last->status == TrialStatus::ok ? duration_text(last->median)
                                                        : std::string(name_of(last->status)));
  fmt::print(stderr, "\r\x1b[K{}", line);  // back to the line's start, and clear it
  std::fflush(stderr);
}

std::vector<double> good_medians(const TuneResult& result) {
  std::vector<double> medians;
  for (const auto& trial : result.trials)
    if (trial.status == TrialStatus::ok) medians.push_back(trial.median);
  std::sort(medians.begin(), medians.end());
  return medians;
}

std::int64_t unsettled(const TuneResult& result) {
  return std::count_if(result.trials.begin(), result.trials.end(),
                       [](const Trial& trial) { return !is_settled(trial.status); });
}

// The winner's; null when it is not among the trials.
const Trial* trial_of_winner(const TuneResult& result) {
  for (const auto& trial : result.trials)
    if (trial.kernel_template == result.winner.kernel_template &&
        trial.configuration == result.winner.configuration)
      return &trial;
  return nullptr;
}

double error_of(const TuneResult& result) {
  const Trial* trial = trial_of_winner(result);
  return trial != nullptr ? trial->error : 0;
}

void print_times(const TuneResult& result) {
  const auto medians = good_medians(result);
  const auto row = [&](const char* name, double seconds, const std::string& what) {
    return std::vector<std::string>{
        name, duration_text(seconds), rate_text(result.flops, result.bytes, seconds),
        seconds > 0 ? fmt::format("{:.2f}×", seconds / result.winner.seconds) : "", what};
  };
  print_table({row("best", result.winner.seconds,
                   fmt::format("{} {}", result.winner.kernel_template,
                               to_text(result.winner.configuration))),
               row("default", result.default_seconds,
                   fmt::format("{}'s default", result.winner.kernel_template)),
               row("median", median(medians), "of all that work"),
               row("worst", medians.empty() ? 0 : medians.back(), "")});
  fmt::print("distribution  {}  {} … {} (log)\n", sparkline(medians, 32),
             duration_text(medians.front()), duration_text(medians.back()));
}

void print_figures(const TuneResult& result, const std::string& objective) {
  const Trial* trial = trial_of_winner(result);
  if (trial == nullptr || trial->figures.empty()) return;
  std::vector<std::string> texts;
  for (const auto& [name, value] : trial->figures)
    texts.push_back(fmt::format("{} {}{}", name, number_text(value),
                                name == objective ? " (the least of all)" : ""));
  fmt::print("figures       {}\n", fmt::join(texts, ", "));
}

void print_result(const TuneResult& result, const std::string& device,
                  const std::string& objective) {
  fmt::print("{} on {}\n", result.problem, device);
  print_times(result);
  std::map<std::string_view, int> statuses;
  for (const auto& trial : result.trials) ++statuses[name_of(trial.status)];
  std::vector<std::string> counts;
  for (const auto& [status, count] : statuses)
    counts.push_back(fmt::format("{} {}", count, status));
  fmt::print("verified      relative error {:.2g} against the reference\n", error_of(result));
  print_figures(result, objective);
  fmt::print(
      "tried         {} of {} configurations ({}), {} ruled out by the prior, stopped by {}\n",
      result.trials.size(), result.candidates, fmt::join(counts, ", "), result.ruled_out,
      result.stopped_by);
  if (const auto count = unsettled(result); count > 0)
    fmt::print(
        "not judged    {} of these: the machine failed, not they; the next run tries them again\n",
        count);
  fmt::print(
      "time          {:.1f} s: prepare {:.1f}, enumerate {:.1f}, verify {:.1f}, measure {:.1f}, "
      "search {:.1f}, waiting for the compiler {:.1f} ({:.1f} s of compiling on all cores)\n",
      result.elapsed, result.prepare_seconds, result.enumerate_seconds, result.verify_seconds,
      result.measure_seconds, result.search_seconds, result.idle_seconds, result.compile_seconds);
  if (result.isolated)
    fmt::print("isolation     candidates ran in a worker process, restarted {} times\n",
               result.worker_restarts);
  else
    fmt::print("isolation     none: candidates ran in this process\n");
}

nlohmann::json result_json(const TuneResult& result, const std::string& device,
                           const std::string& objective) {
  auto trials = nlohmann::json::array();
  for (const auto& trial : result.trials) trials.push_back(to_json(trial));
  return {{"problem", result.problem},
          {"device", device},
          {"winner", to_json(result.winner)},
          {"default_seconds", result.default_seconds},
          {"error", error_of(result)},
          {"flops", result.flops},
          {"bytes", result.bytes},
          {"candidates", result.candidates},
          {"ruled_out", result.ruled_out},
          {"not_judged", unsettled(result)},
          {"isolated", result.isolated},
          {"worker_restarts", result.worker_restarts},
          {"stopped_by", result.stopped_by},
          {"objective", objective},
          {"elapsed", result.elapsed},
          {"seconds",
           {{"prepare", result.prepare_seconds},
            {"enumerate", result.enumerate_seconds},
            {"compile", result.compile_seconds},
            {"measure", result.measure_seconds},
            {"verify", result.verify_seconds},
            {"search", result.search_seconds},
            {"idle", result.idle_seconds}}},
          {"trials", trials}};
}

TuneOptions options_of(const TuneCommand& command) {
  TuneOptions options;
  options.budget = parse_budget(command.budget);
  options.budget.patience = command.patience;
  options.budget.until_converged = !command.to_the_end;
  options.strategy = command.strategy;
  for (const auto& name : command.observers) options.observers.push_back(make_observer(name));
  options.objective = command.objective;
  options.seed = command.seed;
  options.compile_workers = command.compile_workers;
  options.kernel_templates = command.only;
  options.fresh = command.fresh;
  options.isolation = command.isolation;
  options.compile_timeout = command.compile_timeout;
  options.run_timeout = command.run_timeout;
  return options;
}

void run_tune(const TuneCommand& command) {
  TuneOptions options = options_of(command);
  const bool live = !command.common.json && is_terminal(2);
  if (live)
    options.on_progress = [&](const TuneProgress& progress) {
      draw_progress(progress, command.objective);
    };
  catch_interrupt();
  options.cancelled = [] { return interrupted(); };

  check_database(command.common);
  Runtime runtime(command.common.runtime_options());
  const auto clear_line = [&] {
    if (live) fmt::print(stderr, "\r\x1b[K");
  };
  try {
    const TuneResult result = runtime.tune(command.problem.op, command.problem.values(), options);
    clear_line();
    if (command.common.json)
      print_json(result_json(result, runtime.device_name(), command.objective));
    else
      print_result(result, runtime.device_name(), command.objective);
    check_remembered(runtime);
    if (interrupted()) {
      fmt::print(
          stderr,
          "cudadent-tune: interrupted; the winner is the best of what was measured so far, and "
          "tuning again goes on from there\n");
      throw Exit{130};
    }
  } catch (...) {
    clear_line();
    throw;
  }
}

template <class Described>
std::string names_of(const Described& described) {
  std::vector<std::string> names;
  for (const auto& [name, doc] : described) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

void add_tune(const Command& program) {
  const auto command = program.subcommand("tune", "find the fastest configuration for a problem");
  auto state = std::make_shared<TuneCommand>();
  state->common.add_to(command);
  state->problem.add_to(command);
  command.option("--budget", state->budget, "30s, 2m, or a number of trials").show_default();
  command.option("--strategy", state->strategy, names_of(strategies())).show_default();
  command
      .option("--observe", state->observers,
              fmt::format("add the figures of an observer to each trial: {}; may be repeated",
                          names_of(observers())))
      .one_value_at_a_time();
  command
      .option("--objective", state->objective,
              "what the winner has least of: seconds, or the figure of an observer")
      .show_default();
  command.option("--seed", state->seed, "of inputs and search").show_default();
  command.option("--patience", state->patience,
                 "stop after this many trials without 1 % of improvement (0: never)");
  command.option("--compile-workers", state->compile_workers, "0: one a core");
  command
      .option("--isolation", state->isolation,
              "where candidates run: worker, in_process, or auto (a worker if one starts)")
      .show_default("auto");
  command
      .option("--compile-timeout", state->compile_timeout,
              "seconds a candidate may take to compile, in a worker")
      .show_default();
  command
      .option("--run-timeout", state->run_timeout,
              "seconds a launch of a candidate may take, in a worker")
      .show_default();
  command.flag("--to-the-end", state->to_the_end,
               "use the whole budget even when nothing more is expected of it");
  command.option("--template", state->only, "only this template; may be repeated")
      .one_value_at_a_time();
  command.flag("--fresh", state->fresh, "measure again what the cache already knows");
  command.run([state] { run_tune(*state); });
}

}  // namespace cudadent::cli
