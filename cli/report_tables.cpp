#include "cli/report_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "cli/common.h"
#include "cli/report_parts.h"

namespace cudadent::cli {

namespace {

constexpr std::size_t best_trials_listed = 10, failures_listed = 20;

std::string short_line(const std::string& text) {
  constexpr std::size_t max_length = 240;
  const std::string line = text.substr(0, text.find('\n'));
  return line.size() <= max_length ? line : line.substr(0, max_length) + "…";
}

}  // namespace

Facts problem_facts(const ProblemReport& report) {
  const double best = report.best_seconds();
  Facts facts;
  facts.push_back({report.winner && !report.winner_is_shared ? "winner" : "best trial",
                   duration_text(best), rate_text(report.flops, report.bytes, best)});
  if (report.speedup() > 0)
    facts.push_back({"over the default", times_text(report.speedup()),
                     fmt::format("default {}", duration_text(report.winner->default_seconds))});
  if (const double share = roof_share(report); share > 0)
    facts.push_back({"of the roof", share_text(share),
                     intensity_of(report) > 0
                         ? fmt::format("{:.3g} FLOP/byte", intensity_of(report))
                         : std::string("memory bandwidth")});
  const auto failed = failures_of(report);
  const std::uint64_t candidates = report.runs.empty() ? 0 : report.runs.back().candidates;
  facts.push_back(
      {"trials", std::to_string(report.trials.size()),
       fmt::format("{}{} failed",
                   candidates > 0 ? fmt::format("of {} configurations, ", candidates) : "",
                   failed)});
  return facts;
}

Table best_trials_table(const ProblemReport& report) {
  std::vector<const TrialRecord*> worked;
  for (const auto& record : report.trials)
    if (record.trial.status == TrialStatus::ok) worked.push_back(&record);
  std::stable_sort(worked.begin(), worked.end(),
                   [](const auto* a, const auto* b) { return a->trial.median < b->trial.median; });
  worked.resize(std::min(worked.size(), best_trials_listed));
  Table table{.caption = "Fastest trials",
              .headings = {"median", "spread", "error", "registers", "spilled"}};
  const auto figures = figure_names(report.trials);
  table.headings.insert(table.headings.end(), figures.begin(), figures.end());
  table.headings.emplace_back("configuration");
  for (const auto* record : worked) {
    std::int64_t registers = -1, spilled = -1;
    for (const auto& kernel : record->resources) {
      registers = std::max(registers, kernel.registers);
      spilled = std::max(spilled, kernel.spill_bytes);
    }
    const auto count = [](std::int64_t n) {
      return n < 0 ? number_cell("–", -1) : number_cell(std::to_string(n), static_cast<double>(n));
    };
    const Trial& trial = record->trial;
    table.rows.push_back({number_cell(duration_text(trial.median), trial.median),
                          number_cell(fmt::format("{:.1f} %", 100 * trial.spread), trial.spread),
                          number_cell(fmt::format("{:.1e}", trial.error), trial.error),
                          count(registers), count(spilled)});
    for (const auto& name : figures) {
      const auto found = trial.figures.find(name);
      table.rows.back().push_back(found == trial.figures.end()
                                      ? number_cell("–", -1)
                                      : number_cell(number_text(found->second), found->second));
    }
    table.rows.back().push_back(
        {configuration_text(trial.kernel_template, trial.configuration), {}, {}});
  }
  return table;
}

Table failure_table(const ProblemReport& report) {
  std::map<std::pair<std::string, std::string>, std::pair<std::int64_t, const Trial*>> ways;
  for (const auto& record : report.trials) {
    const Trial& trial = record.trial;
    if (trial.status == TrialStatus::ok) continue;
    auto& [count, example] = ways[{std::string(name_of(trial.status)), short_line(trial.message)}];
    ++count;
    if (example == nullptr) example = &trial;
  }
  Table table{.caption = "Failures", .headings = {"status", "trials", "message", "for example"}};
  for (const auto& [way, found] : ways) {
    if (table.rows.size() == failures_listed) break;
    table.rows.push_back(
        {{way.first, {}, {}},
         number_cell(std::to_string(found.first), static_cast<double>(found.first)),
         {way.second, {}, {}},
         {configuration_text(found.second->kernel_template, found.second->configuration), {}, {}}});
  }
  if (ways.size() > failures_listed)
    table.caption += fmt::format(" (the first {} of {} kinds)", failures_listed, ways.size());
  return table;
}

Table prior_table(const ProblemReport& report) {
  Table table{.caption =
                  "How well priors rank: Spearman's correlation of prediction and measurement over "
                  "the trials that worked (1: the same order), the best of them over the prior's "
                  "first choice, and what is measured over what is predicted, if that is seconds",
              .headings = {"template", "trials", "correlation", "first choice", "over predicted"}};
  for (const PriorQuality& prior : report.priors)
    table.rows.push_back(
        {{prior.kernel_template, {}, {}},
         number_cell(std::to_string(prior.trials), static_cast<double>(prior.trials)),
         number_cell(std::isnan(prior.correlation) ? "–" : fmt::format("{:.2f}", prior.correlation),
                     prior.correlation),
         number_cell(share_text(prior.first_choice), prior.first_choice),
         number_cell(times_text(prior.over_predicted), prior.over_predicted)});
  return table;
}

Table run_table(const ProblemReport& report) {
  Table table{.caption = "Tuning runs",
              .headings = {"started (UTC)", "took", "measured", "failed", "known before",
                           "strategy", "seed", "stopped by", "compiling, all cores",
                           "worker restarts", "machine", "cudadent"}};
  for (auto run = report.runs.rbegin(); run != report.runs.rend(); ++run) {
    const auto count = [](std::int64_t n) {
      return number_cell(std::to_string(n), static_cast<double>(n));
    };
    table.rows.push_back({{minute_of(run->started), {}, {}},
                          number_cell(duration_text(run->elapsed), run->elapsed),
                          count(run->measured),
                          count(run->failed),
                          count(run->recalled),
                          {run->strategy, {}, {}},
                          {std::to_string(run->seed), {}, {}},
                          {run->stopped_by, {}, {}},
                          number_cell(duration_text(run->compile_seconds), run->compile_seconds),
                          run->isolated ? count(run->worker_restarts) : number_cell("–", -1),
                          {run->machine, {}, {}},
                          {run->version, {}, {}}});
  }
  return table;
}

Table provenance_table(const ProblemReport& report) {
  Table table{.caption = "Where this comes from", .headings = {"what", "value"}};
  const auto row = [&](const char* what, const std::string& value) {
    if (!value.empty()) table.rows.push_back({{what, {}, {}}, {value, {}, {}}});
  };
  row("kind of device", report.problem.device_kind);
  if (report.winner) {
    row("device", report.winner->device_name);
    row("driver", report.winner->driver);
    row("device's UUID", report.winner->uuid);
    row("winner found (UTC)", minute_of(report.winner->created));
    row("winner's compiler", report.winner->compiler);
    row("winner's template",
        fmt::format("{}, hash {}", report.winner->kernel_template, report.winner->template_hash));
  }
  if (!report.trials.empty()) {
    row("compiler of the trials", report.trials.back().compiler);
    row("method of measuring", report.trials.back().measurement);
    row("trials (UTC)", fmt::format("{} to {}", minute_of(report.trials.front().created),
                                    minute_of(report.trials.back().created)));
  }
  row("tuning key", report.problem.tuning_key);
  row("problem key", report.problem.problem_key);
  return table;
}

Table problem_table(const std::vector<ProblemReport>& reports) {
  Table table{.headings = {"problem", "device", "template", "time", "rate", "over default",
                           "of the roof", "trials", "failed", "tuned"},
              .interactive = true};
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const ProblemReport& report = reports[i];
    const double best = report.best_seconds(), share = roof_share(report);
    const double amount = report.flops > 0 ? report.flops : report.bytes;
    const auto failed = failures_of(report);
    table.rows.push_back(
        {{report.problem.description, {}, problem_id(i)},
         {report.problem.device_kind, {}, {}},
         {report.winner ? report.winner->kernel_template : "–", {}, {}},
         number_cell(duration_text(best), best > 0 ? best : std::nan("")),
         number_cell(rate_text(report.flops, report.bytes, best), best > 0 ? amount / best : 0),
         number_cell(times_text(report.speedup()), report.speedup()),
         number_cell(share > 0 ? share_text(share) : "–", share),
         number_cell(std::to_string(report.trials.size()),
                     static_cast<double>(report.trials.size())),
         number_cell(std::to_string(failed), static_cast<double>(failed)),
         {report.winner ? minute_of(report.winner->created) : "–", {}, {}}});
  }
  return table;
}

}  // namespace cudadent::cli
