#include "cache/interchange.h"

#include <chrono>
#include <utility>

#include "cache/database_file.h"
#include "cache/records.h"
#include "cache/rows.h"
#include "cache/sqlite.h"

namespace cudadent {

namespace {

constexpr auto busy_timeout = std::chrono::seconds(10);

std::filesystem::path full_path(const std::filesystem::path& file) {
  return std::filesystem::absolute(file).lexically_normal();
}

sqlite::Connection open_for_change(const std::filesystem::path& file, std::string_view attempt) {
  sqlite::Connection connection = open_database(full_path(file), busy_timeout);
  connection.attempt(attempt);
  if (connection.read_only())
    connection.fail("it or its folder cannot be written",
                    "Make both writable, or name another file");
  return connection;
}

bool has_runs(sqlite::Connection& connection) {
  return connection.query_integer(
             "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'runs'") > 0;
}

// ------------------------------------------------------------------------------------- merging

// "add" where there is none, "replace" where the new one is better.
enum class Verdict : std::uint8_t { add, replace, keep };

void count(MergeReport::Counts& counts, Verdict verdict) {
  switch (verdict) {
    case Verdict::add:
      ++counts.added;
      break;
    case Verdict::replace:
      ++counts.replaced;
      break;
    case Verdict::keep:
      ++counts.kept;
      break;
  }
}

Verdict compare(const WinnerRecord& ours, const WinnerRecord& theirs) {
  const bool same_measure = ours.problem.problem_key == theirs.problem.problem_key &&
                            ours.template_hash == theirs.template_hash &&
                            ours.objective == theirs.objective;
  const bool better = same_measure && ours.seconds != theirs.seconds
                          ? theirs.seconds < ours.seconds
                          : theirs.created > ours.created;
  return better ? Verdict::replace : Verdict::keep;
}

void merge_winner(sqlite::Connection& connection, const WinnerRecord& theirs, MergeReport& report) {
  const ProblemRecord& problem = theirs.problem;
  const auto ours = find_winner(connection, problem.op, problem.tuning_key, problem.device_kind);
  const Verdict verdict = ours ? compare(*ours, theirs) : Verdict::add;
  if (verdict != Verdict::keep) write_winner(connection, theirs);
  count(report.winners, verdict);
}

void merge_trial(sqlite::Connection& connection, const TrialRecord& theirs, MergeReport& report) {
  Verdict verdict = Verdict::add;
  {
    sqlite::Query row = connection.query(
        "SELECT created FROM problems JOIN trials ON trials.problem = problems.id"
        " WHERE op = ? AND problem_key = ? AND device_kind = ? AND template_hash = ?"
        " AND configuration = ? AND compiler = ? AND measurement = ?");
    row.bind(theirs.problem.op, theirs.problem.problem_key, theirs.problem.device_kind,
             theirs.template_hash, encode_configuration(theirs.trial.configuration),
             theirs.compiler, theirs.measurement);
    if (row.step()) verdict = theirs.created > row.text() ? Verdict::replace : Verdict::keep;
  }
  if (verdict != Verdict::keep) write_trial(connection, theirs);
  count(report.trials, verdict);
}

void merge_run(sqlite::Connection& connection, const RunRecord& theirs, MergeReport& report) {
  Verdict verdict = Verdict::add;
  {
    sqlite::Query row = connection.query(
        "SELECT 1 FROM problems JOIN runs ON runs.problem = problems.id"
        " WHERE op = ? AND problem_key = ? AND device_kind = ? AND started = ? AND machine = ?");
    row.bind(theirs.problem.op, theirs.problem.problem_key, theirs.problem.device_kind,
             theirs.started, theirs.machine);
    if (row.step()) verdict = Verdict::keep;
  }
  if (verdict == Verdict::add) write_run(connection, theirs);
  count(report.runs, verdict);
}

// One at a time: together they may be larger than the memory.
void merge_binaries(sqlite::Connection& connection, const std::filesystem::path& file,
                    MergeReport& report) {
  sqlite::Connection other = open_layer(full_path(file), busy_timeout);
  other.attempt("read binaries from");
  sqlite::Query names = other.query("SELECT DISTINCT specialization_hash FROM binaries");
  while (names.step()) {
    const std::string specialization = names.text();
    Verdict verdict = Verdict::keep;
    if (!find_binary(connection, specialization))
      if (const auto binary = find_binary(other, specialization)) {
        write_binary(connection, *binary);
        verdict = Verdict::add;
      }
    count(report.binaries, verdict);
  }
}

// ------------------------------------------------------------------------------------- pruning

std::int64_t run_counted(sqlite::Connection& connection, sqlite::Query& query) {
  query.run();
  return connection.query_integer("SELECT changes()");
}

template <class... Arguments>
std::int64_t delete_rows(sqlite::Connection& connection, std::string_view sql,
                         const Arguments&... arguments) {
  sqlite::Query query = connection.query(sql);
  query.bind(arguments...);
  return run_counted(connection, query);
}

void prune_by_age(sqlite::Connection& connection, const PruneRules& rules, PruneReport& report) {
  if (rules.before.empty()) return;
  report.trials += delete_rows(connection, "DELETE FROM trials WHERE created < ?", rules.before);
  report.runs += delete_rows(connection, "DELETE FROM runs WHERE started < ?", rules.before);
  report.binaries +=
      delete_rows(connection, "DELETE FROM binaries WHERE created < ?", rules.before);
  if (rules.old_winners)
    report.winners +=
        delete_rows(connection, "DELETE FROM winners WHERE created < ?", rules.before);
}

void prune_device(sqlite::Connection& connection, const std::string& kind, PruneReport& report) {
  if (kind.empty()) return;
  report.trials += delete_rows(connection,
                               "DELETE FROM trials WHERE problem IN"
                               " (SELECT id FROM problems WHERE device_kind = ?)",
                               kind);
  report.runs += delete_rows(
      connection,
      "DELETE FROM runs WHERE problem IN (SELECT id FROM problems WHERE device_kind = ?)", kind);
  report.winners += delete_rows(connection, "DELETE FROM winners WHERE device_kind = ?", kind);
}

void prune_templates(sqlite::Connection& connection, const PruneRules& rules, PruneReport& report) {
  for (const auto& [op, hashes] : rules.current_templates) {
    std::set<std::string> outdated;
    {
      sqlite::Query rows = connection.query(
          "SELECT DISTINCT template_hash FROM problems JOIN trials ON trials.problem = problems.id"
          " WHERE op = ?1 UNION SELECT template_hash FROM winners WHERE op = ?1");
      rows.bind(op);
      while (rows.step())
        if (std::string hash = rows.text(); !hashes.contains(hash))
          outdated.insert(std::move(hash));
    }
    for (const auto& hash : outdated) {
      report.trials += delete_rows(connection,
                                   "DELETE FROM trials WHERE template_hash = ? AND problem IN"
                                   " (SELECT id FROM problems WHERE op = ?)",
                                   hash, op);
      report.winners += delete_rows(
          connection, "DELETE FROM winners WHERE template_hash = ? AND op = ?", hash, op);
    }
  }
}

std::int64_t free_bytes(sqlite::Connection& connection) {
  return connection.query_integer("PRAGMA freelist_count") *
         connection.query_integer("PRAGMA page_size");
}

void merge(sqlite::Connection& connection, const Contents& contents, MergeReport& report) {
  for (const auto& winner : contents.winners) merge_winner(connection, winner, report);
  for (const auto& trial : contents.trials) merge_trial(connection, trial, report);
  for (const auto& run : contents.runs) merge_run(connection, run, report);
}

Contents all_contents(sqlite::Connection& connection, const std::string& op,
                      const std::string& device_kind) {
  Contents contents{
      all_winners(connection, op, device_kind), all_trials(connection, op, device_kind), {}};
  if (has_runs(connection)) contents.runs = find_runs(connection, op, "", device_kind);
  return contents;
}

bool compact(sqlite::Connection& connection) {
  try {
    connection.execute("VACUUM");
    connection.query_integer("PRAGMA wal_checkpoint(TRUNCATE)");
    return true;
  } catch (const Error&) {
    return false;  // in use: the room is taken by what comes next
  }
}

}  // namespace

Contents read_contents(const std::filesystem::path& file, const std::string& op,
                       const std::string& device_kind) {
  sqlite::Connection connection = open_layer(full_path(file), busy_timeout);
  connection.attempt("read");
  const sqlite::Transaction one_moment(connection, sqlite::Transaction::Kind::read);
  return all_contents(connection, op, device_kind);
}

Contents merged_contents(const std::vector<std::filesystem::path>& files, const std::string& op,
                         const std::string& device_kind) {
  sqlite::Connection connection = open_database(":memory:", busy_timeout);
  connection.attempt("merge in memory");
  sqlite::Transaction transaction(connection);
  MergeReport report;
  for (const auto& file : files) merge(connection, read_contents(file, op, device_kind), report);
  return all_contents(connection, op, device_kind);
}

MergeReport merge_contents(const std::filesystem::path& file, const Contents& contents,
                           const MergeOptions& options) {
  sqlite::Connection connection = open_for_change(file, "merge into");
  sqlite::Transaction transaction(connection);
  MergeReport report;
  merge(connection, contents, report);
  if (!options.binaries_from.empty()) merge_binaries(connection, options.binaries_from, report);
  if (!options.dry_run) transaction.commit();
  return report;
}

PruneReport prune_database(const std::filesystem::path& file, const PruneRules& rules,
                           bool dry_run) {
  sqlite::Connection connection = open_for_change(file, "prune");
  PruneReport report;
  const std::int64_t free_before = free_bytes(connection);
  {
    sqlite::Transaction transaction(connection);
    prune_by_age(connection, rules, report);
    prune_device(connection, rules.device_kind, report);
    prune_templates(connection, rules, report);
    if (rules.failed_trials)
      report.trials += delete_rows(connection, "DELETE FROM trials WHERE status <> 'ok'");
    if (rules.unused_binaries)
      report.binaries += delete_rows(connection,
                                     "DELETE FROM binaries WHERE specialization_hash NOT IN"
                                     " (SELECT specialization_hash FROM winners)");
    delete_rows(connection,
                "DELETE FROM problems WHERE id NOT IN (SELECT problem FROM trials)"
                " AND id NOT IN (SELECT problem FROM runs)");
    report.bytes = free_bytes(connection) - free_before;
    if (!dry_run) transaction.commit();
  }
  if (!dry_run) report.compacted = compact(connection);
  return report;
}

}  // namespace cudadent
