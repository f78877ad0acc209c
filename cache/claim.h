// A claim: "I am tuning this", said to every process that uses the same database.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/base/threads.h"

namespace cudadent {

class Store;

// Whoever claims a tuning key is the one to tune it; the others wait for its winner or go on without. The
// claim ends with this object, and with the process that made it however that ends: a claim of a process
// of this machine lasts as long as the process, one of another machine (or container) as long as its
// heartbeat, which a thread of the claim's own keeps (if the system has one left). Must not outlive its store. In the child of a fork
// it is nothing: the parent still holds it.
class Claim {
 public:
  // How often a claim is renewed, and when one that was not has expired, in wall-clock time.
  static constexpr std::chrono::seconds heartbeat{5};
  static constexpr std::chrono::seconds expiry{30};

  ~Claim();
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  // False when it stands for nothing, because the database cannot be written: whoever asks may tune.
  [[nodiscard]] bool recorded() const noexcept { return !token_.empty(); }

 private:
  friend class Store;
  Claim(Store& store, std::string token);

  Store& store_;
  const std::string token_;  // whose claim it is; empty when not recorded
  const std::uint64_t forks_ = fork_count();
  OwnThread heartbeat_;
};

// Who holds a claim, for people.
struct ClaimHolder {
  std::string host;
  std::int64_t process = 0;
  std::string since;  // ISO 8601, UTC
};

}  // namespace cudadent
