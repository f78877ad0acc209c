// The records a command is about: of an operator and of problems with certain values, on the command line.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cache/interchange.h"
#include "cli/common.h"

namespace cudadent::cli {

// --db, else the user's own. Throws Error(cache_failed) where there is no place for that.
std::filesystem::path database_of(const CommonOptions& common);

// For commands whose result is what the database has. The one throws Error(cache_failed) when it cannot be opened and,
// unless `how` is Unusable::error, written; the other when it could not take all of what was found out.
void check_database(const CommonOptions& common, Unusable how = Unusable::error_at_first);
void check_remembered(Runtime& runtime);

// Whether a problem has every value given, and is of the operator given, if any.
bool matches(const ProblemRecord& problem, const ProblemWords& words);

// Throws Error(invalid_argument) that lists the operators when the one given is neither in the database nor
// among the templates.
void check_operator(const ProblemWords& words, const CommonOptions& common,
                    const std::set<std::string>& in_database);

// What the database holds of the problems given; or, where `from` names databases and folders of them (*.db),
// all of those together.
Contents selected_contents(const CommonOptions& common, const ProblemWords& words,
                           const std::string& device_kind = {},
                           const std::vector<std::string>& from = {});

// Whether the library has the template as it was when the winner was found.
bool is_current(const WinnerRecord& winner, TemplateLibrary& library);

}  // namespace cudadent::cli
