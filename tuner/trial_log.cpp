#include "tuner/trial_log.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "cache/records.h"
#include "runtime/language/value.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

constexpr double improvement = 0.99;  // of the best: what patience counts as progress

bool took_too_long(TrialStatus status) {
  return status == TrialStatus::timeout_once || status == TrialStatus::timeout ||
         status == TrialStatus::compile_timeout;
}

std::string describe(const Trial& trial) {
  return fmt::format("{} {}", trial.kernel_template, to_text(trial.configuration));
}

}  // namespace

TrialLog::TrialLog(const TuningTask& task, const RunSpace& space, Workshop& workshop,
                   Forgiving& remember)
    : task_(task), space_(space), workshop_(workshop), remember_(remember) {
  recall();
}

void TrialLog::recall() {
  const ProblemRecord& problem = task_.record;
  for (auto& record :
       task_.context.store.trials(problem.op, problem.problem_key, problem.device_kind)) {
    if (record.compiler != workshop_.compiler() ||
        record.measurement != workshop_.backend().measurement())
      continue;
    Trial& trial = record.trial;
    const auto candidate = space_.space.find(record.template_hash, trial.configuration);
    if (!candidate) continue;
    if (took_too_long(trial.status)) timed_out_before_.insert(*candidate);
    if (task_.options.fresh || !is_settled(trial.status) || has(*candidate)) continue;
    const bool lacks_objective = trial.status == TrialStatus::ok && !task_.is_for_time() &&
                                 !trial.figures.contains(task_.options.objective);
    if (lacks_objective) continue;
    trial.from_cache = true;
    note(*candidate, std::move(trial));
    judge(trials_.back());
  }
  since_improvement_ = 0;  // patience is with this run
}

std::optional<double> TrialLog::value(const Trial& trial) const {
  if (trial.status != TrialStatus::ok) return std::nullopt;
  if (task_.is_for_time()) return trial.median;
  const std::string& objective = task_.options.objective;
  const auto found = trial.figures.find(objective);
  if (found == trial.figures.end()) {
    std::vector<std::string> names{std::string(time_objective)};
    for (const auto& [name, value] : trial.figures) names.push_back(name);
    throw Error(ErrorCode::invalid_argument,
                fmt::format("objective '{}': no observer gave that figure for {}; there are {}",
                            objective, describe(trial), fmt::join(names, ", ")));
  }
  if (found->second > 0 && std::isfinite(found->second)) return found->second;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("objective '{}' is {} for {}: expected a number above 0, of which less "
                          "is better",
                          objective, found->second, describe(trial)));
}

std::optional<Candidate> TrialLog::best_candidate() const {
  std::optional<Candidate> best;
  double least = 0;
  for (const auto& [candidate, place] : places_)
    if (const auto worth = value(trials_[place]); worth && (!best || *worth < least)) {
      best = candidate;
      least = *worth;
    }
  return best;
}

bool TrialLog::has_essentials() const {
  return (!space_.untuned || has(*space_.untuned)) &&
         std::all_of(space_.defaults.begin(), space_.defaults.end(),
                     [&](Candidate candidate) { return has(candidate); });
}

void TrialLog::note(Candidate candidate, Trial trial) {
  places_[candidate] = trials_.size();
  candidates_.push_back(candidate);
  trials_.push_back(std::move(trial));
}

void TrialLog::judge(const Trial& trial) {
  const auto worth = value(trial);
  const bool better = worth && (best_ == 0 || *worth < best_);
  if (better && (best_ == 0 || *worth < improvement * best_))
    since_improvement_ = 0;
  else
    ++since_improvement_;
  if (better) best_ = *worth;
}

void TrialLog::add(const Compiled& compiled, Trial trial) {
  ++new_trials_;
  note(compiled.candidate, std::move(trial));
  store(compiled.candidate, compiled.specialization.hash,
        compiled.binary ? &*compiled.binary : nullptr);
}

void TrialLog::store(Candidate candidate, const std::string& specialization_hash,
                     const Binary* binary) {
  Trial& trial = at(candidate);
  // That it took too long is a fact only when an earlier run saw that, too.
  const bool too_long =
      trial.status == TrialStatus::timeout || trial.status == TrialStatus::compile_timeout;
  if (too_long && !timed_out_before_.contains(candidate)) trial.status = TrialStatus::timeout_once;
  TrialRecord row{task_.record,
                  space_.kernel_template(candidate).hash,
                  binary != nullptr ? binary->compiler : workshop_.compiler(),
                  workshop_.backend().measurement(),
                  specialization_hash,
                  binary != nullptr ? binary->resources : std::vector<KernelResources>(),
                  trial,
                  {}};
  remember_([&] { task_.context.store.put_trial(row); });
}

void TrialLog::report(const char* phase) const {
  if (!task_.options.on_progress) return;
  TuneProgress progress;
  progress.measured = static_cast<std::int64_t>(trials_.size());
  progress.failed = std::count_if(trials_.begin(), trials_.end(),
                                  [](const Trial& t) { return t.status != TrialStatus::ok; });
  progress.candidates = space_.space.size();
  progress.elapsed = seconds_since(task_.start);
  progress.best = best_;
  progress.phase = phase;
  progress.last = trials_.empty() ? nullptr : &trials_.back();
  task_.options.on_progress(progress);
}

void TrialLog::warn_of_disturbances() const {
  std::int64_t count = 0;
  const Trial* example = nullptr;
  bool of_default = false;
  for (const auto& [candidate, place] : places_) {
    const Trial& trial = trials_[place];
    if (is_settled(trial.status)) continue;
    ++count;
    of_default = of_default || space_.is_default(candidate);
    if (example == nullptr) example = &trial;
  }
  if (count == 0) return;
  task_.log(
      LogLevel::warning,
      fmt::format(
          "{}: {} of {} configurations could not be judged, which says nothing about them: the "
          "next run tries them again.{} The first was {}, {}: {}",
          task_.record.description, count, trials_.size(),
          of_default ? " A default is among them, which the winner may be slower than." : "",
          describe(*example), name_of(example->status),
          example->message.substr(0, example->message.find('\n'))));
}

}  // namespace cudadent
