#include "tuner/measurer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "runtime/base/cancellation.h"
#include "tuner/statistics.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

// How long a candidate is measured. Medians of ten runs of one kernel scatter by 1.5 to 4 %, so the
// search settles for that and the final race tells close ones apart.
constexpr int first_samples = 2, more_samples = 3;
constexpr std::size_t most_samples = 15, stable_samples = 6;
constexpr double stable_spread = 0.02;
constexpr double most_candidate_seconds = 1.0;
// A candidate loses when each of its runs was slower than the best by so much: after two runs, after more.
constexpr double hopeless = 1.5, losing = 1.05;

// A run that takes so many times the best's time is taken to be one that never ends; but never fewer
// seconds than this, for machines that stall.
constexpr double never_ending = 1000, least_timeout = 2;
constexpr double reference_timeout = 120;  // seconds; references are slow
constexpr int most_restarts_in_a_row = 3;

}  // namespace

TrialStatus status_before_running(ErrorCode code) {
  switch (code) {
    case ErrorCode::compile_failed:
      return TrialStatus::compile_error;
    case ErrorCode::timed_out:
      return TrialStatus::compile_timeout;
    case ErrorCode::machine_failed:
    case ErrorCode::device_unavailable:  // no process to compile in
    case ErrorCode::cache_failed:
      return TrialStatus::disturbed;
    default:
      return TrialStatus::invalid_resources;
  }
}

Measurer::Measurer(const MeasurerSetup& setup, Observers& observers, TuneSeconds& seconds)
    : setup_(setup), problem_(setup.problem.describe()), observers_(observers), seconds_(seconds) {
  const Stopwatch watch(seconds_.prepare_seconds);
  lay_out();
}

void Measurer::lay_out() {
  setup_.backend.limit_runs(std::max(setup_.run_timeout, reference_timeout));
  workbench_.emplace(setup_.backend, setup_.library, setup_.binaries, setup_.entry, setup_.problem,
                     setup_.seed);
  reference_ = workbench_->reference();
  used_ = false;
}

void Measurer::recover() {
  const Stopwatch watch(seconds_.prepare_seconds);
  workbench_.reset();
  for (int i = 0; i < most_restarts_in_a_row; ++i) {
    if (!setup_.backend.recover()) break;
    ++restarts_;
    try {
      lay_out();
      return;
    } catch (const Error&) {
      // What worked once fails only with the device.
      if (setup_.backend.lost() == Loss::none) throw;
      Cancellation::check();
    }
  }
  lost_ = true;
}

void Measurer::limit(double best) {
  setup_.backend.limit_runs(best > 0 ? std::clamp(never_ending * best,
                                                  std::min(least_timeout, setup_.run_timeout),
                                                  setup_.run_timeout)
                                     : setup_.run_timeout);
}

void Measurer::blame(const Error& error, TrialStatus status, Trial& trial) const {
  if (error.code() == ErrorCode::cancelled) throw error;
  const Loss loss = setup_.backend.lost();
  trial.status = error.code() == ErrorCode::machine_failed ? TrialStatus::disturbed
                 : loss == Loss::timeout || error.code() == ErrorCode::timed_out
                     ? TrialStatus::timeout
                 : loss == Loss::fault ? TrialStatus::fault
                                       : status;
  trial.message =
      error.detail().empty() ? error.what() : fmt::format("{}\n{}", error.what(), error.detail());
}

void Measurer::measure(const Specialization& specialization, const Binary& binary, double best,
                       Trial& trial) {
  Cancellation::check();
  const bool others_ran = used_;
  try_to_measure(specialization, binary, best, trial);
  if (setup_.backend.lost() == Loss::none) return;
  recover();
  const bool to_blame = !others_ran || trial.status != TrialStatus::fault;
  if (lost_ || (to_blame && trial.status != TrialStatus::disturbed)) return;
  trial.samples.clear();
  try_to_measure(specialization, binary, best, trial);
  if (setup_.backend.lost() != Loss::none) recover();
}

void Measurer::try_to_measure(const Specialization& specialization, const Binary& binary,
                              double best, Trial& trial) {
  trial.status = TrialStatus::ok;
  limit(best);
  const auto executable = load(specialization, binary, trial);
  if (executable == nullptr) return;
  try {
    used_ = true;
    verify(*executable, trial);
    if (trial.status == TrialStatus::ok) observe(*executable, binary, best, trial);
  } catch (const Error& error) {
    blame(error, TrialStatus::launch_error, trial);
  }
}

std::unique_ptr<const Executable> Measurer::load(const Specialization& specialization,
                                                 const Binary& binary, Trial& trial) {
  try {
    return setup_.backend.prepare(setup_.backend.load(binary), specialization.plan);
  } catch (const Error& error) {
    blame(error, TrialStatus::invalid_resources, trial);
    return nullptr;
  }
}

std::unique_ptr<const Executable> Measurer::prepare(const Specialization& specialization,
                                                    const Binary& binary, Trial& trial) {
  auto executable = load(specialization, binary, trial);
  if (setup_.backend.lost() != Loss::none) recover();
  return executable;
}

void Measurer::verify(const Executable& executable, Trial& trial) {
  const Stopwatch watch(seconds_.verify_seconds);
  const Verdict verdict = workbench_->verify(executable);
  trial.error = verdict.error;
  trial.message = verdict.complaint;
  trial.status = verdict.complaint.empty() ? TrialStatus::ok
                 : verdict.out_of_bounds   ? TrialStatus::fault
                                           : TrialStatus::wrong_result;
}

void Measurer::observe(const Executable& executable, const Binary& binary, double best,
                       Trial& trial) {
  Measurement measurement{problem_, trial, static_cast<std::int64_t>(binary.image.size()), -1};
  for (const auto& kernel : binary.resources)
    measurement.registers = std::max(measurement.registers, kernel.registers);
  observers_.before(measurement);
  time_to_the_end(executable, measurement, best, trial);
  trial.figures = observers_.after(measurement);
}

void Measurer::time_to_the_end(const Executable& executable, const Measurement& measurement,
                               double best, Trial& trial) {
  const Stopwatch watch(seconds_.measure_seconds);
  const auto start = std::chrono::steady_clock::now();
  while (true) {
    Cancellation::check();
    const auto more =
        workbench_->time(executable, trial.samples.empty() ? first_samples : more_samples);
    trial.samples.insert(trial.samples.end(), more.begin(), more.end());
    trial.median = median(trial.samples);
    trial.spread = relative_spread(trial.samples);
    observers_.during(measurement);
    const double margin = trial.samples.size() <= first_samples ? hopeless : losing;
    const bool loses =
        best > 0 && *std::min_element(trial.samples.begin(), trial.samples.end()) > margin * best;
    const bool stable = trial.samples.size() >= stable_samples && trial.spread < stable_spread;
    if (loses || stable || trial.samples.size() >= most_samples ||
        seconds_since(start) > most_candidate_seconds)
      return;
  }
}

std::vector<double> Measurer::time(const Executable& executable, int count, double best,
                                   Trial& trial) {
  Cancellation::check();
  const Stopwatch watch(seconds_.measure_seconds);
  limit(best);
  try {
    used_ = true;
    return workbench_->time(executable, count);
  } catch (const Error& error) {
    blame(error, TrialStatus::launch_error, trial);
  }
  if (setup_.backend.lost() != Loss::none) recover();
  return {};
}

}  // namespace cudadent
