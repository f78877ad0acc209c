#include "tuner/verification.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/base/cancellation.h"
#include "runtime/launch/configuration_source.h"
#include "runtime/operators/specialization.h"
#include "tuner/cached_source.h"
#include "tuner/measurer.h"
#include "tuner/race.h"
#include "tuner/tuning_task.h"

namespace cudadent {

namespace {

constexpr std::uint64_t other_seed = 0x5EED;  // not that of a tuning run
constexpr int samples_per_round = 2;
constexpr std::size_t most_rounds = 20;

class WinnerComparison {
 public:
  WinnerComparison(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
                   const WinnerRecord& winner, const TuneOptions& options, const CheckRules& rules)
      : context_(context),
        entry_(entry),
        problem_(problem),
        winner_(winner),
        rules_(rules),
        worker_(context.open_worker ? context.open_worker(options) : nullptr),
        backend_(worker_ ? *worker_ : context.backend),
        measurer_({.backend = backend_,
                   .library = context.library,
                   .binaries = context.store,
                   .entry = entry,
                   .problem = problem,
                   .seed = other_seed,
                   .run_timeout = options.run_timeout},
                  observers_, seconds_) {}

  WinnerCheck run() {
    add(winner_.kernel_template, winner_.configuration, "winner");
    if (winner_.objective == time_objective) {  // else it need not be the fastest
      add_defaults();
      add_trials();
    }
    for (std::size_t i = 0; i < runners_.size(); ++i) measure(i);
    compare();
    judge();
    return std::move(check_);
  }

 private:
  struct Runner {
    std::optional<Specialization> specialization;
    Binary binary;
    Trial trial;
    std::unique_ptr<const Executable> executable;
    std::int64_t made_at = -1;  // Measurer::restarts() when it was prepared
  };

  void add(const std::string& kernel_template, const Values& configuration, const char* role) {
    for (const auto& entrant : check_.entrants)
      if (entrant.kernel_template == kernel_template && entrant.configuration == configuration)
        return;
    check_.entrants.push_back({.kernel_template = kernel_template,
                               .configuration = configuration,
                               .role = role,
                               .message = {},
                               .template_hash = {},
                               .specialization_hash = {},
                               .compiler = {}});
    runners_.emplace_back();
    runners_.back().trial.kernel_template = kernel_template;
    runners_.back().trial.configuration = configuration;
  }

  void add_defaults() {
    const Device& device = backend_.device();
    const SearchSpace space = search_space(entry_, problem_, device, {});
    for (const auto& member : space.members())
      if (const auto configuration =
              default_configuration(*member.kernel_template, problem_, device))
        add(member.kernel_template->name, *configuration, "default");
  }

  void add_trials() {
    auto records = context_.store.trials(winner_.problem.op, winner_.problem.problem_key,
                                         winner_.problem.device_kind);
    std::erase_if(records, [&](const TrialRecord& record) {
      const auto kernel = entry_.template_named(record.trial.kernel_template);
      return record.trial.status != TrialStatus::ok || kernel == nullptr ||
             kernel->hash != record.template_hash || record.measurement != backend_.measurement();
    });
    std::stable_sort(records.begin(), records.end(),
                     [](const auto& a, const auto& b) { return a.trial.median < b.trial.median; });
    const std::size_t enough = check_.entrants.size() + rules_.challengers;
    for (const auto& record : records)
      if (check_.entrants.size() < enough)
        add(record.trial.kernel_template, record.trial.configuration, "trial");
  }

  // Verifies, and times a first time.
  void measure(std::size_t i) {
    Runner& runner = runners_[i];
    Trial& trial = runner.trial;
    try {
      const auto kernel = entry_.template_named(trial.kernel_template);
      runner.specialization.emplace(
          specialize(kernel, problem_, trial.configuration, backend_.device()));
      check_.entrants[i].template_hash = kernel->hash;
      check_.entrants[i].specialization_hash = runner.specialization->hash;
      runner.binary = obtain_binary(backend_, context_.store, *runner.specialization);
      check_.entrants[i].compiler = runner.binary.compiler;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::compiler_unavailable || error.code() == ErrorCode::cancelled)
        throw;
      trial.status = status_before_running(error.code());
      trial.message = error.what();
      return;
    }
    measurer_.measure(*runner.specialization, runner.binary, 0, trial);
  }

