// export, import, merge and prune: databases in and out, and smaller.
#include "cache/interchange.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "cache/formats/exchange.h"
#include "cache/formats/portable.h"
#include "cache/records.h"
#include "cli/common.h"
#include "cli/output.h"
#include "cli/selection.h"

namespace cudadent::cli {

namespace {

std::string counts_text(const MergeReport::Counts& counts) {
  return fmt::format("{} added, {} replaced, {} kept", counts.added, counts.replaced, counts.kept);
}

nlohmann::json counts_json(const MergeReport::Counts& counts) {
  return {{"added", counts.added}, {"replaced", counts.replaced}, {"kept", counts.kept}};
}

void print_report(const MergeReport& report, bool json, bool dry_run) {
  if (json)
    return print_json({{"dry_run", dry_run},
                       {"winners", counts_json(report.winners)},
                       {"trials", counts_json(report.trials)},
                       {"runs", counts_json(report.runs)},
                       {"binaries", counts_json(report.binaries)}});
  print_table({{"winners", counts_text(report.winners)},
               {"trials", counts_text(report.trials)},
               {"runs", counts_text(report.runs)},
               {"binaries", counts_text(report.binaries)}});
  if (dry_run) fmt::print("nothing was changed: a dry run\n");
}

// ------------------------------------------------------------------------------------- export

struct ExportCommand {
  CommonOptions common;
  ProblemWords problem;
  std::string format = "json";
  std::string output = "-";
  std::string device_kind;
  std::vector<std::string> from;
  bool trials = false, ship = false;
};

std::string in_exchange_format(const std::string& format, const std::vector<TrialRecord>& trials) {
  return (format == "t4" ? to_t4(trials).dump(1) : to_kernel_tuner(trials).dump(0)) + "\n";
}

// These formats hold one problem; several go to a folder, a file each.
void export_spaces(const ExportCommand& command, const Contents& contents) {
  std::map<std::pair<std::string, std::string>, std::vector<TrialRecord>> spaces;
  for (const auto& trial : contents.trials)
    spaces[{trial.problem.device_kind, trial.problem.description}].push_back(trial);
  if (spaces.empty())
    throw Error(ErrorCode::invalid_argument, "no trials of such a problem are in the database");
  const bool to_folder = command.output.ends_with('/');
  if (spaces.size() > 1 && !to_folder)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("a {} file holds one problem, and there are {}: name one, or give a "
                            "folder for a file each (--output folder/)",
                            command.format, spaces.size()));
  if (!to_folder) {
    const std::string text = in_exchange_format(command.format, spaces.begin()->second);
    return command.output == "-" ? fmt::print("{}", text) : write_file(command.output, text);
  }
  std::filesystem::create_directories(command.output);
  for (const auto& [key, trials] : spaces) {
    std::string name = key.second + " " + key.first;
    std::replace_if(
        name.begin(), name.end(),
        [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-'; }, '_');
    write_file(
        std::filesystem::path(command.output) / fmt::format("{}.{}.json", name, command.format),
        in_exchange_format(command.format, trials));
  }
}

// Leaves what a file of cache/shipped/ needs: winners that templates of today can use, without what tells the
// very machine, or concerns binaries. How many winners were of templates that have changed since.
std::size_t make_shippable(Contents& contents, const CommonOptions& common) {
  contents.trials.clear();
  contents.runs.clear();
  TemplateLibrary library = common.library();
  const std::size_t outdated = std::erase_if(
      contents.winners, [&](const WinnerRecord& winner) { return !is_current(winner, library); });
  if (contents.winners.empty())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is nothing to ship: no winner{}",
                            outdated == 0 ? " is in the database"
                                          : fmt::format(" of a template as it is now; those of {} "
                                                        "problems are of older ones",
                                                        outdated)));
  for (auto& winner : contents.winners) {
    winner.uuid.clear();
    winner.specialization_hash.clear();
  }
  return outdated;
}

void run_export(const ExportCommand& command) {
  Contents contents =
      selected_contents(command.common, command.problem, command.device_kind, command.from);
  const std::size_t outdated = command.ship ? make_shippable(contents, command.common) : 0;
  if (outdated > 0)
    fmt::print(stderr, "warning: {} winners are left out: their templates have changed since\n",
               outdated);
  if (command.format != "json") {
    export_spaces(command, contents);
  } else {
    if (!command.trials) {
      contents.trials.clear();
      contents.runs.clear();
    }
    const std::string text = to_portable(contents).dump(1) + "\n";
    if (command.output == "-") return fmt::print("{}", text);
    write_file(command.output, text);
  }
  if (command.output == "-") return;
  if (command.common.json)
    print_json({{"output", command.output},
                {"winners", contents.winners.size()},
                {"trials", contents.trials.size()}});
  else
    fmt::print("{}: {} winners, {} trials\n", command.output, contents.winners.size(),
               contents.trials.size());
}

// ------------------------------------------------------------------------------------- import

struct ImportCommand {
  CommonOptions common;
  std::string file, op, device_kind;
  bool dry_run = false;
};

void run_import(const ImportCommand& command) {
  const auto json = parse_exchange(read_exchange_text(command.file), command.file);
  const bool foreign = is_t4(json) || is_kernel_tuner(json);
  const Contents contents =
      foreign ? from_exchange(json, {command.op, command.device_kind, command.file})
              : from_portable(json, command.file);
  const auto report = merge_contents(database_of(command.common), contents,
                                     {.dry_run = command.dry_run, .binaries_from = {}});
  print_report(report, command.common.json, command.dry_run);
}

// ------------------------------------------------------------------------------------- merge

struct MergeCommand {
  CommonOptions common;
  std::vector<std::string> others;
  bool binaries = false, dry_run = false;
};

void run_merge(const MergeCommand& command) {
  const auto own = database_of(command.common);
  for (const auto& other : command.others) {
    const auto report =
        merge_contents(own, read_contents(other),
                       {.dry_run = command.dry_run,
                        .binaries_from = command.binaries ? std::filesystem::path(other)
                                                          : std::filesystem::path()});
    if (!command.common.json && command.others.size() > 1) fmt::print("{}\n", other);
    print_report(report, command.common.json, command.dry_run);
  }
}

// ------------------------------------------------------------------------------------- prune

struct PruneCommand {
  CommonOptions common;
  std::string older_than;
  std::string device_kind;
  bool winners = false, templates = false, failed = false, binaries = false, dry_run = false;
};

// "90d" or "12h" ago, as the database writes it.
std::string moment_before(const std::string& age) {
  double number = 0;
  const char* end = age.data() + age.size();
  const auto [rest, error] = std::from_chars(age.data(), end, number);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  const double hours = unit == "d" ? number * 24 : unit == "h" ? number : -1;
  if (error != std::errc{} || !(hours >= 0) || hours > 24.0 * 36500)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("an age of \"{}\" is not like 90d or 12h", age));
  const auto ago = std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::duration<double, std::ratio<3600>>(hours));
  return utc_time(std::chrono::system_clock::now() - ago);
}

