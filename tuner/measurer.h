// Verifies and times candidates on a device that any of them may take down with it.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/operators/specialization.h"
#include "tuner/observers.h"
#include "tuner/workbench.h"

namespace cudadent {

// What an error before a candidate ever ran makes of its trial: planning and compiling raise it. Time-outs, and
// what the machine failed to do, are not yet facts (TrialStatus).
TrialStatus status_before_running(ErrorCode code);

// What is measured, and on what. All that is referred to outlives the measurer.
struct MeasurerSetup {
  Backend& backend;
  TemplateLibrary& library;
  BinaryStore& binaries;
  const OperatorEntry& entry;
  const Problem& problem;
  std::uint64_t seed = 0;   // of the inputs
  double run_timeout = 10;  // seconds a launch may take
};

class Measurer {
 public:
  // Lays the problem out on the device; adds the time that this and all else takes to `seconds`. Throws what the
  // workbench's constructor throws.
  Measurer(const MeasurerSetup& setup, Observers& observers, TuneSeconds& seconds);

  // Empty when the operator has no reference on this device.
  [[nodiscard]] const std::string& reference() const noexcept { return reference_; }

  // Fills in the trial's status, message, error, samples, median, spread and figures. A candidate that takes the
  // device down costs its trial; the device is made ready again. One that faults on a device where others
  // have run gets a second trial on a fresh one: memory may have been damaged by what ran before.
  // So does one whose process was ended from outside.
  // `best` is the lowest median so far in seconds, 0 before the first: who is clearly slower is not
  // measured to the end. Throws Error(cancelled).
  void measure(const Specialization& specialization, const Binary& binary, double best,
               Trial& trial);

  // For the final race. Nothing, with the trial's status and message changed, when it cannot be loaded
  // any more or faults. Executables are good until restarts() changes. Both throw Error(cancelled).
  std::unique_ptr<const Executable> prepare(const Specialization& specialization,
                                            const Binary& binary, Trial& trial);
  std::vector<double> time(const Executable& executable, int count, double best, Trial& trial);

  // How often the device was lost and made ready again.
  [[nodiscard]] std::int64_t restarts() const noexcept { return restarts_; }
  // True when the device is lost and cannot be made ready again: nothing more can be measured.
  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  void lay_out();
  void recover();
  void try_to_measure(const Specialization& specialization, const Binary& binary, double best,
                      Trial& trial);
  std::unique_ptr<const Executable> load(const Specialization& specialization, const Binary& binary,
                                         Trial& trial);
  void verify(const Executable& executable, Trial& trial);
  // Times it, with the observers at it.
  void observe(const Executable& executable, const Binary& binary, double best, Trial& trial);
  void time_to_the_end(const Executable& executable, const Measurement& measurement, double best,
                       Trial& trial);
  void limit(double best);
  // Records why a call failed.
  void blame(const Error& error, TrialStatus status, Trial& trial) const;

  const MeasurerSetup setup_;
  const std::string problem_;  // for observers
  Observers& observers_;
  TuneSeconds& seconds_;
  std::optional<Workbench> workbench_;
  std::string reference_;
  bool used_ = false;  // a candidate has run since the device was made ready
  bool lost_ = false;
  std::int64_t restarts_ = 0;
};

}  // namespace cudadent
