#include "cli/report_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "cli/common.h"
#include "runtime/language/value.h"
#include "tuner/statistics.h"

namespace cudadent::cli {

namespace {

constexpr std::size_t histogram_bins = 30;
// Points a figure draws at most: more than these lie on each other, and every one makes the page larger.
constexpr std::size_t points_of_a_search = 300, points_of_a_value = 40;
constexpr std::size_t parameters_drawn = 12;  // of a template, the most important ones
constexpr std::size_t best_trials_listed = 10, failures_listed = 20, runs_drawn = 12;

std::string problem_id(std::size_t index) { return fmt::format("problem-{}", index + 1); }

std::vector<double> medians_of(const std::vector<TrialRecord>& trials) {
  std::vector<double> medians;
  for (const auto& record : trials)
    if (record.trial.status == TrialStatus::ok) medians.push_back(record.trial.median);
  return medians;
}

std::int64_t failures_of(const ProblemReport& report) {
  return std::count_if(report.trials.begin(), report.trials.end(),
                       [](const auto& record) { return record.trial.status != TrialStatus::ok; });
}

std::string configuration_text(const std::string& kernel_template, const Values& configuration) {
  return fmt::format("{} {}", kernel_template, to_text(configuration));
}

// With three digits, for the ticks of an axis.
std::string short_duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} µs", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} s", seconds);
}

std::string times_text(double factor) { return factor > 0 ? fmt::format("{:.2f}×", factor) : "–"; }

std::string share_text(double share) { return fmt::format("{:.0f} %", 100 * share); }

// "2026-01-31 12:00" of "2026-01-31T12:00:00.000Z".
std::string minute_of(std::string time) {
  if (time.size() > 16) time.resize(16);
  std::replace(time.begin(), time.end(), 'T', ' ');
  return time;
}

std::string first_line(const std::string& text) {
  constexpr std::size_t most = 240;
  const std::string line = text.substr(0, text.find('\n'));
  return line.size() <= most ? line : line.substr(0, most) + "…";
}

Cell number_cell(const std::string& text, double order) { return {text, order, {}}; }

double intensity_of(const ProblemReport& report) {
  return report.flops > 0 && report.bytes > 0 ? report.flops / report.bytes : 0;
}

// What the problem reaches of what its roof allows; 0 unknown.
double roof_share(const ProblemReport& report) {
  const double seconds = report.best_seconds(),
               roof = report.roofs.attainable(intensity_of(report));
  if (seconds <= 0) return 0;
  if (intensity_of(report) > 0) return roof > 0 ? report.flops / seconds / roof : 0;
  return report.bytes > 0 && report.roofs.memory.rate > 0
             ? report.bytes / seconds / report.roofs.memory.rate
             : 0;
}

// ------------------------------------------------------------------------------- figures

Figure distribution_figure(const ProblemReport& report) {
  const auto medians = medians_of(report.trials);
  const auto bins = logarithmic_histogram(medians, histogram_bins);
  Figure figure{.title = "Distribution of trials",
                .caption = fmt::format("How many of the {} configurations that work run how fast. "
                                       "Bins are equally wide in the logarithm; the fastest are on "
                                       "the left.",
                                       medians.size()),
                .x = {.label = "median time"},
                .y = {.label = "configurations"}};
  Series counts{.name = "configurations", .mark = Mark::bars, .tint = Tint::neutral};
  for (const Bin& bin : bins) {
    figure.categories.push_back(short_duration(bin.low));
    counts.values.push_back({static_cast<double>(bin.count)});
    counts.labels.push_back(
        fmt::format("{} to {}", duration_text(bin.low), duration_text(bin.high)));
  }
  figure.series.push_back(std::move(counts));
  return figure;
}