std::map<std::string, std::set<std::string>> current_templates(const CommonOptions& common) {
  TemplateLibrary library = common.library();
  std::map<std::string, std::set<std::string>> hashes;
  for (const auto& op : library.operators())
    for (const auto& kernel : library.find(op)->templates) hashes[op].insert(kernel->hash);
  return hashes;
}

void run_prune(const PruneCommand& command) {
  PruneRules rules;
  if (!command.older_than.empty()) rules.before = moment_before(command.older_than);
  rules.old_winners = command.winners;
  rules.device_kind = command.device_kind;
  rules.failed_trials = command.failed;
  rules.unused_binaries = command.binaries;
  if (command.templates) rules.current_templates = current_templates(command.common);
  if (rules.before.empty() && rules.device_kind.empty() && !command.failed && !command.binaries &&
      !command.templates)
    throw Error(ErrorCode::invalid_argument,
                "nothing to prune by: give --older-than, --outdated, --device-kind, --failed or "
                "--binaries");
  const auto file = database_of(command.common);
  if (std::error_code ignored; !std::filesystem::exists(file, ignored))
    throw Error(ErrorCode::invalid_argument, fmt::format("no database {}", file.string()));
  const PruneReport report = prune_database(file, rules, command.dry_run);
  if (command.common.json)
    return print_json({{"dry_run", command.dry_run},
                       {"winners", report.winners},
                       {"trials", report.trials},
                       {"runs", report.runs},
                       {"binaries", report.binaries},
                       {"bytes", report.bytes},
                       {"compacted", report.compacted}});
  fmt::print("{}{} winners, {} trials, {} runs, {} binaries: {}{}\n",
             command.dry_run ? "would go: " : "gone: ", report.winners, report.trials, report.runs,
             report.binaries, byte_text(report.bytes),
             command.dry_run || report.compacted
                 ? ""
                 : " free for what comes next (the file is in use and keeps its size)");
}

