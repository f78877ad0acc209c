// What the figures, tables and sections of a report have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/page.h"
#include "tuner/report/problem_report.h"

namespace cudadent::cli {

std::string problem_id(std::size_t index);  // of its section

std::vector<double> medians_of(
    const std::vector<TrialRecord>& trials);  // seconds, of those that worked
std::int64_t failures_of(const ProblemReport& report);
double intensity_of(const ProblemReport& report);  // FLOP/byte; 0 unknown
// What the problem reaches of what its roof allows; 0 unknown.
double roof_share(const ProblemReport& report);

std::string configuration_text(const std::string& kernel_template, const Values& configuration);
std::string times_text(double factor);  // "1.25×"
std::string share_text(double share);   // "80 %"
// "2026-01-31 12:00" of "2026-01-31T12:00:00.000Z".
std::string minute_of(std::string time);

Cell number_cell(const std::string& text, double order);

}  // namespace cudadent::cli