Figure failure_figure(const ProblemReport& report) {
  Figure figure{.title = "How trials ended",
                .caption = "Trials by status. A configuration that fails is never launched.",
                .x = {.label = "status"},
                .y = {.label = "trials"},
                .horizontal = true};
  Series worked{.name = "worked", .mark = Mark::bars, .tint = Tint::good};
  Series failed{.name = "failed", .mark = Mark::bars, .tint = Tint::bad};
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [status, count] : count_by_status(report.trials)) {
    const bool ok = status == name_of(TrialStatus::ok);
    figure.categories.push_back(status);
    worked.values.push_back({ok ? static_cast<double>(count) : nothing});
    failed.values.push_back({ok ? nothing : static_cast<double>(count)});
  }
  figure.stacked = true;
  figure.series = {std::move(worked), std::move(failed)};
  return figure;
}

Figure search_figure(const ProblemReport& report) {
  Figure figure{.title = "Best so far",
                .caption =
                    "The best time known after each evaluation, failures counted; dots are "
                    "single trials.",
                .x = {.label = "evaluation"},
                .y = {.label = "median time", .unit = Unit::seconds, .logarithmic = true}};
  Series trials{.name = "trial", .mark = Mark::points, .tint = Tint::neutral, .faint = true};
  std::vector<std::size_t> worked;
  for (std::size_t i = 0; i < report.trials.size(); ++i)
    if (report.trials[i].trial.status == TrialStatus::ok) worked.push_back(i);
  for (const std::size_t place : evenly_spaced(worked.size(), points_of_a_search)) {
    const auto& trial = report.trials[worked[place]].trial;
    trials.values.push_back({static_cast<double>(worked[place] + 1), trial.median});
    trials.labels.push_back(configuration_text(trial.kernel_template, trial.configuration));
  }
  Series best{.name = "best so far", .mark = Mark::steps, .tint = Tint::good};
  for (const BestSoFar& point : best_so_far(report.trials))
    best.values.push_back({static_cast<double>(point.evaluation), point.seconds});
  figure.series = {std::move(best), std::move(trials)};
  if (report.speedup() > 0) {
    const double seconds = report.winner->default_seconds;
    figure.series.push_back(
        {.name = "default configuration",
         .mark = Mark::line,
         .values = {{1, seconds}, {static_cast<double>(report.trials.size()), seconds}},
         .tint = Tint::reference,
         .dashed = true});
  }
  return figure;
}

Figure importance_figure(const TemplateEffects& effects) {
  Figure figure{.title = fmt::format("{}: which parameters matter", effects.kernel_template),
                .caption =
                    "Share of the variance of log time that a parameter explains by itself. "
                    "A search favours good configurations, so that these tell parameters "
                    "apart but are no exact figures.",
                .x = {.label = "parameter"},
                .y = {.label = "share explained", .unit = Unit::percent, .low = 0},
                .horizontal = true};
  Series shares{.name = "importance", .mark = Mark::bars};
  for (const auto& parameter : effects.parameters) {
    figure.categories.push_back(parameter.name);
    shares.values.push_back({parameter.importance});
  }
  figure.series.push_back(std::move(shares));
  return figure;
}

// Beside each other by turns within ±0.3 of a category, the same way each time.
double scatter(std::size_t index) {
  constexpr double golden_ratio = 0.6180339887498949;  // spreads successive points evenly
  return 0.6 * (std::fmod(static_cast<double>(index) * golden_ratio, 1.0) - 0.5);
}

