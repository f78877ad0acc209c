#include "cli/report_figures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/common.h"
#include "cli/report_parts.h"
#include "runtime/language/value.h"
#include "tuner/statistics.h"

namespace cudadent::cli {

namespace {

constexpr std::size_t histogram_bins = 30;
// Points that a figure draws at most: more of them lie on each other, and every one makes the page larger.
constexpr std::size_t points_of_a_search = 300, points_of_a_value = 40;
constexpr std::size_t runs_drawn = 12;

// With three digits, for the ticks of an axis.
std::string short_duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} µs", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} s", seconds);
}

// Beside each other by turns within ±0.3 of a category, the same way each time.
double scatter(std::size_t index) {
  constexpr double golden_ratio = 0.6180339887498949;  // spreads successive points evenly
  return 0.6 * (std::fmod(static_cast<double>(index) * golden_ratio, 1.0) - 0.5);
}

}  // namespace

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

}  // namespace cudadent::cli
