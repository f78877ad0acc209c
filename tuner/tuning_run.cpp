#include "tuner/tuning_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "cache/records.h"
#include "runtime/language/value.h"
#include "tuner/stopwatch.h"

namespace cudadent {

TuningRun::TuningRun(const TuningContext& run_context, const OperatorEntry& op,
                     const Problem& wanted, const TuneOptions& wishes)
    : context(run_context),
      entry(op),
      problem(wanted),
      options(wishes),
      device(context.backend.device()),
      record(problem_record(problem, device)) {
  result.problem = problem.describe();
  result.flops = problem.flops();
  result.bytes = problem.bytes();
}

void TuningRun::enumerate() {
  const Stopwatch watch(result.enumerate_seconds);
  space.emplace(search_space(entry, problem, device, options.kernel_templates,
                             [&](const std::string& reasons) {
                               log(LogLevel::warning, only_reference_warning(problem, reasons));
                             }));
  result.candidates = space->size();
}

void TuningRun::open_backend() {
  const Stopwatch watch(result.prepare_seconds);
  if (context.open_worker) worker = context.open_worker(options);
  backend = worker ? worker.get() : &context.backend;
  result.isolated = worker != nullptr;
  compiler = backend->compiler();
  binaries.accept_only(compiler);
}

void TuningRun::lay_out() {
  const Stopwatch watch(result.prepare_seconds);
  measurer.emplace(*backend, context.library, binaries, entry, problem, options.seed,
                   options.run_timeout);
  if (measurer->reference().empty())
    log(LogLevel::warning,
        fmt::format("{}: no reference template for this device; candidates are only compared with "
                    "each other",
                    problem.op->name));
}

bool TuningRun::is_default(Candidate candidate) const {
  return std::count(defaults.begin(), defaults.end(), candidate) > 0;
}

std::optional<Candidate> TuningRun::find(const std::string& template_hash,
                                         const Values& configuration) const {
  for (const auto& member : space->members()) {
    if (member.kernel_template->hash != template_hash) continue;
    if (const auto index = member.space.index_of(configuration)) return member.first + *index;
  }
  return std::nullopt;
}

Specialization TuningRun::specialization(Candidate candidate) const {
  return specialize(space->member_of(candidate).kernel_template, problem,
                    space->configuration(candidate), device);
}

void TuningRun::doubt(Candidate candidate, Trial& trial) const {
  const bool too_long =
      trial.status == TrialStatus::timeout || trial.status == TrialStatus::compile_timeout;
  if (too_long && !timed_out_before.contains(candidate)) trial.status = TrialStatus::timeout_once;
}

void TuningRun::store(Candidate candidate, const std::string& specialization_hash,
                      const Binary* binary, const Trial& trial) {
  TrialRecord row{record,
                  space->member_of(candidate).kernel_template->hash,
                  binary != nullptr ? binary->compiler : compiler,
                  backend->measurement(),
                  specialization_hash,
                  binary != nullptr ? binary->resources : std::vector<KernelResources>(),
                  trial,
                  {}};
  remember([&] { context.store.put_trial(row); });
}

void TuningRun::warn_of_disturbances() const {
  std::int64_t count = 0;
  const Trial* example = nullptr;
  bool of_default = false;
  for (const auto& [candidate, index] : trials) {
    const Trial& trial = result.trials[index];
    if (is_settled(trial.status)) continue;
    ++count;
    of_default = of_default || is_default(candidate);
    if (example == nullptr) example = &trial;
  }
  if (count == 0) return;
  log(LogLevel::warning,
      fmt::format(
          "{}: {} of {} configurations could not be judged, which says nothing about them: the "
          "next run tries them again.{} The first was {} {}, {}: {}",
          result.problem, count, result.trials.size(),
          of_default ? " A default is among them, which the winner may be slower than." : "",
          example->kernel_template, to_text(example->configuration), name_of(example->status),
          example->message.substr(0, example->message.find('\n'))));
}

void TuningRun::report(const char* phase) const {
  if (!options.on_progress) return;
  TuneProgress progress;
  progress.measured = static_cast<std::int64_t>(result.trials.size());
  progress.failed = std::count_if(result.trials.begin(), result.trials.end(),
                                  [](const Trial& t) { return t.status != TrialStatus::ok; });
  progress.candidates = space->size();
  progress.elapsed = seconds_since(start);
  progress.best = best;
  progress.phase = phase;
  progress.last = result.trials.empty() ? nullptr : &result.trials.back();
  options.on_progress(progress);
}

}  // namespace cudadent
