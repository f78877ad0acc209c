#include "cli/replay_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/output.h"
#include "cli/page.h"

namespace cudadent::cli {
namespace {

constexpr std::size_t drawn_points = 400;  // of a curve; more cannot be seen

// Rows of x (evaluations) and what `values` gives for the element.
template <class Values>
std::vector<std::vector<double>> drawn(std::size_t evaluations, Values&& values) {
  std::vector<std::vector<double>> rows;
  const std::size_t step = std::max<std::size_t>(evaluations / drawn_points, 1);
  for (std::size_t i = 0; i < evaluations; ++i) {
    if (i % step != 0 && i + 1 != evaluations) continue;
    rows.push_back(values(i));
    rows.back().insert(rows.back().begin(), static_cast<double>(i + 1));
  }
  return rows;
}

Figure figure_of(const std::vector<ReplayCurve>& curves, const std::vector<double>& baseline) {
  Figure figure;
  figure.title = "Fraction of the optimum reached";
  figure.caption =
      "Optimum ÷ fastest so far, mean over the repeats; one standard deviation around a single "
      "curve. Farther up and to the left is better.";
  figure.x = {.label = "evaluations", .logarithmic = true};
  figure.y = {.label = "fraction of the optimum", .unit = Unit::percent, .high = 1.0};
  figure.wide = true;
  for (const ReplayCurve& curve : curves) {
    figure.series.push_back(
        {.name = curve.strategy,
         .mark = Mark::steps,
         .values = drawn(curve.mean.size(), [&](auto i) { return std::vector{curve.mean[i]}; })});
  }
  if (curves.size() == 1) {
    const ReplayCurve& curve = curves[0];
    figure.series.push_back(
        {.name = "standard deviation",
         .mark = Mark::band,
         .values = drawn(curve.mean.size(),
                         [&](auto i) {
                           return std::vector{curve.mean[i] - curve.deviation[i],
                                              std::min(curve.mean[i] + curve.deviation[i], 1.0)};
                         }),
         .faint = true});
  }
  if (!baseline.empty()) {
    figure.series.push_back(
        {.name = "random, expected",
         .mark = Mark::line,
         .values = drawn(baseline.size(), [&](auto i) { return std::vector{baseline[i]}; }),
         .tint = Tint::reference,
         .dashed = true});
  }
  return figure;
}

Table table_of(const std::vector<ReplayCurve>& curves) {
  Table table{.caption = "Mean fraction, and the methodology's score", .headings = {"strategy"}};
  const std::size_t most = curves.empty() ? 0 : curves[0].mean.size();
  std::vector<std::size_t> shown;
  for (const std::size_t evaluations : {25, 50, 100, 200, 400, 1000}) {
    if (evaluations < most) shown.push_back(evaluations);
  }
  shown.push_back(most);
  for (const std::size_t evaluations : shown)
    table.headings.push_back(fmt::format("at {}", evaluations));
  table.headings.emplace_back("score");
  for (const ReplayCurve& curve : curves) {
    auto& row = table.rows.emplace_back();
    row.push_back({.text = curve.strategy});
    for (const std::size_t evaluations : shown) {
      const double mean = evaluations == 0 ? 0 : curve.mean[evaluations - 1];
      row.push_back({.text = fmt::format("{:.4f}", mean), .order = mean});
    }
    row.push_back({.text = fmt::format("{:.3f}", curve.score), .order = curve.score});
  }
  return table;
}

}  // namespace

void write_replay_page(const std::vector<SpaceReplay>& replays, const std::filesystem::path& file) {
  Page page{.title = "cudadent replay",
            .subtitle = "search strategies on recorded tuning spaces",
            .sections = {}};
  if (replays.size() > 1) {
    const auto mean = averaged(replays);
    page.sections.push_back({.id = "mean",
                             .title = fmt::format("Mean of {} spaces", replays.size()),
                             .blocks = {figure_of(mean, {}), table_of(mean)}});
  }
  for (std::size_t i = 0; i < replays.size(); ++i) {
    const SpaceReplay& each = replays[i];
    page.sections.push_back(
        {.id = fmt::format("space-{}", i),
         .title = each.space,
         .summary =
             fmt::format("{} configurations, {} of them fail", each.configurations, each.failures),
         .blocks = {figure_of(each.curves, each.baseline), table_of(each.curves)}});
  }
  write_file(file, html_page(page, page_assets()));
}

}  // namespace cudadent::cli
