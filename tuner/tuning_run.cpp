#include "tuner/tuning_run.h"

#include <fmt/format.h>

#include <algorithm>

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
  space.emplace(search_space(entry, problem, device, options.kernel_templates));
  result.candidates = space->size();
}

void TuningRun::open_backend() {
  const Stopwatch watch(result.prepare_seconds);
  if (context.open_worker) worker = context.open_worker(options);
  backend = worker ? worker.get() : &context.backend;
  result.isolated = worker != nullptr;
  compiler = backend->compiler();
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

void TuningRun::store(Candidate candidate, const std::string& specialization_hash,
                      const std::vector<KernelResources>& resources, const Trial& trial) {
  TrialRecord row{record,
                  space->member_of(candidate).kernel_template->hash,
                  compiler,
                  backend->measurement(),
                  specialization_hash,
                  resources,
                  trial,
                  {}};
  remember([&] { context.store.put_trial(row); });
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
