#include "tuner/finals.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/language/value.h"
#include "tuner/compile_pool.h"
#include "tuner/race.h"
#include "tuner/statistics.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

using Clock = TuningRun::Clock;

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
  explicit Finals(TuningRun& run) : run_(run) {}

  void choose_winner() {
    if (std::none_of(run_.result.trials.begin(), run_.result.trials.end(),
                     [](const Trial& trial) { return trial.status == TrialStatus::ok; }))
      fail_for_all();
    auto finalists =
        run_.lost() || run_.cancelled() ? std::vector<Finalist>() : compile_finalists();
    const Race result = race(finalists);
    if (run_.cancelled()) {
      run_.result.stopped_by = "cancelled";
      if (!run_.context.cancelled_runs_have_winners) throw_cancelled();
    }
    if (result.running().empty() || result.rounds() == 0) {
      if (!run_.cancelled())
        run_.log(LogLevel::warning,
                 fmt::format("{}: the device failed before the best candidates could be compared; "
                             "the winner is the one with the lowest median so far",
                             run_.result.problem));
      return take_best_trial();
    }
    const std::size_t best = result.leader();
    const auto& member = run_.space->member_of(finalists[best].candidate);
    run_.result.winner = {member.kernel_template->name,
                          finalists[best].specialization.configuration, result.median_seconds(best),
                          Provenance::tuned};
    for (std::size_t i = 0; i < finalists.size(); ++i)
      if (run_.is_default(finalists[i].candidate) &&
          &run_.space->member_of(finalists[i].candidate) == &member)
        run_.result.default_seconds = run_.result.winner.seconds * result.slowdown(i);
    store_winner(finalists[best].specialization.hash, *member.kernel_template);
  }

 private:
  // The best few, and the defaults, by their medians.
  [[nodiscard]] std::vector<Candidate> final_candidates() const {
    std::vector<std::pair<double, Candidate>> ranking;
    for (const auto& [candidate, index] : run_.trials)
      if (run_.result.trials[index].status == TrialStatus::ok)
        ranking.emplace_back(run_.result.trials[index].median, candidate);
    std::sort(ranking.begin(), ranking.end());
    std::vector<Candidate> chosen;
    for (const auto& [seconds, candidate] : ranking)
      if (chosen.size() < finalist_count && seconds <= finalist_margin * ranking.front().first)
        chosen.push_back(candidate);
    for (const auto& [seconds, candidate] : ranking)
      if (run_.is_default(candidate) && std::count(chosen.begin(), chosen.end(), candidate) == 0)
        chosen.push_back(candidate);
    return chosen;
  }

  // Compiled anew only when recalled from a run whose binaries were not kept.
  std::vector<Finalist> compile_finalists() {
    std::vector<Finalist> finalists;
    const auto candidates = final_candidates();
    CompilePool pool(*run_.backend, run_.binaries, static_cast<int>(candidates.size()));
    for (const Candidate candidate : candidates)
      pool.submit(candidate, run_.specialization(candidate));
    while (pool.under_way() > 0 && !run_.cancelled()) {
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
    Measurer& measurer = *run_.measurer;
    Trial& trial = run_.result.trials[run_.trials.at(finalist.candidate)];
    if (finalist.made_at != measurer.restarts()) {
      finalist.executable = measurer.prepare(finalist.specialization, finalist.binary, trial);
      finalist.made_at = measurer.restarts();
      if (finalist.executable)  // warm up
        measurer.time(*finalist.executable, 1, run_.best, trial);
    }
    std::vector<double> samples;
    if (trial.status == TrialStatus::ok && finalist.executable && !measurer.lost() &&
        finalist.made_at == measurer.restarts())
      samples = measurer.time(*finalist.executable, samples_a_round, run_.best, trial);
    if (!samples.empty()) return median(samples);
    run_.log(LogLevel::warning,
             fmt::format("{}: {}", finalist.specialization.description, trial.message));
    run_.doubt(finalist.candidate, trial);
    run_.store(finalist.candidate, finalist.specialization.hash, &finalist.binary, trial);
    return std::nullopt;
  }

  // Round after round over all that still may win, so that a drift of the clock hits each alike.
  Race race(std::vector<Finalist>& finalists) {
    Race race(finalists.size());
    const auto start = Clock::now();
    const double budget = run_.options.budget.seconds;
    const double limit = budget > 0 && std::isfinite(budget) ? final_share * budget : final_seconds;
    try {
      while (!race.decided() && !run_.lost() && !run_.cancelled()) {
        race.run_round([&](std::size_t entrant) { return turn(finalists[entrant]); });
        run_.report("finalists");
        if (race.rounds() >= 3 && seconds_since(start) > limit) break;
      }
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cancelled) throw;  // else the rounds that are whole count
    }
    return race;
  }

  void take_best_trial() {
    const auto& trials = run_.result.trials;
    const auto best =
        std::min_element(run_.trials.begin(), run_.trials.end(), [&](auto& a, auto& b) {
          const Trial &left = trials[a.second], &right = trials[b.second];
          const auto rank = [](const Trial& trial) {
            return std::pair(trial.status != TrialStatus::ok, trial.median);
          };
          return rank(left) < rank(right);
        });
    const Trial& trial = trials[best->second];
    for (const Candidate candidate : run_.defaults) {
      const auto found = run_.trials.find(candidate);
      if (found == run_.trials.end() ||
          &run_.space->member_of(candidate) != &run_.space->member_of(best->first))
        continue;
      const Trial& standard = trials[found->second];
      if (standard.status == TrialStatus::ok) run_.result.default_seconds = standard.median;
    }
    run_.result.winner = {trial.kernel_template, trial.configuration, trial.median,
                          Provenance::tuned};
    store_winner(run_.specialization(best->first).hash,
                 *run_.space->member_of(best->first).kernel_template);
  }

  void store_winner(const std::string& specialization_hash, const KernelTemplate& kernel) {
    WinnerRecord winner;
    winner.problem = run_.record;
    winner.template_hash = kernel.hash;
    winner.kernel_template = kernel.name;
    winner.configuration = run_.result.winner.configuration;
    winner.seconds = run_.result.winner.seconds;
    winner.default_seconds = run_.result.default_seconds;
    // Of the compiler's own making, as RunBinaries sees to.
    winner.compiler = run_.compiler;
    winner.specialization_hash = specialization_hash;
    winner.device_name = run_.device.name;
    winner.driver = run_.device.driver;
    winner.uuid = run_.device.uuid;
    if (const auto binary = run_.binaries.find_binary(specialization_hash))
      run_.binaries.put_binary(*binary);
    run_.remember([&] { run_.context.store.put_winner(winner); });
  }

  [[noreturn]] void throw_cancelled() const {
    throw Error(
        ErrorCode::cancelled,
        fmt::format("{}: cancelled after {} configurations; tuning it again goes on from there",
                    run_.result.problem, run_.result.trials.size()));
  }

  [[noreturn]] void fail_for_all() const {
    const TuneResult& result = run_.result;
    if (run_.cancelled()) throw_cancelled();
    if (result.trials.empty())
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}: nothing was measured (stopped by {}). Allow a larger budget.",
                              result.problem, result.stopped_by));
    std::map<std::string_view, int> counts;
    for (const auto& trial : result.trials) ++counts[name_of(trial.status)];
    std::vector<std::string> parts;
    for (const auto& [status, count] : counts) parts.push_back(fmt::format("{} {}", count, status));
    const Trial& first = result.trials.front();
    const ErrorCode code = first.status == TrialStatus::compile_error ? ErrorCode::compile_failed
                           : first.status == TrialStatus::disturbed   ? ErrorCode::machine_failed
                                                                      : ErrorCode::launch_failed;
    throw Error(
        code,
        fmt::format("{}: no configuration works ({}); the first was {} {}: {}", result.problem,
                    fmt::join(parts, ", "), first.kernel_template, to_text(first.configuration),
                    first.message.substr(0, first.message.find('\n'))),
        first.message);
  }

  TuningRun& run_;
};

}  // namespace

void choose_winner(TuningRun& run) { Finals(run).choose_winner(); }

}  // namespace cudadent
