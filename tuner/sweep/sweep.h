// A sweep at work: many problems on one or several devices, in order, each until it has a winner. What is
// done is what the database says is done, so that a sweep that was killed goes on where it was.
#pragma once

#include <cudadent/cudadent.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/operators/problem.h"
#include "tuner/cached_source.h"
#include "tuner/sweep/plan.h"
#include "tuner/tuner.h"

namespace cudadent {

struct SweepDevice {
  std::string name;
  TuningContext context;
  CachedSource& source;  // of the same context
};

enum class SweepState : std::uint8_t {
  pending,
  running,
  tuned,      // by this sweep
  known,      // had a winner before, or shares the one of a problem before it
  elsewhere,  // another process tuned it meanwhile, or is at it still
  failed,
  interrupted,
};
std::string_view name_of(SweepState state) noexcept;

// One problem on one kind of device.
struct SweepJob {
  std::size_t number = 0;  // from 0, in order
  SweepProblem given;
  std::string device_kind;
  std::string device;                          // the name of the device that took it; empty before
  std::shared_ptr<const OperatorEntry> entry;  // null where the operator is unknown
  std::optional<Problem> problem;              // nothing where it is not a problem of the operator
  std::string description;                     // for people
  std::optional<std::size_t> same_as;          // the number of a job whose winner it shares
  std::int64_t known_trials = 0;               // in the database, as the sweep began

  SweepState state = SweepState::pending;
  std::optional<Winner> winner;
  double flops = 0, bytes = 0;
  TuneProgress progress;        // while running; `last` is not to be used
  double elapsed = 0;           // seconds
  std::int64_t new_trials = 0;  // measured by this sweep
  double default_seconds = 0;
  std::string stopped_by;
  std::string error;  // why it failed
};

// The jobs of a plan on the kinds of the devices given, with those that have a winner marked as known
// (unless `fresh`), and those that are no problems as failed.
std::vector<SweepJob> sweep_jobs(const SweepPlan& plan, const std::vector<SweepDevice>& devices,
                                 bool fresh);

struct SweepOptions {
  TuneOptions tuning;  // budget and on_progress are the sweep's own; `cancelled` ends the sweep
  double total_seconds = 0;  // of wall-clock time, shared by all jobs by priority; 0: no limit
  Budget per_problem;        // the most for one, unless its own says otherwise
  double wait_for_others =
      600;  // seconds, once nothing is left but what other processes are tuning
  // Called with everything else of the sweep at rest, from the threads of the devices.
  std::function<void(const SweepJob&)> on_start;
  std::function<void(const SweepJob&, const Trial*)> on_progress;  // a trial is stored by then
  std::function<void(const SweepJob&)> on_end;
};

// Tunes every pending job, one at a time on each device. A job that fails does not end the sweep. Returns
// false when `cancelled` ended it: what was under way is dropped, and jobs begun have no winner yet. Throws
// Error(invalid_argument) for limits that are NaN or negative.
bool run_sweep(std::vector<SweepJob>& jobs, const std::vector<SweepDevice>& devices,
               const SweepOptions& options);

// The seconds of a shared budget that a job gets of those left: by its part of the priorities of the jobs
// still to be done on its kind of device, which `devices` of them share.
double share_of_budget(double seconds_left, double priority, double priorities_left, int devices);

}  // namespace cudadent
