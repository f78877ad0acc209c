#include "cli/selection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/language/value.h"

namespace cudadent::cli {

std::filesystem::path database_of(const CommonOptions& common) {
  if (!common.database.empty()) return common.database;
  const Environment environment = Environment::read();
  if (!environment.why_no_cache.empty())
    throw Error(ErrorCode::cache_failed,
                fmt::format("{}, or name one with --db", environment.why_no_cache));
  return environment.cache;
}

void check_database(const CommonOptions& common, Unusable how) {
  const Store opened(database_of(common), {.when_unusable = how});
}

void check_remembered(Runtime& runtime) {
  if (const auto why = runtime.parts().store.why_incomplete(); !why.empty())
    throw Error(ErrorCode::cache_failed,
                fmt::format("not all of the result is in the database: {}", why));
}

bool matches(const ProblemRecord& problem, const ProblemWords& words) {
  if (!words.op.empty() && problem.op != words.op) return false;
  const Values wanted = words.values();
  const Values values =
      values_from_json(nlohmann::json::parse(problem.problem_key, nullptr, false));
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
    const auto found = values.find(entry.first);
    return found != values.end() && found->second == entry.second;
  });
}

void check_operator(const ProblemWords& words, const CommonOptions& common,
                    const std::set<std::string>& in_database) {
  if (words.op.empty() || in_database.contains(words.op)) return;
  auto known = common.library().operators();
  if (std::find(known.begin(), known.end(), words.op) != known.end()) return;
  known.insert(known.end(), in_database.begin(), in_database.end());
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  throw Error(ErrorCode::invalid_argument,
              fmt::format("no operator \"{}\"; known: {}", words.op, fmt::join(known, ", ")));
}

namespace {

// Each one named, and of a folder all that are called *.db.
std::vector<std::filesystem::path> databases_in(const std::vector<std::string>& places) {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path place : places) {
    if (std::error_code ignored; !std::filesystem::is_directory(place, ignored)) {
      files.push_back(place);
      continue;
    }
    std::set<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(place))
      if (entry.path().extension() == ".db") found.insert(entry.path());
    if (found.empty())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("no database (*.db) in {}", place.string()));
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

}  // namespace

Contents selected_contents(const CommonOptions& common, const ProblemWords& words,
                           const std::string& device_kind, const std::vector<std::string>& from) {
  Contents contents = from.empty() ? read_contents(database_of(common), {}, device_kind)
                                   : merged_contents(databases_in(from), {}, device_kind);
  std::set<std::string> ops;
  for (const auto& record : contents.winners) ops.insert(record.problem.op);
  for (const auto& record : contents.trials) ops.insert(record.problem.op);
  check_operator(words, common, ops);
  const auto other = [&](const auto& record) { return !matches(record.problem, words); };
  std::erase_if(contents.winners, other);
  std::erase_if(contents.trials, other);
  std::erase_if(contents.runs, other);
  return contents;
}

bool is_current(const WinnerRecord& winner, TemplateLibrary& library) {
  const auto known = library.operators();
  if (std::find(known.begin(), known.end(), winner.problem.op) == known.end()) return false;
  const auto kernel = library.find(winner.problem.op)->template_named(winner.kernel_template);
  return kernel != nullptr && kernel->hash == winner.template_hash;
}

}  // namespace cudadent::cli
