#include "tuner/candidate_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <thread>

#include "cache/records.h"
#include "tuner/compile_pool.h"
#include "tuner/finals.h"
#include "tuner/prior_check.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

using Clock = TuningRun::Clock;

constexpr double improvement = 0.99;  // of the best: what patience counts as progress
// By how much of its budget a run may be longer, to measure what it compiled while the problem was laid out. A second is
// hardly more than opening a worker and laying out take.
constexpr double overtime = 0.5;

class CandidateSearch {
 public:
  CandidateSearch(TuningRun& run, Strategy& strategy)
      : run_(run), strategy_(strategy), prior_checks_(run.space->members().size()) {}

  // What earlier runs measured counts as measured, unless it says nothing about the configuration.
  void recall() {
    const ProblemRecord& problem = run_.record;
    for (auto& record :
         run_.context.store.trials(problem.op, problem.problem_key, problem.device_kind)) {
      if (record.compiler != run_.compiler || record.measurement != run_.backend->measurement())
        continue;
      const auto candidate = run_.find(record.template_hash, record.trial.configuration);
      if (!candidate) continue;
      const TrialStatus status = record.trial.status;
      if (status == TrialStatus::timeout_once || status == TrialStatus::timeout ||
          status == TrialStatus::compile_timeout)
        run_.timed_out_before.insert(*candidate);
      if (run_.options.fresh || !is_settled(status) || is_measured(*candidate)) continue;
      record.trial.from_cache = true;
      learn(*candidate, std::move(record.trial));
    }
    since_improvement_ = 0;  // patience is with this run
  }

  void search() {
    const TuneOptions& options = run_.options;
    const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    const int workers = options.compile_workers > 0 ? options.compile_workers : cores;
    CompilePool pool(*run_.backend, run_.binaries, workers);
    const bool in_turns = run_.backend->compiling_disturbs_timing();
    // Enough in advance that no core waits, not so much that the strategy chooses blindly.
    const auto ahead = static_cast<std::size_t>(in_turns ? 4 * workers : workers + workers / 2 + 2);
    std::vector<Candidate> queue = run_.first;
    std::erase_if(queue, [&](Candidate candidate) { return is_measured(candidate); });
    // The first are compiled while the problem is laid out.
    if (stop_reason().empty()) refill(pool, queue, ahead);
    run_.lay_out();
    while ((run_.result.stopped_by = stop_reason()).empty()) {
      const bool refilled = (!in_turns || pool.under_way() == 0) && refill(pool, queue, ahead);
      if (pool.under_way() == 0) {
        if (refilled) continue;  // none of them could be planned
        run_.result.stopped_by = too_late() ? "time" : "exhausted";
        break;
      }
      if (in_turns)
        evaluate_together(pool);
      else if (auto compiled = wait_for(pool);
               compiled && (!out_of_time() || is_worth_overtime(compiled->candidate)))
        evaluate(std::move(*compiled));
      else if (compiled)
        first_under_way_.erase(compiled->candidate);
    }
  }

 private:
  [[nodiscard]] bool is_measured(Candidate candidate) const {
    return run_.trials.contains(candidate);
  }

  void learn(Candidate candidate, Trial trial) {
    const Stopwatch watch(run_.result.search_seconds);
    const bool ok = trial.status == TrialStatus::ok;
    strategy_.tell({candidate, ok ? std::optional(trial.median) : std::nullopt});
    if (const auto& member = run_.space->member_of(candidate); ok && member.prior)
      check_of(member).learn(member.prior(trial.configuration), trial.median);
    double& best = run_.best;
    const bool better = ok && (best == 0 || trial.median < best);
    if (better && (best == 0 || trial.median < improvement * best))
      since_improvement_ = 0;
    else
      ++since_improvement_;
    if (better) best = trial.median;
    run_.trials[candidate] = run_.result.trials.size();
    run_.result.trials.push_back(std::move(trial));
  }

  PriorCheck& check_of(const SearchSpace::Member& member) {
    return prior_checks_[static_cast<std::size_t>(&member - run_.space->members().data())];
  }

  // Until the final comparison, which gets the last part of the budget. Seconds; infinite without one.
  [[nodiscard]] double time_left() const {
    const double seconds = run_.options.budget.seconds;
    if (seconds <= 0) return std::numeric_limits<double>::infinity();
    return (1 - final_share) * seconds - seconds_since(run_.start);
  }

  [[nodiscard]] bool out_of_time() const { return time_left() <= 0; }

  [[nodiscard]] bool overtime_is_over() const {
    return seconds_since(run_.start) > (1 + overtime) * run_.options.budget.seconds;
  }

  [[nodiscard]] bool is_worth_overtime(Candidate candidate) const {
    return run_.is_essential(candidate) ||
           (first_under_way_.contains(candidate) && !overtime_is_over());
  }

  // To begin with another candidate, as long as they took to compile so far: a run that is over waits for those
  // under way.
  [[nodiscard]] bool too_late() const {
    const auto count = static_cast<double>(std::max<std::int64_t>(1, new_trials_));
    return run_.result.compile_seconds / count >= time_left();
  }

  // Why to stop; empty to go on. No budget is too short for the defaults and what would be launched without
  // tuning: who asks for little time must not get something slower than that, or nothing. What else was compiled
  // while the problem was laid out is measured in overtime.
  [[nodiscard]] std::string stop_reason() const {
    if (run_.cancelled()) return "cancelled";
    if (run_.lost()) return "device lost";
    const Budget& budget = run_.options.budget;
    if (out_of_time() && essentials_measured() && (first_under_way_.empty() || overtime_is_over()))
      return "time";
    if (budget.trials > 0 && new_trials_ >= budget.trials) return "trials";
    if (budget.patience > 0 && since_improvement_ >= budget.patience) return "patience";
    // Asked for a number of trials, a run makes them.
    if (budget.until_converged && budget.trials == 0 && essentials_measured() &&
        strategy_.converged())
      return "converged";
    return {};
  }

