#include "cache/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "cache/records.h"
#include "cache/rows.h"
#include "cache/shipped.h"
#include "cache/sqlite.h"
#include "cache/store_database.h"

namespace cudadent {

struct Store::Layer {
  Layer(const std::filesystem::path& file, std::chrono::milliseconds busy_timeout)
      : database(file, busy_timeout, Database::Role::layer) {
    database.use("open");
  }
  Database database;
  std::atomic<bool> failed = false;
};

Store::Store(const std::filesystem::path& file, StoreOptions options)
    : options_(std::move(options)),
      database_(std::make_unique<Database>(file, options_.busy_timeout)) {
  open_file();
  open_layers();
}

Store::~Store() = default;

const std::filesystem::path& Store::file() const noexcept { return database_->file; }

bool Store::read_only() const noexcept { return database_->read_only; }

std::string Store::why_incomplete() const {
  const std::lock_guard lock(memory_mutex_);
  return why_incomplete_;
}

// -------------------------------------------------------------------------------------
// the file, and going on without it

void Store::open_file() {
  switch (options_.when_unusable) {
    case Unusable::error:
      database_->use("open");
      break;
    case Unusable::error_at_first:
      database_->use_for_writing("write to");
      break;
    case Unusable::warning:
      if (!try_file(reading_, [&] { database_->use("open"); })) writing_.begin(options_.rest);
      break;
  }
}

bool Store::try_file(Rest& rest, const std::function<void()>& work) {
  if (options_.when_unusable == Unusable::error) {
    work();
    return true;
  }
  if (!rest.is_over()) return false;
  try {
    work();
    return true;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cache_failed) throw;
    go_on_after(rest, error);
    return false;
  }
}

void Store::go_on_after(Rest& rest, const Error& error) {
  rest.begin(options_.rest);
  {
    const std::lock_guard lock(memory_mutex_);
    why_not_the_file_ = error.what();
  }
  if (has_warned_.exchange(true) || !options_.log) return;
  options_.log(LogLevel::warning,
               fmt::format("{} Going on without it: what is found out now is kept in memory, and "
                           "gone when this process ends.",
                           error.what()));
}

Store::Database& Store::memory() {
  const std::lock_guard lock(memory_mutex_);
  if (!memory_owner_) {
    memory_owner_ = std::make_unique<Database>(":memory:", options_.busy_timeout);
    memory_ = memory_owner_.get();
  }
  return *memory_owner_;
}

void Store::put(std::string_view attempt, const std::function<void(sqlite::Connection&)>& write) {
  const auto write_to = [&](Database& database) {
    auto [lock, connection] = database.use_for_writing(attempt);
    sqlite::Transaction transaction(connection);
    write(connection);
    transaction.commit();
  };
  const bool written = reading_.is_over() && try_file(writing_, [&] { write_to(*database_); });
  // What is there hides what the file has, so it must not stay behind.
  if (written && memory_ == nullptr) return;
  write_to(memory());
  if (written) return;
  const std::lock_guard lock(memory_mutex_);
  why_incomplete_ = why_not_the_file_;
}

void Store::search_own(std::string_view attempt,
                       const std::function<bool(sqlite::Connection&)>& look) {
  if (Database* const memory = memory_) {
    auto [lock, connection] = memory->use(attempt);
    if (look(connection)) return;
  }
  try_file(reading_, [&] {
    auto [lock, connection] = database_->use(attempt);
    look(connection);
  });
}

namespace {

// Of records that are there twice, the first.
template <class Record, class Key>
void keep_first(std::vector<Record>& records, const Key& key_of) {
  std::set<std::decay_t<decltype(key_of(records.front()))>> seen;
  std::erase_if(records, [&](const Record& record) { return !seen.insert(key_of(record)).second; });
}

}  // namespace

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
    } catch (const std::exception& error) {
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
  put("store a trial in", [&](sqlite::Connection& connection) { write_trial(connection, record); });
}

std::vector<TrialRecord> Store::trials(const std::string& op, const std::string& problem_key,
                                       const std::string& device_kind) {
  std::vector<TrialRecord> records;
  search_own("read trials from", [&](sqlite::Connection& connection) {
    auto found = find_trials(connection, op, problem_key, device_kind);
    std::move(found.begin(), found.end(), std::back_inserter(records));
    return false;
  });
  if (memory_ == nullptr) return records;
  keep_first(records, [](const TrialRecord& record) {
    return std::tuple(record.template_hash, encode_configuration(record.trial.configuration),
                      record.compiler, record.measurement);
  });
  std::stable_sort(records.begin(), records.end(),
                   [](const auto& a, const auto& b) { return a.created < b.created; });
  return records;
}