  // Seconds of one turn; nothing when the entrant failed.
  std::optional<double> turn(Runner& runner) {
    Trial& trial = runner.trial;
    if (trial.status != TrialStatus::ok || measurer_.lost()) return std::nullopt;
    if (runner.made_at != measurer_.restarts()) {
      runner.executable = measurer_.prepare(*runner.specialization, runner.binary, trial);
      runner.made_at = measurer_.restarts();
    }
    if (!runner.executable || trial.status != TrialStatus::ok) return std::nullopt;
    auto samples = measurer_.time(*runner.executable, samples_per_round, 0, trial);
    if (samples.empty()) return std::nullopt;
    return *std::min_element(samples.begin(), samples.end());
  }

  void compare() {
    Race race(runners_.size(), {.indifference = rules_.margin / 2, .most_rounds = most_rounds});
    do race.run_round([&](std::size_t entrant) { return turn(runners_[entrant]); });
    while (!race.decided());
    if (race.running().empty() || race.rounds() == 0) return;
    check_.best = race.leader();
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      const double slowdown = race.slowdown(i);
      if (slowdown <= 0) continue;
      check_.entrants[i].seconds = race.median_seconds(check_.best) * slowdown;
      check_.entrants[i].slowdown = slowdown;
    }
    check_.entrants[check_.best].seconds = race.median_seconds(check_.best);
    check_.entrants[check_.best].slowdown = 1;
  }

  void judge() {
    for (std::size_t i = 0; i < runners_.size(); ++i) {
      check_.entrants[i].status = runners_[i].trial.status;
      check_.entrants[i].message = runners_[i].trial.message;
      if (runners_[i].trial.status != TrialStatus::ok) check_.entrants[i].seconds = 0;
    }
    const auto& winner = check_.entrants.front();
    // What the machine did, or may have done, is no reason to replace a winner.
    if (winner.status == TrialStatus::disturbed || winner.status == TrialStatus::timeout ||
        winner.status == TrialStatus::compile_timeout)
      throw Error(
          winner.status == TrialStatus::disturbed ? ErrorCode::machine_failed
                                                  : ErrorCode::timed_out,
          fmt::format("could not be judged: {}: {}", name_of(winner.status), winner.message));
    const double slower = winner.slowdown;  // than the best
    if (winner.status != TrialStatus::ok) {
      check_.state = WinnerState::fails;
      check_.message = fmt::format("{}: {}", name_of(winner.status), winner.message);
    } else if (slower > 1 + rules_.margin) {
      check_.state = WinnerState::loses;
      check_.message =
          fmt::format("{:.1f} % slower than the {} {}", 100 * (slower - 1),
                      check_.entrants[check_.best].role == "default" ? "default of" : "trial of",
                      check_.entrants[check_.best].kernel_template);
    }
    if (slower > 0)
      for (auto& entrant : check_.entrants) entrant.slowdown /= slower;
  }

  const TuningContext& context_;
  const OperatorEntry& entry_;
  const Problem& problem_;
  const WinnerRecord& winner_;
  const CheckRules rules_;
  const std::unique_ptr<Backend> worker_;
  Backend& backend_;
  Observers observers_;  // none
  TuneSeconds seconds_;  // nobody asks where the time goes
  Measurer measurer_;
  WinnerCheck check_;
  std::vector<Runner> runners_;  // of check_.entrants
};

}  // namespace

std::string_view name_of(WinnerState state) noexcept {
  switch (state) {
    case WinnerState::wins:
      return "wins";
    case WinnerState::loses:
      return "loses";
    case WinnerState::fails:
      return "fails";
    case WinnerState::outdated:
      return "outdated";
  }
  return "unknown";
}

WinnerCheck check_winner(const TuningContext& context, const OperatorEntry& entry,
                         const Problem& problem, const WinnerRecord& winner,
                         const TuneOptions& options, const CheckRules& rules) {
  const Cancellation scope(options.cancelled);
  if (auto reason = why_outdated(entry, problem, winner, context.backend.device());
      !reason.empty()) {
    WinnerCheck check;
    check.state = WinnerState::outdated;
    check.message = std::move(reason);
    return check;
  }
  return WinnerComparison(context, entry, problem, winner, options, rules).run();
}

WinnerRecord better_winner(const WinnerRecord& winner, const WinnerCheck& check) {
  WinnerRecord better = winner;
  const auto& best = check.entrants.at(check.best);
  better.kernel_template = best.kernel_template;
  better.template_hash = best.template_hash;
  better.configuration = best.configuration;
  better.specialization_hash = best.specialization_hash;
  better.compiler = best.compiler;
  better.seconds = best.seconds;
  better.default_seconds = 0;
  for (const auto& entrant : check.entrants)
    if (entrant.role == "default" && entrant.kernel_template == best.kernel_template)
      better.default_seconds = entrant.seconds;
  better.created.clear();
  better.layer.clear();
  return better;
}

}  // namespace cudadent
