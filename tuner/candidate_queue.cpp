#include "tuner/candidate_queue.h"

#include <algorithm>
#include <thread>

#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

using Clock = TuningTask::Clock;

int worker_count(const TuneOptions& options) {
  const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return options.compile_workers > 0 ? options.compile_workers : cores;
}

// Enough in advance that no core waits, not so much that the strategy chooses blindly.
std::size_t compiled_ahead(const Backend& backend, int workers) {
  return static_cast<std::size_t>(backend.compiling_disturbs_timing() ? 4 * workers
                                                                      : workers + workers / 2 + 2);
}

}  // namespace

CandidateQueue::CandidateQueue(const TuningTask& task, const RunSpace& space, Workshop& workshop,
                               const TrialLog& log, SearchLimits& limits, Strategy& strategy,
                               TuneResult& result)
    : task_(task),
      space_(space),
      log_(log),
      limits_(limits),
      strategy_(strategy),
      result_(result),
      pool_(workshop.backend(), workshop.binaries(), worker_count(task.options)),
      ahead_(compiled_ahead(workshop.backend(), worker_count(task.options))),
      prior_checks_(space.space.members().size()) {
  for (const Candidate candidate : log.candidates()) learn(candidate, log.at(candidate));
  std::copy_if(space.first.begin(), space.first.end(), std::back_inserter(queue_),
               [&](Candidate candidate) { return !log.has(candidate); });
  if (limits.stop_reason().empty()) refill();
}

PriorCheck& CandidateQueue::check_of(const SearchSpace::Member& member) {
  return prior_checks_[static_cast<std::size_t>(&member - space_.space.members().data())];
}

void CandidateQueue::learn(Candidate candidate, const Trial& trial) {
  const Stopwatch watch(result_.search_seconds);
  const auto value = log_.value(trial);
  strategy_.tell({candidate, value});
  if (const auto& member = space_.space.member_of(candidate);
      value && member.prior && task_.is_for_time())
    check_of(member).learn(member.prior(trial.configuration), *value);
}

std::size_t CandidateQueue::wanted() const {
  const std::size_t wanted = ahead_ - std::min(ahead_, under_way());
  if (task_.options.budget.trials <= 0) return wanted;
  const auto left = static_cast<std::size_t>(task_.options.budget.trials - log_.new_trials());
  return std::min(wanted, left - std::min(left, under_way()));
}

bool CandidateQueue::refill() {
  const std::size_t wanted = this->wanted();
  const Stopwatch watch(result_.search_seconds);
  if (limits_.too_late())
    std::erase_if(queue_, [&](Candidate candidate) { return !space_.is_essential(candidate); });
  else if (wanted > queue_.size())
    for (const Candidate candidate : strategy_.ask(wanted - queue_.size()))
      queue_.push_back(candidate);
  const std::size_t count = std::min(wanted, queue_.size());
  for (std::size_t i = 0; i < count; ++i)
    if (places_.emplace(queue_[i], places_.size()).second && !log_.has(queue_[i]) &&
        !rule_out(queue_[i]))
      submit(queue_[i]);
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(count));
  return count > 0;
}

// Tells the strategy what the prior, corrected by what was measured, expects of a hopeless candidate,
// instead of measuring it.
bool CandidateQueue::rule_out(Candidate candidate) {
  if (!task_.is_for_time() || log_.best() == 0 || space_.is_first(candidate)) return false;
  const auto& member = space_.space.member_of(candidate);
  if (!member.prior) return false;
  const PriorCheck& check = check_of(member);
  const double predicted = member.prior(space_.space.configuration(candidate));
  if (!check.hopeless(predicted, log_.best())) return false;
  strategy_.tell({candidate, check.at_best(predicted)});
  ++result_.ruled_out;
  return true;
}

void CandidateQueue::submit(Candidate candidate) {
  try {
    pool_.submit(candidate, specialization_of(task_, space_, candidate));
    limits_.begin(candidate);
  } catch (const Error& error) {
    // Valid by its constraints, but what it would launch is not: a trial that failed.
    Compiled failed{candidate, {}, std::nullopt, error};
    failed.specialization.configuration = space_.space.configuration(candidate);
    unplanned_.push_back(std::move(failed));
  }
}

std::optional<Compiled> CandidateQueue::next() {
  if (!unplanned_.empty()) {
    Compiled failed = std::move(unplanned_.front());
    unplanned_.pop_front();
    return failed;
  }
  const Stopwatch watch(result_.idle_seconds);
  constexpr double longest = 0.1;
  const double left = limits_.time_left();
  const double wait = left > 0 ? std::min(left, longest) : longest;
  return pool_.next(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                       std::chrono::duration<double>(wait)));
}

}  // namespace cudadent