std::vector<ProblemRecord> Store::problems(const std::string& op, const std::string& device_kind) {
  std::vector<ProblemRecord> records;
  search_own("read problems from", [&](sqlite::Connection& connection) {
    auto found = find_problems(connection, op, device_kind);
    std::move(found.begin(), found.end(), std::back_inserter(records));
    return false;
  });
  if (memory_ != nullptr)
    keep_first(records, [](const ProblemRecord& record) {
      return std::tuple(record.op, record.problem_key, record.device_kind);
    });
  return records;
}

// -------------------------------------------------------------------------------------
// winners

namespace {

auto winner_key(const WinnerRecord& record) {
  return std::tie(record.problem.op, record.problem.device_kind, record.problem.tuning_key);
}

}  // namespace

void Store::put_winner(const WinnerRecord& record) {
  put("store a winner in",
      [&](sqlite::Connection& connection) { write_winner(connection, record); });
}

std::optional<WinnerRecord> Store::winner(const std::string& op, const std::string& tuning_key,
                                          const std::string& device_kind,
                                          const std::function<bool(const WinnerRecord&)>& usable) {
  const auto will_do = [&](const std::optional<WinnerRecord>& record) {
    return record && (!usable || usable(*record));
  };
  std::optional<WinnerRecord> found;
  search_own("read a winner from", [&](sqlite::Connection& connection) {
    found = find_winner(connection, op, tuning_key, device_kind);
    if (!will_do(found)) found.reset();
    return found.has_value();
  });
  if (found) return found;
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
  search_own("read winners from", [&](sqlite::Connection& connection) {
    auto found = all_winners(connection, op, device_kind);
    std::move(found.begin(), found.end(), std::back_inserter(records));
    return false;
  });
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
                   [](const auto& a, const auto& b) { return winner_key(a) < winner_key(b); });
  records.erase(
      std::unique(records.begin(), records.end(),
                  [](const auto& a, const auto& b) { return winner_key(a) == winner_key(b); }),
      records.end());
  return records;
}

// -------------------------------------------------------------------------------------
// runs

void Store::put_run(const RunRecord& record) {
  put("store a tuning run in",
      [&](sqlite::Connection& connection) { write_run(connection, record); });
}

std::vector<RunRecord> Store::runs(const std::string& op, const std::string& problem_key,
                                   const std::string& device_kind) {
  std::vector<RunRecord> records;
  search_own("read tuning runs from", [&](sqlite::Connection& connection) {
    auto found = find_runs(connection, op, problem_key, device_kind);
    std::move(found.begin(), found.end(), std::back_inserter(records));
    return false;
  });
  if (memory_ == nullptr) return records;
  keep_first(records, [](const RunRecord& record) {
    return std::tuple(record.problem.op, record.problem.problem_key, record.problem.device_kind,
                      record.started, record.machine);
  });
  std::stable_sort(records.begin(), records.end(),
                   [](const auto& a, const auto& b) { return a.started < b.started; });
  return records;
}

// -------------------------------------------------------------------------------------
// binaries

std::optional<Binary> Store::find_binary(const std::string& specialization_hash) {
  std::optional<Binary> found;
  search_own("read a binary from", [&](sqlite::Connection& connection) {
    found = cudadent::find_binary(connection, specialization_hash);
    return found.has_value();
  });
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
  put("store a binary in",
      [&](sqlite::Connection& connection) { write_binary(connection, binary); });
}

// -------------------------------------------------------------------------------------
// counts

Store::Counts Store::counts() {
  Counts counts;
  try_file(reading_, [&] {
    auto [lock, connection] = database_->use("count the rows of");
    sqlite::Query row = connection.query(
        "SELECT (SELECT count(*) FROM trials), (SELECT count(*) FROM winners),"
        " (SELECT count(*) FROM binaries), (SELECT ifnull(sum(length(image)), 0) "
        "FROM binaries)");
    row.step();
    counts = {.trials = row.integer(),
              .winners = row.integer(),
              .binaries = row.integer(),
              .binary_bytes = row.integer()};
  });
  return counts;
}

}  // namespace cudadent
