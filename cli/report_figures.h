// The figures of a report.
#pragma once

#include <vector>

#include "cli/page.h"
#include "tuner/report/problem_report.h"

namespace cudadent::cli {

Figure distribution_figure(const ProblemReport& report);
Figure failure_figure(const ProblemReport& report);
Figure search_figure(const ProblemReport& report);
Figure importance_figure(const TemplateEffects& effects);
Figure parameter_figure(const TemplateEffects& effects, const ParameterEffect& parameter);
// The runs' times, newest at the top.
Figure phase_figure(const ProblemReport& report);

bool has_roofline(const ProblemReport& report);
Figure roofline_figure(const ProblemReport& report);
// A figure for each kind of device and data type of which several problems have rooflines.
std::vector<Figure> common_rooflines(const std::vector<ProblemReport>& reports);

}  // namespace cudadent::cli
