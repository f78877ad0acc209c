#include "cli/report_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "cli/common.h"
#include "cli/report_figures.h"
#include "cli/report_parts.h"
#include "cli/report_tables.h"

namespace cudadent::cli {

namespace {

constexpr std::size_t parameters_drawn = 12;  // of a template, the most important ones

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
