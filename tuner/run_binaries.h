// What a tuning run writes on its way: binaries, kept where they are soon wanted again, and a store that may
// refuse.
#pragma once

#include <cudadent/cudadent.h>

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "cache/store.h"
#include "runtime/launch/configuration_source.h"

namespace cudadent {

// Failing to keep a binary or a trial costs the memory of a result, not the result: the first failure is a
// warning.
class Forgiving {
 public:
  using Log = std::function<void(LogLevel, std::string_view)>;

  // `log` may be empty; it outlives this.
  explicit Forgiving(const Log& log) : log_(log) {}

  template <class Write>
  void operator()(Write write) {
    try {
      write();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cache_failed) throw;
      if (!std::exchange(warned_, true) && log_) log_(LogLevel::warning, error.what());
    }
  }

 private:
  const Log& log_;
  bool warned_ = false;
};

// The store's binaries of one compiler (what another one made would be measured as its work), and in memory those of
// the best candidates, which the final race wants again.
class RunBinaries : public BinaryStore {
 public:
  RunBinaries(Store& store, std::string compiler, Forgiving& remember)
      : store_(store), remember_(remember), compiler_(std::move(compiler)) {}

  std::optional<Binary> find_binary(const std::string& specialization_hash) override;
  void put_binary(const Binary& binary) override;
  // In memory, as long as it is among the fastest.
  void keep(Binary binary, double seconds);

 private:
  Store& store_;
  Forgiving& remember_;
  const std::string compiler_;
  std::mutex mutex_;  // the compile pool asks from its threads
  std::map<std::string, std::pair<double, Binary>> kept_;
};

}  // namespace cudadent
