// Where the candidates of a tuning run are compiled and measured, in two stages, since the first of them are
// compiled while the problem is laid out.
#pragma once

#include <memory>
#include <string>

#include "tuner/measurer.h"
#include "tuner/observers.h"
#include "tuner/run_binaries.h"
#include "tuner/tuning_task.h"

namespace cudadent {

// The device, in a worker process or in this one, with its compiler and the binaries of the run.
class Workshop {
 public:
  // Throws Error(device_unavailable, compiler_unavailable). All outlive this.
  Workshop(const TuningTask& task, Forgiving& remember, TuneSeconds& seconds);

  [[nodiscard]] Backend& backend() const noexcept { return backend_; }
  [[nodiscard]] bool isolated() const noexcept { return worker_ != nullptr; }
  [[nodiscard]] const std::string& compiler() const noexcept { return compiler_; }
  [[nodiscard]] RunBinaries& binaries() noexcept { return binaries_; }

 private:
  const std::unique_ptr<Backend> worker_;  // null: in this process
  Backend& backend_;                       // where candidates run
  const std::string compiler_;
  RunBinaries binaries_;
};

// The problem laid out on the device of a workshop: candidates are verified, timed and observed there.
class Laboratory {
 public:
  // Throws what laying the problem out raises. All outlive this.
  Laboratory(const TuningTask& task, Workshop& workshop, TuneSeconds& seconds);

  [[nodiscard]] Workshop& workshop() const noexcept { return workshop_; }
  [[nodiscard]] Measurer& measurer() noexcept { return measurer_; }
  [[nodiscard]] Observers& observers() noexcept { return observers_; }
  // True when the device is lost and cannot be made ready again: nothing more can be measured.
  [[nodiscard]] bool lost() const noexcept { return measurer_.lost(); }

 private:
  Workshop& workshop_;
  Observers observers_;
  Measurer measurer_;
};

}  // namespace cudadent