Figure parameter_figure(const TemplateEffects& effects, const ParameterEffect& parameter) {
  Figure figure{.title = fmt::format("{} {}", effects.kernel_template, parameter.name),
                .caption = fmt::format(
                    "Explains {} of the variance. Boxes hold the middle half of the trials "
                    "with a value, lines are medians, dots single trials; 100 % is the "
                    "template's best, {}.",
                    share_text(parameter.importance), duration_text(effects.best)),
                .x = {.label = parameter.name},
                .y = {.label = "performance", .unit = Unit::percent, .low = 0, .high = 1}};
  Series boxes{.name = "middle half", .mark = Mark::boxes, .tint = Tint::neutral};
  Series medians{.name = "median", .mark = Mark::ticks, .tint = Tint::neutral};
  Series trials{.name = "trial", .mark = Mark::points, .tint = Tint::reference, .faint = true};
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  std::vector<std::string> failures;
  for (const ValueEffect& effect : parameter.values) {
    const auto position = static_cast<double>(figure.categories.size());
    figure.categories.push_back(to_text(effect.value));
    const auto& performance = effect.performance;
    const bool any = !performance.empty();
    boxes.values.push_back(
        {any ? quantile(performance, 0.25) : nothing, any ? quantile(performance, 0.75) : nothing});
    medians.values.push_back({any ? median(performance) : nothing});
    for (const std::size_t i : evenly_spaced(performance.size(), points_of_a_value))
      trials.values.push_back({position + scatter(i), performance[i]});
    if (effect.failed > 0)
      failures.push_back(
          fmt::format("{}: {} of {}", to_text(effect.value), effect.failed,
                      effect.failed + static_cast<std::int64_t>(performance.size())));
  }
  if (!failures.empty())
    figure.caption += fmt::format(" Failed with {}.", fmt::join(failures, ", "));
  figure.series = {std::move(boxes), std::move(medians), std::move(trials)};
  return figure;
}

// The roofs from `low` to `high` FLOP/byte: up to the ridge memory is the limit, then arithmetic.
Series roof_series(const Roofs& roofs, double low, double high, const std::string& name) {
  Series roof{.name = name, .mark = Mark::line, .tint = Tint::reference};
  const double ridge = roofs.memory.rate > 0 ? roofs.compute.rate / roofs.memory.rate : 0;
  for (const double intensity : {low, ridge, high})
    if (intensity == low || intensity == high || (intensity > low && intensity < high))
      roof.values.push_back({intensity, roofs.attainable(intensity)});
  return roof;
}

std::string roofs_text(const Roofs& roofs) {
  return fmt::format("Compute peak {} ({}). Memory {} ({}).", rate_text(roofs.compute.rate, 0, 1),
                     roofs.compute.basis, rate_text(0, roofs.memory.rate, 1), roofs.memory.basis);
}

Axis intensity_axis() { return {.label = "arithmetic intensity, FLOP/byte", .logarithmic = true}; }
Axis rate_axis() { return {.label = "rate", .unit = Unit::flop_per_second, .logarithmic = true}; }

// Around the ridge and every problem, some room at the sides.
std::pair<double, double> intensity_range(const Roofs& roofs, std::vector<double> intensities) {
  if (roofs.memory.rate > 0) intensities.push_back(roofs.compute.rate / roofs.memory.rate);
  const auto [low, high] = std::minmax_element(intensities.begin(), intensities.end());
  return {*low / 4, *high * 4};
}

bool has_roofline(const ProblemReport& report) {
  return intensity_of(report) > 0 && report.best_seconds() > 0 && report.roofs.compute.rate > 0;
}

Figure roofline_figure(const ProblemReport& report) {
  const double intensity = intensity_of(report);
  Figure figure{.title = "Roofline",
                .caption = fmt::format("How near the winner is to what the device could do at most "
                                       "with this many operations a byte, if each byte moved once. "
                                       "{}",
                                       roofs_text(report.roofs)),
                .x = intensity_axis(),
                .y = rate_axis()};
  const auto [low, high] = intensity_range(report.roofs, {intensity});
  const auto point = [&](const char* name, double seconds, Tint tint) {
    if (seconds > 0)
      figure.series.push_back({.name = name,
                               .mark = Mark::points,
                               .values = {{intensity, report.flops / seconds}},
                               .labels = {duration_text(seconds)},
                               .tint = tint});
  };
  point("best", report.best_seconds(), Tint::good);
  if (report.speedup() > 0) point("default", report.winner->default_seconds, Tint::bad);
  point("median trial", median(medians_of(report.trials)), Tint::neutral);
  figure.series.push_back(roof_series(report.roofs, low, high, "roof"));
  return figure;
}

