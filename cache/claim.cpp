#include "cache/claim.h"

#include <fmt/format.h>

#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <stop_token>
#include <utility>

#include "cache/process_identity.h"
#include "cache/records.h"
#include "cache/store.h"
#include "cache/store_database.h"

namespace cudadent {

namespace {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string new_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

struct ClaimRow {
  std::int64_t id = 0;
  ProcessIdentity owner;
  double heartbeat = 0;  // seconds since 1970
  std::string created;
};

std::optional<ClaimRow> find_claim(sqlite::Connection& connection, const ProblemRecord& problem) {
  sqlite::Query row = connection.query(
      "SELECT id, host, boot, process_numbers, process, process_start, heartbeat, created"
      " FROM claims WHERE op = ? AND device_kind = ? AND tuning_key = ?");
  row.bind(problem.op, problem.device_kind, problem.tuning_key);
  if (!row.step()) return std::nullopt;
  ClaimRow claim{.id = row.integer()};
  claim.owner = {row.text(), row.text(), row.text(), row.integer(), row.integer()};
  claim.heartbeat = row.real();
  claim.created = row.text();
  return claim;
}

bool is_alive(const ClaimRow& claim) {
  switch (state_of(claim.owner)) {
    case ProcessState::alive:
      return true;
    case ProcessState::dead:
      return false;
    case ProcessState::unknown:
      break;
  }
  // A heartbeat from the future is of a clock that is not to be relied upon.
  return std::abs(seconds_since_1970() - claim.heartbeat) <
         std::chrono::duration<double>(Claim::expiry).count();
}

// Sleeps the time between two heartbeats; false when told to stop meanwhile.
bool wait_for_heartbeat(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any condition;
  std::unique_lock lock(mutex);
  condition.wait_for(lock, stop, Claim::heartbeat, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace

Claim::Claim(Store& store, std::string token) : store_(store), token_(std::move(token)) {
  if (!recorded()) return;
  const auto beat = [this](const std::stop_token& stop) {
    while (wait_for_heartbeat(stop)) {
      try {
        if (!store_.renew_claim(token_)) return;  // taken over: nothing is left to renew
      } catch (const Error&) {                    // NOLINT(bugprone-empty-catch)
        // The next one may get through; and who takes the claim over tunes once too often, no worse.
      }
    }
  };
  start_threads(1, [&](std::size_t) { heartbeat_ = OwnThread(beat); });
}

Claim::~Claim() {
  if (!recorded()) return;
  if (forks_ != fork_count()) return;  // it is the parent's
  heartbeat_ = {};
  try {
    store_.end_claim(token_);
  } catch (const std::exception&) {
    // It expires with this process.
  }
}

std::unique_ptr<Claim> Store::claim(const ProblemRecord& problem) {
  const auto grant = [this](std::string token) {
    return std::unique_ptr<Claim>(new Claim(*this, std::move(token)));
  };
  if (read_only() || !reading_.is_over() || !writing_.is_over()) return grant({});
  std::string token = new_token();
  try {
    const ProcessIdentity owner = this_process();
    auto [lock, connection] = database_->use_for_writing("claim a problem in");
    sqlite::Transaction transaction(connection);
    if (const auto held = find_claim(connection, problem)) {
      if (is_alive(*held)) return nullptr;
      connection.query("DELETE FROM claims WHERE id = ?").bind(held->id).run();
    }
    connection
        .query(
            "INSERT INTO claims (op, device_kind, tuning_key, token, host, boot,"
            " process_numbers, process, process_start, heartbeat, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(problem.op, problem.device_kind, problem.tuning_key, token, owner.host, owner.boot,
              owner.process_numbers, owner.process, owner.process_start, seconds_since_1970(),
              utc_now())
        .run();
    transaction.commit();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cache_failed) throw;
    if (options_.when_unusable != Unusable::error) go_on_after(writing_, error);
    return grant({});
  }
  return grant(std::move(token));
}

std::optional<ClaimHolder> Store::claimed_by(const ProblemRecord& problem) {
  if (read_only()) return std::nullopt;
  std::optional<ClaimHolder> holder;
  try_file(reading_, [&] {
    auto [lock, connection] = database_->use("read a claim from");
    const auto held = find_claim(connection, problem);
    if (held && is_alive(*held))
      holder = ClaimHolder{held->owner.host, held->owner.process, held->created};
  });
  return holder;
}

// False when there is no such claim any more.
bool Store::renew_claim(const std::string& token) {
  auto [lock, connection] = database_->use_for_writing("renew a claim in");
  sqlite::Transaction transaction(connection);
  connection.query("UPDATE claims SET heartbeat = ? WHERE token = ?")
      .bind(seconds_since_1970(), token)
      .run();
  const bool found = connection.query_integer("SELECT changes()") > 0;
  transaction.commit();
  return found;
}

void Store::end_claim(const std::string& token) {
  auto [lock, connection] = database_->use_for_writing("end a claim in");
  sqlite::Transaction transaction(connection);
  connection.query("DELETE FROM claims WHERE token = ?").bind(token).run();
  transaction.commit();
}

}  // namespace cudadent
