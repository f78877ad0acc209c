// Rooflines: what problems reach of what the device could do at most.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "cli/common.h"
#include "cli/report_figures.h"
#include "cli/report_parts.h"
#include "tuner/statistics.h"

namespace cudadent::cli {

namespace {

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

}  // namespace

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

}  // namespace cudadent::cli