// The runs' times, newest at the top.
Figure phase_figure(const ProblemReport& report) {
  Figure figure{.title = "Where the time went",
                .caption =
                    "Share of each run's time: building the space, verifying results, "
                    "measuring, choosing what to try, and waiting for the compiler; the rest is "
                    "starting the worker, inputs, the reference.",
                .x = {.label = "run"},
                .y = {.label = "share of the run", .unit = Unit::percent, .low = 0, .high = 1},
                .horizontal = true,
                .stacked = true};
  static constexpr std::array<std::pair<const char*, double RunRecord::*>, 5> phases{{
      {"enumerate", &RunRecord::enumerate_seconds},
      {"verify", &RunRecord::verify_seconds},
      {"measure", &RunRecord::measure_seconds},
      {"search", &RunRecord::search_seconds},
      {"idle, waiting for the compiler", &RunRecord::idle_seconds},
  }};
  for (const auto& [name, phase] : phases)
    figure.series.push_back({.name = name, .mark = Mark::bars});
  figure.series.push_back(
      {.name = "preparing and other", .mark = Mark::bars, .tint = Tint::reference});
  const std::size_t count = std::min(report.runs.size(), runs_drawn);
  for (std::size_t i = 0; i < count; ++i) {
    const RunRecord& run = report.runs[report.runs.size() - 1 - i];
    figure.categories.push_back(minute_of(run.started));
    double known = 0;
    for (const auto& [name, phase] : phases) known += run.*phase;
    const double whole = std::max({run.elapsed, known, 1e-9});
    const double rest = whole - known;
    for (std::size_t phase = 0; phase < phases.size(); ++phase) {
      const double seconds = run.*phases[phase].second;
      figure.series[phase].values.push_back({seconds / whole});
      figure.series[phase].labels.push_back(duration_text(seconds));
    }
    figure.series.back().values.push_back({rest / whole});
    figure.series.back().labels.push_back(duration_text(rest));
  }
  return figure;
}

// ------------------------------------------------------------------------------- tables and facts

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
              .headings = {"median", "spread", "error", "registers", "spilled", "configuration"}};
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
    table.rows.push_back(
        {number_cell(duration_text(trial.median), trial.median),
         number_cell(fmt::format("{:.1f} %", 100 * trial.spread), trial.spread),
         number_cell(fmt::format("{:.1e}", trial.error), trial.error),
         count(registers),
         count(spilled),
         {configuration_text(trial.kernel_template, trial.configuration), {}, {}}});
  }
  return table;
}

