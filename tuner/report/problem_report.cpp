#include "tuner/report/problem_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "runtime/language/value.h"
#include "runtime/operators/problem.h"

namespace cudadent {

namespace {

// Empty for a key that is not a problem's.
Values values_of(const ProblemRecord& problem) {
  try {
    return values_from_json(nlohmann::json::parse(problem.problem_key));
  } catch (const std::exception&) {
    return {};
  }
}

bool has_all(const Values& values, const Values& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
    const auto found = values.find(entry.first);
    return found != values.end() && found->second == entry.second;
  });
}

// Problems with trials, then those that only a winner speaks of.
std::vector<ProblemRecord> problems_in(Store& store, const ReportScope& scope) {
  auto problems = store.problems(scope.op, scope.device_kind);
  const auto identity = [](const ProblemRecord& problem) {
    return std::tuple(problem.op, problem.device_kind, problem.problem_key);
  };
  std::set<std::tuple<std::string, std::string, std::string>> known;
  for (const auto& problem : problems) known.insert(identity(problem));
  for (const auto& winner : store.winners(scope.op, scope.device_kind))
    if (known.insert(identity(winner.problem)).second) problems.push_back(winner.problem);
  std::stable_sort(problems.begin(), problems.end(), [](const auto& a, const auto& b) {
    return std::tie(a.op, a.device_kind) < std::tie(b.op, b.device_kind);
  });
  return problems;
}

// From the newest run that says, else from the operator's manifest.
void find_amounts(ProblemReport& report, TemplateLibrary& library) {
  for (const RunRecord& run : report.runs) {
    if (run.flops > 0) report.flops = run.flops;
    if (run.bytes > 0) report.bytes = run.bytes;
  }
  if (report.flops > 0 || report.bytes > 0) return;
  try {
    // Completed: the record may be older than some of the manifest's options.
    const auto entry = library.find(report.problem.op);
    const Problem problem = make_problem(entry->manifest, values_of(report.problem));
    report.flops = problem.flops();
    report.bytes = problem.bytes();
  } catch (const Error&) {
    // Not an operator known here, or another one of the same name: it cannot tell.
    report.flops = report.bytes = 0;
  }
}

ProblemReport report_of(Store& store, TemplateLibrary& library, ProblemRecord problem) {
  ProblemReport report;
  const Values values = values_of(problem);
  if (const auto type = values.find("dtype"); type != values.end())
    report.data_type = to_text(type->second);
  report.winner = store.winner(problem.op, problem.tuning_key, problem.device_kind);
  report.winner_is_shared =
      report.winner && report.winner->problem.problem_key != problem.problem_key;
  auto trials = store.trials(problem.op, problem.problem_key, problem.device_kind);
  const std::size_t all = trials.size();
  report.trials = comparable_trials(std::move(trials));
  report.left_out = static_cast<std::int64_t>(all - report.trials.size());
  report.runs = store.runs(problem.op, problem.problem_key, problem.device_kind);
  report.problem = std::move(problem);
  find_amounts(report, library);
  return report;
}

// Facts by kind of device: the newest run's, else those of a device at hand.
std::map<std::string, Values> facts_by_kind(const std::vector<ProblemReport>& reports,
                                            const std::vector<Device>& devices) {
  std::map<std::string, Values> facts;
  for (const Device& device : devices) facts[device.kind()] = device.facts();
  for (const auto& report : reports)
    for (const RunRecord& run : report.runs)
      if (!run.device_facts.empty()) facts[report.problem.device_kind] = run.device_facts;
  return facts;
}

using Facts = std::map<std::string, Values>;  // of devices, by their kind

void find_priors(ProblemReport& report, TemplateLibrary& library, const Facts& facts) {
  const auto known = facts.find(report.problem.device_kind);
  if (known == facts.end()) return;
  try {
    const auto entry = library.find(report.problem.op);
    const Problem problem = make_problem(entry->manifest, values_of(report.problem));
    report.priors = prior_qualities(report.trials, *entry, problem, known->second);
  } catch (const Error&) {
    report.priors.clear();  // not an operator known here, or another one of the same name
  }
}

void find_roofs(std::vector<ProblemReport>& reports, const Facts& facts) {
  // What is alike has one roof: a kind of device and a data type.
  using Group = std::pair<std::string, std::string>;
  const auto group_of = [](const ProblemReport& report) {
    return Group(report.problem.device_kind, report.data_type);
  };
  std::map<Group, std::vector<Reached>> reached;
  for (const auto& report : reports) {
    auto& group = reached[group_of(report)];
    group.push_back({report.flops, report.bytes, report.best_seconds()});
    // The winner's time is of the final comparison; a trial may have been faster in its turn.
    for (const BestSoFar& point : best_so_far(report.trials))
      group.push_back({report.flops, report.bytes, point.seconds});
  }
  for (auto& report : reports) {
    const auto known = facts.find(report.problem.device_kind);
    const Roofs nominal =
        known == facts.end() ? Roofs{} : nominal_roofs(known->second, report.data_type);
    report.roofs = with_best_measured(nominal, reached.at(group_of(report)));
  }
}

[[noreturn]] void nothing_to_report(Store& store, TemplateLibrary& library,
                                    const ReportScope& scope) {
  std::set<std::string> ops;
  for (const auto& problem : problems_in(store, {})) ops.insert(problem.op);
  const auto known = library.operators();
  if (!scope.op.empty() && !ops.contains(scope.op) &&
      std::find(known.begin(), known.end(), scope.op) == known.end())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("no operator \"{}\"{}", scope.op,
                            ops.empty() ? std::string()
                                        : fmt::format("; {} has {}", store.file().string(),
                                                      fmt::join(ops, ", "))));
  if (ops.empty())
    throw Error(ErrorCode::not_tuned,
                fmt::format("{} holds no trials and no winners: there is nothing to report. Tune "
                            "something first (cudadent-tune tune …), or name another database "
                            "with --db",
                            store.file().string()));
  throw Error(ErrorCode::not_tuned,
              fmt::format("{} knows no {} problem{}{}. It has {}; cudadent-tune show lists them",
                          store.file().string(), scope.op.empty() ? "such" : scope.op,
                          scope.values.empty() ? "" : " with " + to_text(scope.values),
                          scope.device_kind.empty() ? "" : " on " + scope.device_kind,
                          fmt::join(ops, ", ")));
}

}  // namespace

double ProblemReport::best_seconds() const {
  if (winner && !winner_is_shared && winner->seconds > 0) return winner->seconds;
  const auto curve = best_so_far(trials);
  return curve.empty() ? 0 : curve.back().seconds;
}

double ProblemReport::speedup() const {
  if (!winner || winner_is_shared || winner->seconds <= 0 || winner->default_seconds <= 0) return 0;
  return winner->default_seconds / winner->seconds;
}

std::vector<ProblemReport> report_problems(Store& store, TemplateLibrary& library,
                                           const std::vector<Device>& devices,
                                           const ReportScope& scope) {
  std::vector<ProblemReport> reports;
  for (auto& problem : problems_in(store, scope))
    if (has_all(values_of(problem), scope.values))
      reports.push_back(report_of(store, library, std::move(problem)));
  if (reports.empty()) nothing_to_report(store, library, scope);
  const auto facts = facts_by_kind(reports, devices);
  find_roofs(reports, facts);
  for (auto& report : reports) find_priors(report, library, facts);
  return reports;
}

}  // namespace cudadent
