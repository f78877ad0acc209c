// Rows of the database as records: for the sources of cache/ alone. Everything
// takes the connection, which the caller has to itself, and leaves transactions
// to the caller.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cache/sqlite.h"
#include "cache/store.h"

namespace cudadent {

// Each replaces the row that Store's function of that name replaces. `created`
// is now, unless given.
void write_trial(sqlite::Connection& connection, TrialRecord record);
void write_winner(sqlite::Connection& connection, WinnerRecord record);
void write_run(sqlite::Connection& connection, const RunRecord& record);
// The image must not be empty.
void write_binary(sqlite::Connection& connection, const Binary& binary);

// Rows that do not read as what was stored are left out. An empty name means
// all.
std::vector<TrialRecord> find_trials(sqlite::Connection& connection, const std::string& op,
                                     const std::string& problem_key,
                                     const std::string& device_kind);  // no name may be empty
std::vector<TrialRecord> all_trials(sqlite::Connection& connection, const std::string& op,
                                    const std::string& device_kind);
std::vector<ProblemRecord> find_problems(sqlite::Connection& connection, const std::string& op,
                                         const std::string& device_kind);
std::optional<WinnerRecord> find_winner(sqlite::Connection& connection, const std::string& op,
                                        const std::string& tuning_key,
                                        const std::string& device_kind);
std::vector<WinnerRecord> all_winners(sqlite::Connection& connection, const std::string& op,
                                      const std::string& device_kind);
std::vector<RunRecord> find_runs(sqlite::Connection& connection, const std::string& op,
                                 const std::string& problem_key, const std::string& device_kind);
std::optional<Binary> find_binary(sqlite::Connection& connection,
                                  const std::string& specialization_hash);

}  // namespace cudadent