void add_export(const Command& program) {
  const auto command = program.subcommand("export", "write winners and trials to a file");
  auto state = std::make_shared<ExportCommand>();
  state->common.add_to(command);
  state->problem.add_to(command, false);
  command
      .option("--format", state->format,
              "json (to import again), t4 or kernel_tuner (trials of one problem)")
      .one_of({"json", "t4", "kernel_tuner"})
      .show_default();
  command.flag("--trials", state->trials, "with every trial, not only winners");
  command
      .flag("--ship", state->ship,
            "as cache/shipped/ holds winners: of templates as they are now, nothing else")
      .excludes("--trials")
      .excludes("--format");
  command
      .option("--from", state->from,
              "a database, or a folder of them, to take together in the place of --db; may "
              "be repeated")
      .one_value_at_a_time()
      .excludes("--db");
  command.option("--device-kind", state->device_kind, "of this kind only, as show names it");
  command.option("-o,--output", state->output, "a file, or a folder with / at its end")
      .show_default();
  command.run([state] { run_export(*state); });
}

void add_import(const Command& program) {
  const auto command =
      program.subcommand("import", "take over an export, T4 results or a Kernel Tuner cache file");
  auto state = std::make_shared<ImportCommand>();
  state->common.add_to(command);
  command.option("file", state->file, "what to import").required();
  command.option("--op", state->op, "T4, Kernel Tuner: the name to keep it under");
  command.option("--device-kind", state->device_kind, "T4, Kernel Tuner: where it was measured");
  command.flag("--dry-run", state->dry_run, "only say what would change");
  command.run([state] { run_import(*state); });
}

void add_merge(const Command& program) {
  const auto command = program.subcommand("merge", "take over what other databases know");
  auto state = std::make_shared<MergeCommand>();
  state->common.add_to(command);
  command.option("others", state->others, "database files, which are only read").required();
  command.flag("--binaries", state->binaries, "compiled kernels, too");
  command.flag("--dry-run", state->dry_run, "only say what would change");
  command.run([state] { run_merge(*state); });
}

void add_prune(const Command& program) {
  const auto command = program.subcommand("prune", "make the database smaller");
  auto state = std::make_shared<PruneCommand>();
  state->common.add_to(command);
  command.option("--older-than", state->older_than,
                 "trials, runs and binaries stored longer ago: 90d, 12h");
  command.flag("--winners", state->winners, "with --older-than: winners, too")
      .needs("--older-than");
  command.flag("--outdated", state->templates,
               "trials and winners of templates that have changed since");
  command.option("--device-kind", state->device_kind, "everything of a kind of device");
  command.flag("--failed", state->failed, "trials that failed");
  command.flag("--binaries", state->binaries, "compiled kernels that no winner uses");
  command.flag("--dry-run", state->dry_run, "only say what would go");
  command.run([state] { run_prune(*state); });
}

}  // namespace

void add_interchange(const Command& program) {
  add_export(program);
  add_import(program);
  add_merge(program);
  add_prune(program);
}

}  // namespace cudadent::cli
