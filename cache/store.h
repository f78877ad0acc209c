// The database: every trial, every winner, every binary. One SQLite file; docs/cache.md has the
// schema.
#pragma once

#include <cudadent/cudadent.h>

#include <atomic>
#include <chrono>
#include <compare>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache/claim.h"
#include "runtime/backends/backend.h"
#include "runtime/base/fork.h"
#include "runtime/launch/configuration_source.h"

namespace cudadent {

namespace sqlite {
class Connection;
}

// What trials and winners are remembered under. Content, never names alone: a changed template
// changes template_hash and so hides only its own rows.
struct ProblemRecord {
  std::string op;
  std::string tuning_key;   // Problem::tuning_key()
  std::string problem_key;  // Problem::key()
  std::string description;  // Problem::describe(), for people
  std::string device_kind;  // Device::kind()

  auto operator<=>(const ProblemRecord&) const = default;
};

struct TrialRecord {
  ProblemRecord problem;
  std::string template_hash;
  std::string compiler;             // that made the binary
  std::string measurement;          // name and version of the measuring method
  std::string specialization_hash;  // of the binary
  std::vector<KernelResources> resources;
  Trial trial;
  std::string created;  // ISO 8601, UTC, milliseconds; when stored, unless given
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
  std::string objective = "seconds";      // what it has least of, as TuneOptions has it
  std::string device_name, driver, uuid;  // metadata
  std::string created;                    // as in TrialRecord
  std::filesystem::path layer;            // it was found in; empty for the user's own database
  bool shipped = false;                   // `layer` is a file of those that ship with cudadent
};

class ShippedWinners;

// What a store does where its file cannot be opened, read or written.
enum class Unusable : std::uint8_t {
  error,  // throw Error(cache_failed), each time
  // Say so in a warning, once, and go on without the file: it is as if it had nothing in it, and what is put is
  // kept in memory, where it is found as long as the store lives. The file is tried again from time to time.
  warning,
  error_at_first,  // an error when it cannot be opened and written at the start, later a warning
};

struct StoreOptions {
  Unusable when_unusable = Unusable::error;
  // How long to wait for another process's lock.
  std::chrono::milliseconds busy_timeout = std::chrono::seconds(10);
  // How long a file that failed is left alone, where the store goes on without it.
  std::chrono::milliseconds rest = std::chrono::seconds(30);
  // Databases that are only read, for the winners and binaries that the store's own does not have, in this
  // order. Nothing is written to them or beside them. One that is missing or damaged is a warning, and is
  // left out; the store's own among them is passed over.
  std::vector<std::filesystem::path> layers;
  // Winners below all layers (cache/shipped.h), asked for once, when nothing above them has a winner; empty:
  // none. An Error of it is a warning, and stands for none.
  std::function<std::shared_ptr<const ShippedWinners>()> shipped;
  std::function<void(LogLevel, std::string_view)> log;  // may be empty
};

// A tuning run that came to an end: how it went, and where.
struct RunRecord : TuneSeconds {
  ProblemRecord problem;
  std::string started;  // ISO 8601, UTC, milliseconds
  std::string machine;  // the host's name
  std::string version;  // of cudadent
  std::string device_name, driver, uuid;
  Values device_facts;  // Device::facts()
  std::string compiler, measurement;
  std::string strategy;
  std::string objective = "seconds";  // as TuneOptions has it
  std::uint64_t seed = 0;
  std::string stopped_by;        // as TuneResult has it
  std::uint64_t candidates = 0;  // size of the tuning space
  std::int64_t measured = 0;     // trials of this run, of which
  std::int64_t failed = 0;       // have another status than ok
  std::int64_t recalled = 0;     // trials of earlier runs it started from
  bool isolated = false;         // candidates ran in a worker process
  std::int64_t worker_restarts = 0;
  double flops = 0, bytes = 0;  // of the problem; 0 when the manifest does not say
  double elapsed = 0;           // seconds
};

// Safe from many threads, and from many processes on one file; in the child of a fork() it opens the
// file anew. Every write is one transaction: after a crash of the process
// or on a full disk the file holds what was reported stored, and opens; a power failure may cost the
// last writes before it. A row that does not read as what was stored is as if it were not there.
// Throws Error(cache_failed) that names the file, what was attempted and what to do, unless
// StoreOptions::when_unusable says to go on.
class Store : public BinaryStore {
 public:
  // Opens or creates; makes the folder (mode 0700) and the file (0600) when missing. ":memory:" keeps
  // everything in memory. A file of an older schema is migrated; of a newer one, or that is not a
  // cudadent database, is refused untouched. A file that can be read but not written opens, and every
  // put raises cache_failed.
  explicit Store(const std::filesystem::path& file, StoreOptions options = {});
  ~Store() override;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Absolute, or ":memory:".
  [[nodiscard]] const std::filesystem::path& file() const noexcept;
  // True when the file or its folder could not be written as it was opened.
  [[nodiscard]] bool read_only() const noexcept;
  // Why something that was put is in memory only (see Unusable::warning); empty when all of it is in the file.
  [[nodiscard]] std::string why_incomplete() const;

