#include "tuner/finals.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/language/value.h"
#include "tuner/compile_pool.h"
#include "tuner/race.h"
#include "tuner/search_limits.h"
#include "tuner/statistics.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

using Clock = TuningTask::Clock;

constexpr std::size_t finalist_count = 8;
constexpr double finalist_margin = 1.06;  // of the best
constexpr int samples_a_round = 3;
constexpr double final_seconds = 5;  // of runs without a time budget

struct Finalist {
  Candidate candidate = 0;
  Specialization specialization;
  Binary binary;
  std::unique_ptr<const Executable> executable;
  std::int64_t made_at = -1;  // Measurer::restarts() when it was prepared
};

class Finals {
 public:
  Finals(const TuningTask& task, const RunSpace& space, Laboratory& laboratory, TrialLog& log)
      : task_(task), space_(space), laboratory_(laboratory), log_(log) {}

  std::optional<Outcome> run() {
    auto finalists =
        laboratory_.lost() || task_.cancelled() ? std::vector<Finalist>() : compile_finalists();
    const Race result = race(finalists);
    if (result.running().empty() || result.rounds() == 0) return std::nullopt;
    const std::size_t best = result.leader();
    Outcome outcome{finalists[best].candidate, result.median_seconds(best), 0};
    const auto& member = space_.space.member_of(outcome.candidate);
    for (std::size_t i = 0; i < finalists.size(); ++i)
      if (space_.is_default(finalists[i].candidate) &&
          &space_.space.member_of(finalists[i].candidate) == &member)
        outcome.default_seconds = outcome.seconds * result.slowdown(i);
    return outcome;
  }

 private:
  // The best few, and the defaults, by their medians.
  [[nodiscard]] std::vector<Candidate> final_candidates() const {
    std::vector<std::pair<double, Candidate>> ranking;
    for (const Candidate candidate : log_.candidates())
      if (const Trial& trial = log_.at(candidate); trial.status == TrialStatus::ok)
        ranking.emplace_back(trial.median, candidate);
    std::sort(ranking.begin(), ranking.end());
    std::vector<Candidate> chosen;
    for (const auto& [seconds, candidate] : ranking)
      if (chosen.size() < finalist_count && seconds <= finalist_margin * ranking.front().first)
        chosen.push_back(candidate);
    for (const auto& [seconds, candidate] : ranking)
      if (space_.is_default(candidate) && std::count(chosen.begin(), chosen.end(), candidate) == 0)
        chosen.push_back(candidate);
    return chosen;
  }

  // Compiled anew only when recalled from a run whose binaries were not kept.
  std::vector<Finalist> compile_finalists() {
    std::vector<Finalist> finalists;
    const auto candidates = final_candidates();
    Workshop& workshop = laboratory_.workshop();
    CompilePool pool(workshop.backend(), workshop.binaries(), static_cast<int>(candidates.size()));
    for (const Candidate candidate : candidates)
      pool.submit(candidate, specialization_of(task_, space_, candidate));
    while (pool.under_way() > 0 && !task_.cancelled()) {
      auto compiled = pool.next(Clock::now() + std::chrono::milliseconds(100));
      if (!compiled || !compiled->binary) continue;
      finalists.push_back({compiled->candidate, std::move(compiled->specialization),
                           std::move(*compiled->binary), nullptr});
    }
    // In a fixed order, whatever the order of compiling.
    std::sort(finalists.begin(), finalists.end(),
              [](const auto& a, const auto& b) { return a.candidate < b.candidate; });
    return finalists;
  }

  // Seconds of one turn; nothing when the finalist failed, which its trial then says.
  std::optional<double> turn(Finalist& finalist) {
    Measurer& measurer = laboratory_.measurer();
    Trial& trial = log_.at(finalist.candidate);
    if (finalist.made_at != measurer.restarts()) {
      finalist.executable = measurer.prepare(finalist.specialization, finalist.binary, trial);
      finalist.made_at = measurer.restarts();
      if (finalist.executable)  // warm up
        measurer.time(*finalist.executable, 1, log_.best_seconds(), trial);
    }
    std::vector<double> samples;
    if (trial.status == TrialStatus::ok && finalist.executable && !measurer.lost() &&
        finalist.made_at == measurer.restarts())
      samples = measurer.time(*finalist.executable, samples_a_round, log_.best_seconds(), trial);
    if (!samples.empty()) return median(samples);
    task_.log(LogLevel::warning,
              fmt::format("{}: {}", finalist.specialization.description, trial.message));
    log_.store(finalist.candidate, finalist.specialization.hash, &finalist.binary);
    return std::nullopt;
  }

