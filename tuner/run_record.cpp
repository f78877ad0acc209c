#include "tuner/run_record.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "cache/records.h"

namespace cudadent {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  // The last byte stays zero: a name that is too long is cut.
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

}  // namespace

RunRecord run_record(const ProblemRecord& problem, Backend& backend, const TuneOptions& options,
                     const TuneResult& result) {
  const Device& device = backend.device();
  const auto count = [&](const auto& condition) {
    return std::count_if(result.trials.begin(), result.trials.end(), condition);
  };
  RunRecord record;
  record.problem = problem;
  record.started = utc_time(std::chrono::system_clock::now() -
                            std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                std::chrono::duration<double>(result.elapsed)));
  record.machine = host_name();
  record.version = version();
  record.device_name = device.name;
  record.driver = device.driver;
  record.uuid = device.uuid;
  record.device_facts = device.facts();
  record.compiler = backend.compiler();
  record.measurement = backend.measurement();
  record.strategy = options.strategy;
  record.objective = options.objective;
  record.seed = options.seed;
  record.stopped_by = result.stopped_by;
  record.candidates = result.candidates;
  record.recalled = count([](const Trial& trial) { return trial.from_cache; });
  record.measured = static_cast<std::int64_t>(result.trials.size()) - record.recalled;
  record.failed = count(
      [](const Trial& trial) { return !trial.from_cache && trial.status != TrialStatus::ok; });
  record.isolated = result.isolated;
  record.worker_restarts = result.worker_restarts;
  record.flops = result.flops;
  record.bytes = result.bytes;
  record.elapsed = result.elapsed;
  static_cast<TuneSeconds&>(record) = result;
  return record;
}

}  // namespace cudadent
