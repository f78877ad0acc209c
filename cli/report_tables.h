// The tables of a report, and its facts.
#pragma once

#include <vector>

#include "cli/page.h"
#include "tuner/report/problem_report.h"

namespace cudadent::cli {

Facts problem_facts(const ProblemReport& report);
Table best_trials_table(const ProblemReport& report);
// One line for each way to fail: the status with the message's first line.
Table failure_table(const ProblemReport& report);
Table prior_table(const ProblemReport& report);
Table run_table(const ProblemReport& report);
Table provenance_table(const ProblemReport& report);
// Of all problems, a line each.
Table problem_table(const std::vector<ProblemReport>& reports);

}  // namespace cudadent::cli
