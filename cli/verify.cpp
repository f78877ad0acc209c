#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/selection.h"
#include "runtime/language/value.h"
#include "tuner/verification.h"

namespace cudadent::cli {

namespace {

struct VerifyCommand {
  CommonOptions common;
  ProblemWords problem;
  CheckRules rules;
  double margin_percent = 100 * CheckRules().margin;
  bool fix = false;
};

struct Checked {
  WinnerRecord winner;
  WinnerCheck check;
  bool fixed = false;
};

nlohmann::json checked_json(const Checked& checked) {
  auto entrants = nlohmann::json::array();
  for (const auto& entrant : checked.check.entrants)
    entrants.push_back({{"role", entrant.role},
                        {"template", entrant.kernel_template},
                        {"configuration", cudadent::to_json(entrant.configuration)},
                        {"status", name_of(entrant.status)},
                        {"message", entrant.message},
                        {"seconds", entrant.seconds},
                        {"slowdown", entrant.slowdown}});
  return {{"problem", checked.winner.problem.description},
          {"state", name_of(checked.check.state)},
          {"message", checked.check.message},
          {"seconds_then", checked.winner.seconds},
          {"fixed", checked.fixed},
          {"entrants", entrants}};
}

void print_checked(const Checked& checked) {
  const bool known = !checked.check.entrants.empty();
  fmt::print(
      "{:<9} {}  {}{}{}{}\n", name_of(checked.check.state), checked.winner.problem.description,
      duration_text(checked.winner.seconds),
      known ? " then, " + duration_text(checked.check.entrants.front().seconds) + " now" : "",
      checked.check.message.empty() ? "" : ": " + checked.check.message,
      checked.fixed ? " (replaced)" : "");
  std::fflush(stdout);
}

bool can_be_fixed(const WinnerCheck& check) {
  return (check.state == WinnerState::loses || check.state == WinnerState::fails) &&
         check.entrants[check.best].seconds > 0;
}

Checked check(const VerifyCommand& command, Runtime::Parts& parts, const WinnerRecord& winner) {
  Checked checked{winner, {}};
  try {
    const auto entry = parts.library.find(winner.problem.op);
    const auto problem = make_problem(
        entry->manifest, values_from_json(nlohmann::json::parse(winner.problem.problem_key)));
    TuneOptions options = parts.tuning;
    options.cancelled = [] { return interrupted(); };
    checked.check =
        check_winner(parts.tuning_context(), *entry, problem, winner, options, command.rules);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    checked.check.state = WinnerState::fails;
    checked.check.message = error.what();
    return checked;
  }
  if (command.fix && can_be_fixed(checked.check)) {
    parts.store.put_winner(better_winner(winner, checked.check));
    checked.fixed = true;
  }
  return checked;
}

void run_verify(VerifyCommand& command) {
  if (!(command.margin_percent > 0) || !std::isfinite(command.margin_percent))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("--margin {}: expected per cent above 0", command.margin_percent));
  command.rules.margin = command.margin_percent / 100;
  // What it is about has to be there to be read, and with --fix to be written.
  check_database(command.common, command.fix ? Unusable::error_at_first : Unusable::error);
  Runtime runtime(command.common.runtime_options());
  auto& parts = runtime.parts();
  auto winners = parts.store.winners({}, parts.backend->device().kind());
  std::set<std::string> ops;
  for (const auto& winner : winners) ops.insert(winner.problem.op);
  check_operator(command.problem, command.common, ops);
  std::erase_if(winners, [&](const WinnerRecord& winner) {
    // One that ships and is not heeded is none of the user's.
    return !matches(winner.problem, command.problem) ||
           (winner.shipped && !is_current(winner, parts.library));
  });
  catch_interrupt();
  auto json = nlohmann::json::array();
  std::int64_t bad = 0, done = 0;
  for (const auto& winner : winners) {
    if (interrupted()) break;
    Checked checked;
    try {
      checked = check(command, parts, winner);
    } catch (const Error&) {
      if (!interrupted()) throw;
      break;
    }
    ++done;
    if (checked.check.state != WinnerState::wins) ++bad;
    if (command.common.json)
      json.push_back(checked_json(checked));
    else
      print_checked(checked);
  }
  if (command.common.json)
    print_json(json);
  else
    fmt::print("{} of {} winners of {} checked: {} win, {} do not\n", done, winners.size(),
               runtime.device_name(), done - bad, bad);
  if (command.fix) check_remembered(runtime);
  if (interrupted()) {
    fmt::print(stderr, "cudadent-tune: interrupted\n");
    throw Exit{130};
  }
  if (bad > 0) throw Exit{1};
}

}  // namespace

void add_verify(const Command& program) {
  const auto command = program.subcommand(
      "verify", "measure winners again; exit code 1 when one no longer wins or verifies");
  auto state = std::make_shared<VerifyCommand>();
  state->common.add_to(command);
  state->problem.add_to(command, false);
  command
      .option("--challengers", state->rules.challengers,
              "how many of the fastest known trials it is compared with")
      .show_default();
  command.option("--margin", state->margin_percent, "per cent: slower by more is to lose")
      .show_default();
  command.flag("--fix", state->fix, "put the best of those compared in the place of who lost");
  command.run([state] { run_verify(*state); });
}

}  // namespace cudadent::cli