  // Replaces the trial of the same op, problem_key, device_kind, template_hash, configuration, compiler
  // and measurement. from_cache is not stored: trials() sets it.
  void put_trial(const TrialRecord& record);
  // Trials of one exact problem on one kind of device, oldest first.
  std::vector<TrialRecord> trials(const std::string& op, const std::string& problem_key,
                                  const std::string& device_kind);
  // Every problem that has trials; of one op or one kind of device when given.
  std::vector<ProblemRecord> problems(const std::string& op = {},
                                      const std::string& device_kind = {});

  // Replaces the winner of the same op, tuning_key and device_kind.
  void put_winner(const WinnerRecord& record);
  // The winner, whatever template it uses: the caller checks that template_hash is still current, or has
  // it checked by `usable`, so that a winner out of date does not hide a good one in a layer.
  std::optional<WinnerRecord> winner(const std::string& op, const std::string& tuning_key,
                                     const std::string& device_kind,
                                     const std::function<bool(const WinnerRecord&)>& usable = {});
  // All winners; of one op or one kind of device when given. One a tuning key: the store's own before
  // those of layers, in their order, and those that ship.
  std::vector<WinnerRecord> winners(const std::string& op = {},
                                    const std::string& device_kind = {});

  // Replaces the run of the same problem that began at the same moment on the same machine.
  void put_run(const RunRecord& record);
  // Runs, oldest first: of one exact problem on one kind of device, or of all where a name is empty.
  std::vector<RunRecord> runs(const std::string& op = {}, const std::string& problem_key = {},
                              const std::string& device_kind = {});

  // Checks the image against its checksum: a damaged one counts as missing.
  std::optional<Binary> find_binary(const std::string& specialization_hash) override;
  // Replaces the binary of the same specialization and compiler, and removes damaged ones of this
  // specialization. An empty image is an Error(invalid_argument).
  void put_binary(const Binary& binary) override;

  // Claims the tuning of a problem's key on its kind of device; null while another claim on it lives, of
  // whichever process or thread. Look for a winner again once you have it: whoever held it last may have
  // stored one. Where the database cannot be written there is nobody to wait for: the claim is granted
  // and recorded nowhere.
  std::unique_ptr<Claim> claim(const ProblemRecord& problem);
  // Who holds it; nothing when it could be claimed now.
  std::optional<ClaimHolder> claimed_by(const ProblemRecord& problem);

  struct Counts {
    std::int64_t trials = 0, winners = 0, binaries = 0, binary_bytes = 0;
  };
  // Of the file.
  Counts counts();

 private:
  friend class Claim;
  bool renew_claim(const std::string& token);
  void end_claim(const std::string& token);

  using Clock = std::chrono::steady_clock;
  struct Database;
  struct Layer;
  // When the file, having failed, may be tried again: a lock costs its time-out each time.
  class Rest {
   public:
    [[nodiscard]] bool is_over() const noexcept {
      return Clock::now().time_since_epoch() >= until_.load();
    }
    void begin(std::chrono::milliseconds duration) noexcept {
      until_ = Clock::now().time_since_epoch() + duration;
    }

   private:
    std::atomic<Clock::duration> until_ = Clock::duration::min();
  };

  void open_file();
  void open_layers();
  // Does something with the file. False where that failed, or would soon after it failed, and the options say to
  // go on.
  bool try_file(Rest& rest, const std::function<void()>& work);
  void go_on_after(Rest& rest, const Error& error);
  // What the file did not take; made when it is first asked for.
  Database& memory();
  // Writes into the file, or where that fails into memory, in one transaction.
  void put(std::string_view attempt, const std::function<void(sqlite::Connection&)>& write);
  // Reads what was put in memory, if anything was, then the file, until `look` says true.
  void search_own(std::string_view attempt, const std::function<bool(sqlite::Connection&)>& look);
  // Does something with each layer in turn until it says true; one that fails is left out from then on.
  void search_layers(std::string_view attempt,
                     const std::function<bool(sqlite::Connection&, const Layer&)>& look);
  const ShippedWinners& shipped();

  const StoreOptions options_;
  std::unique_ptr<Database> database_;  // the file
  Rest reading_, writing_;
  mutable ForkSafeMutex memory_mutex_;  // for making it, and for the reasons
  std::unique_ptr<Database> memory_owner_;
  std::atomic<Database*> memory_ = nullptr;
  std::atomic<bool> has_warned_ = false;
  std::string why_not_the_file_, why_incomplete_;
  std::vector<std::unique_ptr<Layer>> layers_;
  ForkSafeMutex shipped_read_;
  std::shared_ptr<const ShippedWinners> shipped_;
};

}  // namespace cudadent
