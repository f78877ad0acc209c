// The members of each record by name, described once: what the database, the exchange formats, the program's JSON and
// Python have of a record is read off here. To add a member to all of them is a line here (and a column in schema.cpp
// where the database is to keep it).
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <tuple>

#include "cache/store.h"

namespace cudadent {

enum class Stored : std::uint8_t {
  always,
  since_4,  // files of earlier versions of the schema, and exports made with them, lack it
  never,
};

template <class Record, class Member>
struct RecordField {
  const char* name;  // in JSON and Python, and of the column unless `column` is another
  Member Record::*member;
  const char* doc;
  Stored stored = Stored::always;
  const char* column = name;
};

template <class Record, class Member, class... Rest>
RecordField(const char*, Member Record::*, const char*, Rest...) -> RecordField<Record, Member>;

// fields(Of<Record>()) is a tuple of RecordField.
template <class Record>
struct Of {};

constexpr auto fields(Of<ProblemRecord> /*record*/) {
  using R = ProblemRecord;
  return std::tuple(
      RecordField{"op", &R::op, "The operator's name."},
      RecordField{"tuning_key", &R::tuning_key, "Problems of one key share a winner."},
      RecordField{"problem_key", &R::problem_key, "The problem exactly."},
      RecordField{"description", &R::description, "The problem for people."},
      RecordField{"device_kind", &R::device_kind, "What makes two devices alike."});
}

constexpr auto fields(Of<KernelResources> /*record*/) {
  using R = KernelResources;
  return std::tuple(RecordField{"entry", &R::entry, "The kernel's name."},
                    RecordField{"registers", &R::registers, "Of a thread."},
                    RecordField{"spill_bytes", &R::spill_bytes, "Of a thread."},
                    RecordField{"local_bytes", &R::local_bytes, "Of a thread."},
                    RecordField{"shared_bytes", &R::shared_bytes, "Of a block, static."},
                    RecordField{"constant_bytes", &R::constant_bytes, "Of the kernel."});
}

constexpr auto fields(Of<Trial> /*record*/) {
  using R = Trial;
  return std::tuple(
      RecordField{"template", &R::kernel_template, "The kernel template's name.", Stored::always,
                  "kernel_template"},
      RecordField{"configuration", &R::configuration,
                  "A value for each of the template's parameters."},
      RecordField{"status", &R::status, "'ok', or how it failed."},
      RecordField{"message", &R::message, "How it failed, at length."},
      RecordField{"samples", &R::samples, "Seconds, in the order taken."},
      RecordField{"median", &R::median, "Seconds."},
      RecordField{"spread", &R::spread, "Interquartile range over the median."},
      RecordField{"error", &R::error, "Relative error of the worst output."},
      RecordField{"compile_seconds", &R::compile_seconds, "Seconds it took to compile."},
      RecordField{"from_cache", &R::from_cache, "Measured by an earlier run.", Stored::never},
      RecordField{"figures", &R::figures, "Numbers that observers added, by name.",
                  Stored::since_4});
}

// What a trial has besides in the database.
constexpr auto fields(Of<TrialRecord> /*record*/) {
  using R = TrialRecord;
  return std::tuple(
      RecordField{"template_hash", &R::template_hash, "Of the template as it was."},
      RecordField{"compiler", &R::compiler, "What made the binary."},
      RecordField{"measurement", &R::measurement, "Name and version of the method of measuring."},
      RecordField{"specialization_hash", &R::specialization_hash, "Of the binary."},
      RecordField{"resources", &R::resources, "Of each kernel."},
      RecordField{"created", &R::created, "ISO 8601, UTC."});
}

constexpr auto fields(Of<WinnerRecord> /*record*/) {
  using R = WinnerRecord;
  return std::tuple(
      RecordField{"template", &R::kernel_template, "The kernel template's name.", Stored::always,
                  "kernel_template"},
      RecordField{"template_hash", &R::template_hash, "Of the template as it was."},
      RecordField{"configuration", &R::configuration,
                  "A value for each of the template's parameters."},
      RecordField{"seconds", &R::seconds, "Median time."},
      RecordField{"default_seconds", &R::default_seconds, "Of the default in the same comparison."},
      RecordField{"compiler", &R::compiler, "What made the binary."},
      RecordField{"specialization_hash", &R::specialization_hash, "Of the binary."},
      RecordField{"objective", &R::objective, "What it has least of.", Stored::since_4},
      RecordField{"device_name", &R::device_name, "Of the device it was found on."},
      RecordField{"driver", &R::driver, "Of that device."},
      RecordField{"uuid", &R::uuid, "Of that device."},
      RecordField{"created", &R::created, "ISO 8601, UTC."});
}

template <class R>
constexpr auto second_fields() {
  return std::tuple(
      RecordField{"enumerate_seconds", &R::enumerate_seconds, "Counting the space."},
      RecordField{"compile_seconds", &R::compile_seconds, "Compiling, of all cores together."},
      RecordField{"measure_seconds", &R::measure_seconds, "Timing candidates."},
      RecordField{"verify_seconds", &R::verify_seconds, "Comparing outputs with the reference's."},
      RecordField{"search_seconds", &R::search_seconds, "Choosing what to measure."},
      RecordField{"idle_seconds", &R::idle_seconds, "Waiting for the compiler."},
      RecordField{"prepare_seconds", &R::prepare_seconds,
                  "Starting the worker, inputs, the reference.", Stored::since_4});
}

constexpr auto fields(Of<RunRecord> /*record*/) {
  using R = RunRecord;
  return std::tuple_cat(
      std::tuple(
          RecordField{"started", &R::started, "ISO 8601, UTC."},
          RecordField{"machine", &R::machine, "The host's name."},
          RecordField{"version", &R::version, "Of cudadent."},
          RecordField{"device_name", &R::device_name, "Of the device."},
          RecordField{"driver", &R::driver, "Of the device."},
          RecordField{"uuid", &R::uuid, "Of the device."},
          RecordField{"device_facts", &R::device_facts, "What expressions see of the device."},
          RecordField{"compiler", &R::compiler, "Name and version."},
          RecordField{"measurement", &R::measurement,
                      "Name and version of the method of measuring."},
          RecordField{"strategy", &R::strategy, "The search's name."},
          RecordField{"objective", &R::objective, "What was searched for.", Stored::since_4},
          RecordField{"seed", &R::seed, "Of inputs and search."},
          RecordField{"stopped_by", &R::stopped_by, "Why it ended."},
          RecordField{"candidates", &R::candidates, "Size of the tuning space."},
          RecordField{"measured", &R::measured, "Trials of this run."},
          RecordField{"failed", &R::failed, "Those of them that are not ok."},
          RecordField{"recalled", &R::recalled, "Trials of earlier runs it started from."},
          RecordField{"isolated", &R::isolated, "Candidates ran in a worker process."},
          RecordField{"worker_restarts", &R::worker_restarts, "How often it was replaced."},
          RecordField{"flops", &R::flops, "Operations of the problem; 0 unknown."},
          RecordField{"bytes", &R::bytes, "Least memory traffic of the problem; 0 unknown."},
          RecordField{"elapsed", &R::elapsed, "Seconds."}),
      second_fields<R>());
}

// ------------------------------------------------------------------- what is returned, not stored

constexpr auto fields(Of<Winner> /*record*/) {
  using R = Winner;
  return std::tuple(
      RecordField{"template", &R::kernel_template, "The kernel template's name."},
      RecordField{"configuration", &R::configuration,
                  "A value for each of the template's parameters."},
      RecordField{"seconds", &R::seconds,
                  "Median time, of the problem it was tuned for; 0 when it was never measured."},
      RecordField{
          "provenance", &R::provenance,
          "'tuned', 'cached', 'shipped', 'neighbour', 'nearest', 'other device', 'predicted' or "
          "'default'."},
      RecordField{
          "predicted_seconds", &R::predicted_seconds,
          "What it is predicted to take for the problem at hand, where it was chosen by that; "
          "else 0."});
}

constexpr auto fields(Of<TuneProgress> /*record*/) {
  using R = TuneProgress;
  return std::tuple(RecordField{"measured", &R::measured, "Trials so far, failed ones included."},
                    RecordField{"failed", &R::failed, "Those of them that are not ok."},
                    RecordField{"candidates", &R::candidates, "Size of the tuning space."},
                    RecordField{"elapsed", &R::elapsed, "Seconds."},
                    RecordField{"best", &R::best,
                                "Of the objective, which is seconds unless another was given; 0 "
                                "before the first success."},
                    RecordField{"phase", &R::phase, "'search' or 'finalists'."});
}

constexpr auto fields(Of<TuneResult> /*record*/) {
  using R = TuneResult;
  return std::tuple_cat(
      std::tuple(
          RecordField{"problem", &R::problem, "The problem for people."},
          RecordField{"winner", &R::winner, "The configuration to launch."},
          RecordField{"default_seconds", &R::default_seconds,
                      "Median time of the default configuration."},
          RecordField{"flops", &R::flops, "Operations of the problem."},
          RecordField{"bytes", &R::bytes, "Least memory traffic of the problem."},
          RecordField{"trials", &R::trials, "Every configuration that was tried."},
          RecordField{"candidates", &R::candidates, "Size of the tuning space."},
          RecordField{"ruled_out", &R::ruled_out,
                      "Candidates that the prior, corrected by measurement, ruled out."},
          RecordField{"elapsed", &R::elapsed, "Seconds the run took."},
          RecordField{"isolated", &R::isolated, "Candidates ran in a worker process."},
          RecordField{"worker_restarts", &R::worker_restarts, "How often it was replaced."},
          RecordField{"stopped_by", &R::stopped_by,
                      "'exhausted', 'time', 'trials', 'patience', 'converged' or 'cancelled'."}),
      second_fields<R>());
}

// Calls `visit(field)` for each.
template <class Record, class Visit>
void each_field(const Visit& visit) {
  std::apply([&](const auto&... field) { (visit(field), ...); }, fields(Of<Record>()));
}

// The same for those that the database keeps.
template <class Record, class Visit>
void each_stored_field(const Visit& visit) {
  each_field<Record>([&](const auto& field) {
    if (field.stored != Stored::never) visit(field);
  });
}

}  // namespace cudadent
