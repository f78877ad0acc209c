// The page that cudadent-tune report writes.
#pragma once

#include <vector>

#include "cli/page.h"
#include "tuner/report/problem_report.h"

namespace cudadent::cli {

// `database` and `date` are for the subtitle.
Page report_page(const std::vector<ProblemReport>& reports, const std::string& database,
                 const std::string& date);

}  // namespace cudadent::cli