  // Round after round over all that still may win, so that a drift of the clock hits each alike.
  Race race(std::vector<Finalist>& finalists) {
    Race race(finalists.size());
    const auto start = Clock::now();
    const double budget = task_.options.budget.seconds;
    const double limit = budget > 0 && std::isfinite(budget) ? final_share * budget : final_seconds;
    try {
      while (!race.decided() && !laboratory_.lost() && !task_.cancelled()) {
        race.run_round([&](std::size_t entrant) { return turn(finalists[entrant]); });
        log_.report("finalists");
        if (race.rounds() >= 3 && seconds_since(start) > limit) break;
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cancelled) throw;  // else the rounds that are whole count
    }
    return race;
  }

  const TuningTask& task_;
  const RunSpace& space_;
  Laboratory& laboratory_;
  TrialLog& log_;
};

[[noreturn]] void fail_for_all(const TuningTask& task, const TrialLog& log,
                               const std::string& stopped_by) {
  if (task.cancelled()) throw_cancelled(task, log);
  const std::string& problem = task.record.description;
  if (log.trials().empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: nothing was measured (stopped by {}). Allow a larger budget.",
                            problem, stopped_by));
  std::map<std::string_view, int> counts;
  for (const auto& trial : log.trials()) ++counts[name_of(trial.status)];
  std::vector<std::string> parts;
  for (const auto& [status, count] : counts) parts.push_back(fmt::format("{} {}", count, status));
  const Trial& first = log.trials().front();
  const ErrorCode code = first.status == TrialStatus::compile_error ? ErrorCode::compile_failed
                         : first.status == TrialStatus::disturbed   ? ErrorCode::machine_failed
                                                                    : ErrorCode::launch_failed;
  throw Error(
      code,
      fmt::format("{}: no configuration works ({}); the first was {} {}: {}", problem,
                  fmt::join(parts, ", "), first.kernel_template, to_text(first.configuration),
                  first.message.substr(0, first.message.find('\n'))),
      first.message);
}

}  // namespace

std::optional<Outcome> race_finalists(const TuningTask& task, const RunSpace& space,
                                      Laboratory& laboratory, TrialLog& log) {
  return Finals(task, space, laboratory, log).run();
}

Outcome best_of_trials(const TuningTask& task, const RunSpace& space, const TrialLog& log,
                       const std::string& stopped_by) {
  const auto best = log.best_candidate();
  if (!best) fail_for_all(task, log, stopped_by);
  Outcome outcome{*best, log.at(*best).median, 0};
  for (const Candidate candidate : space.defaults) {
    if (&space.kernel_template(candidate) != &space.kernel_template(*best) || !log.has(candidate))
      continue;
    const Trial& standard = log.at(candidate);
    if (standard.status == TrialStatus::ok) outcome.default_seconds = standard.median;
  }
  return outcome;
}

void store_winner(const TuningTask& task, const RunSpace& space, const Outcome& outcome,
                  Workshop& workshop, Forgiving& remember) {
  const KernelTemplate& kernel = space.kernel_template(outcome.candidate);
  WinnerRecord winner;
  winner.problem = task.record;
  winner.template_hash = kernel.hash;
  winner.kernel_template = kernel.name;
  winner.configuration = space.space.configuration(outcome.candidate);
  winner.seconds = outcome.seconds;
  winner.default_seconds = outcome.default_seconds;
  winner.compiler = workshop.compiler();  // of its own making, as RunBinaries sees to
  winner.specialization_hash = specialization_of(task, space, outcome.candidate).hash;
  winner.objective = task.options.objective;
  winner.device_name = task.device.name;
  winner.driver = task.device.driver;
  winner.uuid = task.device.uuid;
  RunBinaries& binaries = workshop.binaries();
  if (const auto binary = binaries.find_binary(winner.specialization_hash))
    binaries.put_binary(*binary);
  remember([&] { task.context.store.put_winner(winner); });
}

void throw_cancelled(const TuningTask& task, const TrialLog& log) {
  throw Error(ErrorCode::cancelled,
              fmt::format("{}: cancelled after {} configurations; tuning it again goes on from "
                          "there",
                          task.record.description, log.trials().size()));
}

}  // namespace cudadent
