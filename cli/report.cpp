#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cache/records.h"
#include "cli/common.h"
#include "cli/output.h"
#include "cli/page.h"
#include "cli/report_page.h"
#include "cli/selection.h"
#include "runtime/language/backend_kind.h"
#include "tuner/report/problem_report.h"

namespace cudadent::cli {

namespace {

struct ReportCommand {
  CommonOptions common;
  ProblemWords problem;
  std::string html;
  bool device_given = false;
};

nlohmann::json priors_json(const std::vector<ProblemReport>& reports) {
  auto json = nlohmann::json::array();
  for (const auto& report : reports)
    for (const auto& prior : report.priors)
      json.push_back(
          {{"problem", report.problem.description},
           {"device", report.problem.device_kind},
           {"template", prior.kernel_template},
           {"trials", prior.trials},
           // JSON has no NaN.
           {"correlation", std::isnan(prior.correlation) ? nlohmann::json(nullptr)
                                                         : nlohmann::json(prior.correlation)},
           {"first_choice", prior.first_choice},
           {"over_predicted", prior.over_predicted}});
  return json;
}

void run_report(const ReportCommand& command) {
  const std::filesystem::path file = database_of(command.common);
  // Opening it would make it.
  if (!std::filesystem::exists(file))
    throw Error(ErrorCode::cache_failed,
                fmt::format("there is no database {}. Tune something first (cudadent-tune tune …), "
                            "or name another one with --db",
                            file.string()));
  Store store(file);
  ReportScope scope{.op = command.problem.op, .values = command.problem.values()};
  std::vector<Device> devices;
  devices.push_back(
      device_facts(command.device_given ? command.common.device : std::string(host_kind.name)));
  if (command.device_given) scope.device_kind = devices.front().kind();
  auto library = command.common.library();
  const auto reports = report_problems(store, library, devices, scope);
  const std::string html =
      html_page(report_page(reports, store.file().string(), utc_now()), page_assets());
  write_file(command.html, html);
  std::size_t trials = 0;
  for (const auto& report : reports) trials += report.trials.size();
  if (command.common.json)
    print_json({{"file", command.html},
                {"bytes", html.size()},
                {"problems", reports.size()},
                {"trials", trials},
                {"priors", priors_json(reports)}});
  else
    fmt::print("{}: {} problem{}, {} trials, {}\n", command.html, reports.size(),
               reports.size() == 1 ? "" : "s", trials,
               byte_text(static_cast<std::int64_t>(html.size())));
}

}  // namespace

void add_report(const Command& program) {
  const auto command =
      program.subcommand("report", "write what is known of problems as a page for a browser");
  auto state = std::make_shared<ReportCommand>();
  state->common.add_to(command);
  state->problem.add_to(command, false);
  command.option("--html", state->html, "the file to write, one page that needs no other")
      .required();
  command.run([state, command] {
    state->device_given = command.given("--device");
    run_report(*state);
  });
}

}  // namespace cudadent::cli
