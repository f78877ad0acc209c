#include "cache/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <tuple>
#include <utility>

#include "cache/rows.h"
#include "cache/shipped.h"
#include "cache/sqlite.h"
#include "cache/store_database.h"

namespace cudadent {

struct Store::Layer {
  Layer(const std::filesystem::path& file, std::chrono::milliseconds busy_timeout)
      : database(file, busy_timeout, Database::Role::layer) {}
  Database database;
  std::atomic<bool> failed = false;
};

Store::Store(const std::filesystem::path& file, StoreOptions options)
    : options_(std::move(options)),
      database_(std::make_unique<Database>(file, options_.busy_timeout)) {
  open_layers();
}

Store::~Store() = default;

const std::filesystem::path& Store::file() const noexcept { return database_->file; }

bool Store::read_only() const noexcept { return database_->read_only; }

// -------------------------------------------------------------------------------------
// layers

void Store::open_layers() {
  for (const auto& file : options_.layers) {
    std::error_code ignored;
    if (std::filesystem::equivalent(file, database_->file, ignored)) continue;
    try {
      layers_.push_back(std::make_unique<Layer>(file, options_.busy_timeout));
    } catch (const Error& error) {
      if (options_.log)
        options_.log(LogLevel::warning, fmt::format("a layer is left out: {}", error.what()));
    }
  }
}

void Store::search_layers(std::string_view attempt,
                          const std::function<bool(sqlite::Connection&, const Layer&)>& look) {
  for (const auto& layer : layers_) {
    if (layer->failed) continue;
    try {
      auto [lock, connection] = layer->database.use(attempt);
      if (look(connection, *layer)) return;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cache_failed) throw;
      layer->failed = true;
      if (options_.log)
        options_.log(LogLevel::warning,
                     fmt::format("a layer is left out from now on: {}", error.what()));
    }
  }
}

const ShippedWinners& Store::shipped() {
  std::string why_none;
  {
    const std::lock_guard lock(shipped_read_);
    if (shipped_) return *shipped_;
    try {
      if (options_.shipped) shipped_ = options_.shipped();
    } catch (const Error& error) {
      why_none = error.what();
    }
    if (!shipped_)
      shipped_ = std::make_shared<const ShippedWinners>(std::span<const EmbeddedFile>());
  }
  if (!why_none.empty() && options_.log)
    options_.log(LogLevel::warning,
                 fmt::format("the winners that ship are left out: {}", why_none));
  return *shipped_;
}

// -------------------------------------------------------------------------------------
// trials

void Store::put_trial(const TrialRecord& record) {
  auto [lock, connection] = database_->use_for_writing("store a trial in");
  sqlite::Transaction transaction(connection);
  write_trial(connection, record);
  transaction.commit();
}

std::vector<TrialRecord> Store::trials(const std::string& op, const std::string& problem_key,
                                       const std::string& device_kind) {
  auto [lock, connection] = database_->use("read trials from");
  return find_trials(connection, op, problem_key, device_kind);
}

std::vector<ProblemRecord> Store::problems(const std::string& op, const std::string& device_kind) {
  auto [lock, connection] = database_->use("read problems from");
  return find_problems(connection, op, device_kind);
}

// -------------------------------------------------------------------------------------
// winners

namespace {

auto key_of(const WinnerRecord& record) {
  return std::tie(record.problem.op, record.problem.device_kind, record.problem.tuning_key);
}

}  // namespace

void Store::put_winner(const WinnerRecord& record) {
  auto [lock, connection] = database_->use_for_writing("store a winner in");
  sqlite::Transaction transaction(connection);
  write_winner(connection, record);
  transaction.commit();
}

