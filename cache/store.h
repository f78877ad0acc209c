// The database: every trial, every winner, every binary. One SQLite file; docs/cache.md has the
// schema.
#pragma once

#include <cudadent/cudadent.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/configuration_source.h"

namespace cudadent {

// What trials and winners are remembered under. Content, never names alone: a changed template
// changes template_hash and so hides only its own rows.
struct ProblemRecord {
  std::string op;
  std::string tuning_key;   // Problem::tuning_key()
  std::string problem_key;  // Problem::key()
  std::string description;  // Problem::describe(), for people
  std::string device_kind;  // Device::kind()
};

struct TrialRecord {
  ProblemRecord problem;
  std::string template_hash;
  std::string compiler;             // that made the binary
  std::string measurement;          // name and version of the measuring method
  std::string specialization_hash;  // of the binary
  std::vector<KernelResources> resources;
  Trial trial;
  std::string created;  // ISO 8601, UTC; filled in when stored
};

struct WinnerRecord {
  ProblemRecord problem;
  std::string template_hash;
  std::string kernel_template;
  Values configuration;
  double seconds = 0;          // median
  double default_seconds = 0;  // of the default configuration in the same comparison; 0 unknown
  std::string compiler;
  std::string specialization_hash;
  std::string device_name, driver, uuid;  // metadata
  std::string created;
};

// Safe from many threads, and from many processes on one file. Every write is one transaction:
// after a crash or a full disk the file holds what was reported stored, and opens. Throws
// Error(cache_failed) that names the file, what was attempted and what to do.
class Store : public BinaryStore {
 public:
  // Opens or creates; makes the folder (mode 0700) and the file (0600) when missing. ":memory:"
  // keeps everything in memory. A file of an older schema is migrated; of a newer one, or that is
  // not a cudadent database, is refused untouched.
  explicit Store(const std::filesystem::path& file);
  ~Store() override;

  [[nodiscard]] const std::filesystem::path& file() const noexcept;

  // Replaces the trial of the same problem_key, device_kind, template_hash, configuration, compiler
  // and measurement.
  void put_trial(const TrialRecord& record);
  // Trials of one exact problem on one kind of device, oldest first.
  std::vector<TrialRecord> trials(const std::string& op, const std::string& problem_key,
                                  const std::string& device_kind);

  // Replaces the winner of the same op, tuning_key and device_kind.
  void put_winner(const WinnerRecord& record);
  // The winner, whatever template it uses: the caller checks that template_hash is still current.
  std::optional<WinnerRecord> winner(const std::string& op, const std::string& tuning_key,
                                     const std::string& device_kind);
  // All winners; of one op or one kind of device when given.
  std::vector<WinnerRecord> winners(const std::string& op = {},
                                    const std::string& device_kind = {});

  std::optional<Binary> find_binary(const std::string& specialization_hash) override;
  void put_binary(const Binary& binary) override;

  struct Counts {
    std::int64_t trials = 0, winners = 0, binaries = 0, binary_bytes = 0;
  };
  Counts counts();

 private:
  struct Database;
  std::unique_ptr<Database> database_;
};

}  // namespace cudadent
