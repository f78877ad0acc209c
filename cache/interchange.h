// Databases as a whole: what is in one, taking over what is in another, making one smaller. Each function
// opens the file by itself and changes it in one transaction: it is done, or nothing is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cache/store.h"

namespace cudadent {

// Everything but binaries, which only a compiler of the same kind could use.
struct Contents {
  std::vector<WinnerRecord> winners;
  std::vector<TrialRecord> trials;
  std::vector<RunRecord> runs;
};

// Of one op or one kind of device when given. Reads as open_layer() does: the file is left as it is. Throws
// Error(cache_failed).
Contents read_contents(const std::filesystem::path& file, const std::string& op = {},
                       const std::string& device_kind = {});

// What merging these databases, one after another, into an empty one would make; see merge_contents().
Contents merged_contents(const std::vector<std::filesystem::path>& files,
                         const std::string& op = {}, const std::string& device_kind = {});

struct MergeReport {
  struct Counts {
    std::int64_t added = 0, replaced = 0, kept = 0;  // kept: what was there already stays
  };
  Counts winners, trials, runs, binaries;
};

struct MergeOptions {
  bool dry_run = false;  // count only
  std::filesystem::path
      binaries_from;  // a database whose binaries are taken over, too; empty: none
};

// Takes records over into the database `file`, which is made when missing. Of two winners of one key that
// tuned the same problem with the same template, the faster stays, else the newer; of two trials of one
// configuration the newer; a run or binary that is there stays. Throws Error(cache_failed).
MergeReport merge_contents(const std::filesystem::path& file, const Contents& contents,
                           const MergeOptions& options = {});

struct PruneRules {
  std::string
      before;  // ISO 8601, UTC: what was stored earlier goes, except winners; empty: any age
  bool old_winners = false;  // `before` concerns winners, too
  std::string device_kind;   // everything of it goes; empty: of none
  bool failed_trials = false;
  bool unused_binaries = false;  // of no winner
  // Of these operators, trials and winners of other template hashes go.
  std::map<std::string, std::set<std::string>> current_templates;
};

struct PruneReport {
  std::int64_t winners = 0, trials = 0, runs = 0, binaries = 0;  // rows
  std::int64_t bytes = 0;  // that the file gets smaller by, or will have free for what comes next
  bool compacted = false;  // false in a dry run, and where another process kept the file busy
};

PruneReport prune_database(const std::filesystem::path& file, const PruneRules& rules,
                           bool dry_run = false);

}  // namespace cudadent