std::optional<WinnerRecord> Store::winner(const std::string& op, const std::string& tuning_key,
                                          const std::string& device_kind,
                                          const std::function<bool(const WinnerRecord&)>& usable) {
  const auto will_do = [&](const std::optional<WinnerRecord>& record) {
    return record && (!usable || usable(*record));
  };
  std::optional<WinnerRecord> found;
  {
    auto [lock, connection] = database_->use("read a winner from");
    found = find_winner(connection, op, tuning_key, device_kind);
  }
  if (will_do(found)) return found;
  found.reset();
  search_layers("read a winner from", [&](sqlite::Connection& connection, const Layer& layer) {
    auto record = find_winner(connection, op, tuning_key, device_kind);
    if (!will_do(record)) return false;
    record->layer = layer.database.file;
    found = std::move(record);
    return true;
  });
  if (found) return found;
  for (const auto& record : shipped().find(op, tuning_key, device_kind))
    if (will_do(record)) return record;
  return std::nullopt;
}

std::vector<WinnerRecord> Store::winners(const std::string& op, const std::string& device_kind) {
  std::vector<WinnerRecord> records;
  {
    auto [lock, connection] = database_->use("read winners from");
    records = all_winners(connection, op, device_kind);
  }
  search_layers("read winners from", [&](sqlite::Connection& connection, const Layer& layer) {
    for (auto& record : all_winners(connection, op, device_kind)) {
      record.layer = layer.database.file;
      records.push_back(std::move(record));
    }
    return false;
  });
  for (const auto& record : shipped().all())
    if ((op.empty() || record.problem.op == op) &&
        (device_kind.empty() || record.problem.device_kind == device_kind))
      records.push_back(record);
  // Stable: of one key, the first is of the store's own database or the
  // earliest layer.
  std::stable_sort(records.begin(), records.end(),
                   [](const auto& a, const auto& b) { return key_of(a) < key_of(b); });
  records.erase(std::unique(records.begin(), records.end(),
                            [](const auto& a, const auto& b) { return key_of(a) == key_of(b); }),
                records.end());
  return records;
}

// -------------------------------------------------------------------------------------
// runs

void Store::put_run(const RunRecord& record) {
  auto [lock, connection] = database_->use_for_writing("store a tuning run in");
  sqlite::Transaction transaction(connection);
  write_run(connection, record);
  transaction.commit();
}

std::vector<RunRecord> Store::runs(const std::string& op, const std::string& problem_key,
                                   const std::string& device_kind) {
  auto [lock, connection] = database_->use("read tuning runs from");
  return find_runs(connection, op, problem_key, device_kind);
}

// -------------------------------------------------------------------------------------
// binaries

std::optional<Binary> Store::find_binary(const std::string& specialization_hash) {
  std::optional<Binary> found;
  {
    auto [lock, connection] = database_->use("read a binary from");
    found = cudadent::find_binary(connection, specialization_hash);
  }
  if (found) return found;
  search_layers("read a binary from", [&](sqlite::Connection& connection, const Layer&) {
    found = cudadent::find_binary(connection, specialization_hash);
    return found.has_value();
  });
  return found;
}

void Store::put_binary(const Binary& binary) {
  if (binary.image.empty()) {
    throw Error(ErrorCode::invalid_argument, "cannot store the binary of specialization " +
                                                 binary.specialization_hash +
                                                 ": its image is empty");
  }
  auto [lock, connection] = database_->use_for_writing("store a binary in");
  sqlite::Transaction transaction(connection);
  write_binary(connection, binary);
  transaction.commit();
}

// -------------------------------------------------------------------------------------
// counts

Store::Counts Store::counts() {
  auto [lock, connection] = database_->use("count the rows of");
  sqlite::Query row = connection.query(
      "SELECT (SELECT count(*) FROM trials), (SELECT count(*) FROM winners),"
      " (SELECT count(*) FROM binaries), (SELECT ifnull(sum(length(image)), 0) "
      "FROM binaries)");
  row.step();
  return {.trials = row.integer(),
          .winners = row.integer(),
          .binaries = row.integer(),
          .binary_bytes = row.integer()};
}

}  // namespace cudadent