// One line for each way to fail: the status with the message's first line.
Table failure_table(const ProblemReport& report) {
  std::map<std::pair<std::string, std::string>, std::pair<std::int64_t, const Trial*>> ways;
  for (const auto& record : report.trials) {
    const Trial& trial = record.trial;
    if (trial.status == TrialStatus::ok) continue;
    auto& [count, example] = ways[{std::string(name_of(trial.status)), first_line(trial.message)}];
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

// ------------------------------------------------------------------------------- sections

void add_parameters(Section& section, const ProblemReport& report) {
  for (const TemplateEffects& effects : parameter_effects(report.trials)) {
    if (effects.best <= 0) {
      section.blocks.emplace_back(Paragraph{
          fmt::format("{}: none of {} trials worked.", effects.kernel_template, effects.trials)});
      continue;
    }
    if (effects.parameters.empty()) continue;
    section.blocks.emplace_back(importance_figure(effects));
    const std::size_t count = std::min(effects.parameters.size(), parameters_drawn);
    for (std::size_t i = 0; i < count; ++i)
      section.blocks.emplace_back(parameter_figure(effects, effects.parameters[i]));
  }
}

Section problem_section(const ProblemReport& report, std::size_t index, bool folded) {
  const double best = report.best_seconds();
  Section section{.id = problem_id(index),
                  .title = report.problem.description,
                  .foldable = true,
                  .folded = folded};
  section.summary = fmt::format(
      "{}{}", duration_text(best),
      report.speedup() > 0 ? fmt::format(", {} default", times_text(report.speedup())) : "");
  section.blocks.emplace_back(problem_facts(report));
  if (report.winner)
    section.blocks.emplace_back(Paragraph{fmt::format(
        "Winner{}: {}",
        report.winner_is_shared
            ? fmt::format(", found for {} ({}), which shares it",
                          report.winner->problem.description, duration_text(report.winner->seconds))
            : "",
        configuration_text(report.winner->kernel_template, report.winner->configuration))});
  else
    section.blocks.emplace_back(
        Paragraph{"No winner was chosen: no tuning run came to its end.", true});
  if (report.left_out > 0)
    section.blocks.emplace_back(Paragraph{
        fmt::format("{} trials of earlier templates, compilers or methods of measuring are left "
                    "out.",
                    report.left_out)});
  if (best_so_far(report.trials).empty()) {
    if (report.trials.empty())
      section.blocks.emplace_back(Paragraph{"The database has no trials of this problem."});
  } else {
    section.blocks.emplace_back(distribution_figure(report));
    section.blocks.emplace_back(search_figure(report));
  }
  if (failures_of(report) > 0) section.blocks.emplace_back(failure_figure(report));
  if (has_roofline(report)) section.blocks.emplace_back(roofline_figure(report));
  if (!report.runs.empty()) section.blocks.emplace_back(phase_figure(report));
  add_parameters(section, report);
  if (!medians_of(report.trials).empty()) section.blocks.emplace_back(best_trials_table(report));
  if (failures_of(report) > 0) section.blocks.emplace_back(failure_table(report));
  if (!report.priors.empty()) section.blocks.emplace_back(prior_table(report));
  if (!report.runs.empty()) section.blocks.emplace_back(run_table(report));
  section.blocks.emplace_back(provenance_table(report));
  return section;
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

// A figure for each kind of device and data type of which several problems have rooflines.
std::vector<Figure> common_rooflines(const std::vector<ProblemReport>& reports) {
  std::map<std::pair<std::string, std::string>, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < reports.size(); ++i)
    if (has_roofline(reports[i]))
      groups[{reports[i].problem.device_kind, reports[i].data_type}].push_back(i);
  std::vector<Figure> figures;
  for (const auto& [group, members] : groups) {
    if (members.size() < 2) continue;
    const Roofs& roofs = reports[members.front()].roofs;
    Figure figure{
        .title = fmt::format("Roofline, {}{}{}", group.first, group.second.empty() ? "" : ", ",
                             group.second),
        .caption = "The best of each problem; click one to go there. " + roofs_text(roofs),
        .x = intensity_axis(),
        .y = rate_axis(),
        .wide = true};
    std::map<std::string, Series> by_op;
    std::vector<double> intensities;
    for (const std::size_t i : members) {
      const ProblemReport& report = reports[i];
      Series& series = by_op[report.problem.op];
      series.name = report.problem.op;
      intensities.push_back(intensity_of(report));
      series.values.push_back({intensities.back(), report.flops / report.best_seconds()});
      series.labels.push_back(report.problem.description);
      series.targets.push_back(problem_id(i));
    }
    for (auto& [op, series] : by_op) figure.series.push_back(std::move(series));
    const auto [low, high] = intensity_range(roofs, intensities);
    figure.series.push_back(roof_series(roofs, low, high, "roof"));
    figures.push_back(std::move(figure));
  }
  return figures;
}

}  // namespace

Page report_page(const std::vector<ProblemReport>& reports, const std::string& database,
                 const std::string& date) {
  std::set<std::string> kinds;
  for (const auto& report : reports) kinds.insert(report.problem.device_kind);
  Page page{.title = "cudadent tuning report",
            .subtitle = fmt::format("{} problem{} on {}; {}, {} UTC", reports.size(),
                                    reports.size() == 1 ? "" : "s", fmt::join(kinds, ", "),
                                    database, minute_of(date))};
  if (reports.size() > 1) {
    Section overview{.id = "overview", .title = "All problems"};
    overview.blocks.emplace_back(problem_table(reports));
    for (auto& figure : common_rooflines(reports)) overview.blocks.emplace_back(std::move(figure));
    page.sections.push_back(std::move(overview));
  }
  for (std::size_t i = 0; i < reports.size(); ++i)
    page.sections.push_back(problem_section(reports[i], i, reports.size() > 1));
  return page;
}

}  // namespace cudadent::cli