  [[nodiscard]] bool essentials_measured() const {
    return (!run_.untuned || is_measured(*run_.untuned)) &&
           std::all_of(run_.defaults.begin(), run_.defaults.end(),
                       [&](Candidate candidate) { return is_measured(candidate); });
  }

  // False when there is nothing left to try.
  bool refill(CompilePool& pool, std::vector<Candidate>& queue, std::size_t ahead) {
    std::size_t wanted = ahead - std::min(ahead, pool.under_way());
    if (run_.options.budget.trials > 0) {
      const auto left = static_cast<std::size_t>(run_.options.budget.trials - new_trials_);
      wanted = std::min(wanted, left - std::min(left, pool.under_way()));
    }
    const Stopwatch watch(run_.result.search_seconds);
    if (too_late())
      std::erase_if(queue, [&](Candidate candidate) { return !run_.is_essential(candidate); });
    else if (wanted > queue.size())
      for (const Candidate candidate : strategy_.ask(wanted - queue.size()))
        queue.push_back(candidate);
    const std::size_t count = std::min(wanted, queue.size());
    for (std::size_t i = 0; i < count; ++i)
      if (submitted_.emplace(queue[i], submitted_.size()).second && !is_measured(queue[i]) &&
          !rule_out(queue[i]))
        submit(pool, queue[i]);
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
    return count > 0;
  }

  // Tells the strategy what the prior, corrected by what was measured, expects of a hopeless candidate,
  // instead of measuring it.
  bool rule_out(Candidate candidate) {
    const auto& first = run_.first;
    if (run_.best == 0 || std::count(first.begin(), first.end(), candidate) > 0) return false;
    const auto& member = run_.space->member_of(candidate);
    if (!member.prior) return false;
    const PriorCheck& check = check_of(member);
    const double predicted = member.prior(run_.space->configuration(candidate));
    if (!check.hopeless(predicted, run_.best)) return false;
    strategy_.tell({candidate, check.at_best(predicted)});
    ++run_.result.ruled_out;
    return true;
  }

  void submit(CompilePool& pool, Candidate candidate) {
    try {
      pool.submit(candidate, run_.specialization(candidate));
      if (std::count(run_.first.begin(), run_.first.end(), candidate) > 0)
        first_under_way_.insert(candidate);
    } catch (const Error& error) {
      // Valid by its constraints, but what it would launch is not: a trial that failed.
      Compiled failed{candidate, {}, std::nullopt, error};
      failed.specialization.configuration = run_.space->configuration(candidate);
      evaluate(std::move(failed));
    }
  }

  std::optional<Compiled> wait_for(CompilePool& pool) {
    const Stopwatch watch(run_.result.idle_seconds);
    // Short waits, so that a cancellation is heard.
    constexpr double longest = 0.1;
    const double left = time_left();
    const double wait = left > 0 ? std::min(left, longest) : longest;
    return pool.next(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(wait)));
  }

  // Compiles everything under way, then measures it with the cores to itself.
  void evaluate_together(CompilePool& pool) {
    std::vector<Compiled> ready;
    while (pool.under_way() > 0 && stop_reason().empty())
      if (auto compiled = wait_for(pool)) ready.push_back(std::move(*compiled));
    // In the order asked for, whichever compiled first: the defaults before all others.
    std::sort(ready.begin(), ready.end(), [&](const auto& a, const auto& b) {
      return submitted_.at(a.candidate) < submitted_.at(b.candidate);
    });
    for (auto& compiled : ready) {
      if (run_.best == 0 || stop_reason().empty()) evaluate(std::move(compiled));
    }
  }

  void evaluate(Compiled compiled) {
    first_under_way_.erase(compiled.candidate);
    Trial trial;
    trial.kernel_template = run_.space->member_of(compiled.candidate).kernel_template->name;
    trial.configuration = compiled.specialization.configuration;
    if (compiled.error) {
      const Error& error = *compiled.error;
      if (error.code() == ErrorCode::compiler_unavailable || error.code() == ErrorCode::cancelled)
        throw error;
      trial.status = status_before_running(error.code());
      trial.message = error.detail().empty() ? error.what()
                                             : fmt::format("{}\n{}", error.what(), error.detail());
    } else {
      trial.compile_seconds = compiled.binary->compile_seconds;
      run_.result.compile_seconds += trial.compile_seconds;
      run_.measurer->measure(compiled.specialization, *compiled.binary, run_.best, trial);
    }
    run_.doubt(compiled.candidate, trial);
    run_.store(compiled.candidate, compiled.specialization.hash,
               compiled.binary ? &*compiled.binary : nullptr, trial);
    if (trial.status == TrialStatus::ok)
      run_.binaries.keep(std::move(*compiled.binary), trial.median);
    ++new_trials_;
    learn(compiled.candidate, std::move(trial));
    run_.report("search");
  }

  TuningRun& run_;
  Strategy& strategy_;
  std::vector<PriorCheck> prior_checks_;        // by member of the space
  std::map<Candidate, std::size_t> submitted_;  // with its place in the order
  std::set<Candidate> first_under_way_;         // of the first candidates, those being compiled
  std::int64_t new_trials_ = 0, since_improvement_ = 0;
};

}  // namespace

void search_candidates(TuningRun& run, Strategy& strategy) {
  CandidateSearch search(run, strategy);
  search.recall();
  try {
    search.search();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) throw;
    run.result.stopped_by = "cancelled";
  }
}

}  // namespace cudadent
