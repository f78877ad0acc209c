#include "tuner/tuner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <thread>

#include "runtime/specialization.h"
#include "runtime/value.h"
#include "tuner/compile_pool.h"
#include "tuner/measurer.h"
#include "tuner/neighbours.h"
#include "tuner/prior_check.h"
#include "tuner/race.h"
#include "tuner/run_binaries.h"
#include "tuner/run_record.h"
#include "tuner/statistics.h"
#include "tuner/stopwatch.h"
#include "tuner/strategy.h"

namespace cudadent {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t finalist_count = 8;
constexpr double finalist_margin = 1.06;  // of the best
constexpr int samples_a_round = 3;
constexpr double final_share = 0.1;    // of the time budget
constexpr double final_seconds = 5;    // without one
constexpr double improvement = 0.99;   // of the best: what patience counts as progress
constexpr std::size_t hint_count = 4;  // winners that are tried first

class TuningRun {
 public:
  TuningRun(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
            const TuneOptions& options)
      : context_(context),
        entry_(entry),
        problem_(problem),
        options_(options),
        device_(context.backend.device()),
        record_(problem_record(problem, device_)) {}

  TuneResult run() {
    result_.problem = problem_.describe();
    result_.flops = problem_.flops();
    result_.bytes = problem_.bytes();
    make_space();
    open_backend();
    find_first();
    recall();
    search();
    choose_winner();
    take_stock();
    remember_([&] { context_.store.put_run(run_record(record_, *backend_, options_, result_)); });
    return std::move(result_);
  }

 private:
  void make_space() {
    const Stopwatch watch(result_.enumerate_seconds);
    space_.emplace(search_space(entry_, problem_, device_, options_.kernel_templates));
    result_.candidates = space_->size();
    strategy_ = make_strategy(options_.strategy, *space_, options_.seed);
    prior_checks_.resize(space_->members().size());
  }

  // The process that candidates run in.
  void open_backend() {
    const Stopwatch watch(result_.prepare_seconds);
    if (context_.open_worker) worker_ = context_.open_worker(options_);
    backend_ = worker_ ? worker_.get() : &context_.backend;
    result_.isolated = worker_ != nullptr;
    compiler_ = backend_->compiler();
  }

  // Lays the problem out there.
  void lay_out() {
    const Stopwatch watch(result_.prepare_seconds);
    measurer_.emplace(*backend_, context_.library, binaries_, entry_, problem_, options_.seed,
                      options_.run_timeout);
    if (measurer_->reference().empty())
      log(LogLevel::warning,
          fmt::format(
              "{}: no reference template for this device; candidates are only compared with "
              "each other",
              problem_.op->name));
  }

  // Every template's default is measured first, so that the winner can never be slower than it, then what
  // won for the tuning key (in the store, its layers, and what ships), lest it be replaced by something slower,
  // and then what won for problems like this one.
  void find_first() {
    for (const auto& member : space_->members()) {
      const auto configuration = default_configuration(*member.kernel_template, problem_, device_);
      if (!configuration) continue;
      if (const auto index = member.space.index_of(*configuration))
        defaults_.push_back(member.first + *index);
    }
    first_ = defaults_;
    // True when there is no room for more.
    const auto hint = [&](const WinnerRecord& winner) {
      if (first_.size() >= defaults_.size() + hint_count) return true;
      const auto candidate = find(winner.template_hash, winner.configuration);
      if (candidate && std::count(first_.begin(), first_.end(), *candidate) == 0)
        first_.push_back(*candidate);
      return false;
    };
    context_.store.winner(record_.op, record_.tuning_key, record_.device_kind, hint);
    for (const auto& neighbour : neighbours_of(problem_, device_, context_.store))
      if (hint(neighbour.winner)) break;
  }

  [[nodiscard]] std::optional<Candidate> find(const std::string& template_hash,
                                              const Values& configuration) const {
    for (const auto& member : space_->members()) {
      if (member.kernel_template->hash != template_hash) continue;
      if (const auto index = member.space.index_of(configuration)) return member.first + *index;
    }
    return std::nullopt;
  }

  // What earlier runs measured counts as measured.
  void recall() {
    if (options_.fresh) return;
    for (auto& record :
         context_.store.trials(record_.op, record_.problem_key, record_.device_kind)) {
      if (record.compiler != compiler_ || record.measurement != backend_->measurement()) continue;
      const auto candidate = find(record.template_hash, record.trial.configuration);
      if (!candidate || measured_.contains(*candidate)) continue;
      record.trial.from_cache = true;
      learn(*candidate, std::move(record.trial));
    }
    since_improvement_ = 0;  // patience is with this run
  }

  void learn(Candidate candidate, Trial trial) {
    const Stopwatch watch(result_.search_seconds);
    const bool ok = trial.status == TrialStatus::ok;
    strategy_->tell({candidate, ok ? std::optional(trial.median) : std::nullopt});
    if (const auto& member = space_->member_of(candidate); ok && member.prior)
      check_of(member).learn(member.prior(trial.configuration), trial.median);
    const bool better = ok && (best_ == 0 || trial.median < best_);
    if (better && (best_ == 0 || trial.median < improvement * best_))
      since_improvement_ = 0;
    else
      ++since_improvement_;
    if (better) best_ = trial.median;
    measured_[candidate] = result_.trials.size();
    result_.trials.push_back(std::move(trial));
  }

  PriorCheck& check_of(const SearchSpace::Member& member) {
    return prior_checks_[static_cast<std::size_t>(&member - space_->members().data())];
  }

  // ------------------------------------------------------------------------------- search

  [[nodiscard]] Clock::time_point search_deadline() const {
    // The final race gets the last part of the budget.
    if (options_.budget.seconds <= 0) return Clock::now() + std::chrono::hours(1);
    return start_ + std::chrono::duration_cast<Clock::duration>(
                        std::chrono::duration<double>((1 - final_share) * options_.budget.seconds));
  }

  [[nodiscard]] bool out_of_time() const {
    return options_.budget.seconds > 0 && Clock::now() >= search_deadline();
  }

  // Why to stop; empty to go on. No budget is too short for the defaults: who asks for little time must not
  // get something slower than without tuning, or nothing.
  [[nodiscard]] std::string stop_reason() const {
    if (options_.cancelled && options_.cancelled()) return "cancelled";
    if (measurer_ && measurer_->lost()) return "device lost";
    const Budget& budget = options_.budget;
    if (out_of_time() && defaults_measured()) return "time";
    if (budget.trials > 0 && new_trials_ >= budget.trials) return "trials";
    if (budget.patience > 0 && since_improvement_ >= budget.patience) return "patience";
    // Asked for a number of trials, a run makes them.
    if (budget.until_converged && budget.trials == 0 && defaults_measured() &&
        strategy_->converged())
      return "converged";
    return {};
  }

  [[nodiscard]] bool defaults_measured() const {
    return std::all_of(defaults_.begin(), defaults_.end(),
                       [&](Candidate candidate) { return measured_.contains(candidate); });
  }

  void search() {
    const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    const int workers = options_.compile_workers > 0 ? options_.compile_workers : cores;
    CompilePool pool(*backend_, binaries_, workers);
    const bool in_turns = backend_->compiling_disturbs_timing();
    // Enough in advance that no core waits, not so much that the strategy chooses blindly.
    const auto ahead = static_cast<std::size_t>(in_turns ? 4 * workers : workers + workers / 2 + 2);
    std::vector<Candidate> queue = first_;
    std::erase_if(queue, [&](Candidate candidate) { return measured_.contains(candidate); });
    // The first are compiled while the problem is laid out.
    if (stop_reason().empty()) refill(pool, queue, ahead);
    lay_out();
    while ((result_.stopped_by = stop_reason()).empty()) {
      const bool refilled = (!in_turns || pool.under_way() == 0) && refill(pool, queue, ahead);
      if (pool.under_way() == 0) {
        if (refilled) continue;  // none of them could be planned
        result_.stopped_by = "exhausted";
        break;
      }
      if (in_turns)
        evaluate_together(pool);
      else if (auto compiled = wait_for(pool);
               compiled && (!out_of_time() || is_default(compiled->candidate)))
        evaluate(std::move(*compiled));
    }
  }

  // False when there is nothing left to try.
  bool refill(CompilePool& pool, std::vector<Candidate>& queue, std::size_t ahead) {
    std::size_t wanted = ahead - std::min(ahead, pool.under_way());
    if (options_.budget.trials > 0) {
      const auto left = static_cast<std::size_t>(options_.budget.trials - new_trials_);
      wanted = std::min(wanted, left - std::min(left, pool.under_way()));
    }
    const Stopwatch watch(result_.search_seconds);
    if (out_of_time())
      std::erase_if(queue, [&](Candidate candidate) { return !is_default(candidate); });
    else if (wanted > queue.size())
      for (const Candidate candidate : strategy_->ask(wanted - queue.size()))
        queue.push_back(candidate);
    const std::size_t count = std::min(wanted, queue.size());
    for (std::size_t i = 0; i < count; ++i)
      if (submitted_.emplace(queue[i], submitted_.size()).second && !measured_.contains(queue[i]) &&
          !rule_out(queue[i]))
        submit(pool, queue[i]);
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
    return count > 0;
  }

  // Tells the strategy what the prior, corrected by what was measured, expects of a hopeless candidate,
  // instead of measuring it.
  bool rule_out(Candidate candidate) {
    if (best_ == 0 || std::count(first_.begin(), first_.end(), candidate) > 0) return false;
    const auto& member = space_->member_of(candidate);
    if (!member.prior) return false;
    const PriorCheck& check = check_of(member);
    const double predicted = member.prior(space_->configuration(candidate));
    if (!check.hopeless(predicted, best_)) return false;
    strategy_->tell({candidate, check.at_best(predicted)});
    ++result_.ruled_out;
    return true;
  }

  void submit(CompilePool& pool, Candidate candidate) {
    try {
      pool.submit(candidate, specialize_candidate(candidate));
    } catch (const Error& error) {
      // Valid by its constraints, but what it would launch is not: a trial that failed.
      Compiled failed{candidate, {}, std::nullopt, error};
      failed.specialization.configuration = space_->configuration(candidate);
      evaluate(std::move(failed));
    }
  }

  Specialization specialize_candidate(Candidate candidate) const {
    return specialize(space_->member_of(candidate).kernel_template, problem_,
                      space_->configuration(candidate), device_);
  }

  std::optional<Compiled> wait_for(CompilePool& pool) {
    const Stopwatch watch(result_.idle_seconds);
    // Short waits, so that a cancellation is heard.
    const auto soon = Clock::now() + std::chrono::milliseconds(100);
    return pool.next(out_of_time() ? soon : std::min(search_deadline(), soon));
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
      if (!best_ || stop_reason().empty()) evaluate(std::move(compiled));
    }
  }

  void evaluate(Compiled compiled) {
    Trial trial;
    trial.kernel_template = space_->member_of(compiled.candidate).kernel_template->name;
    trial.configuration = compiled.specialization.configuration;
    if (compiled.error) {
      const Error& error = *compiled.error;
      if (error.code() == ErrorCode::compiler_unavailable) throw error;
      trial.status = status_before_running(error.code());
      trial.message = error.detail().empty() ? error.what()
                                             : fmt::format("{}\n{}", error.what(), error.detail());
    } else {
      trial.compile_seconds = compiled.binary->compile_seconds;
      result_.compile_seconds += trial.compile_seconds;
      measurer_->measure(compiled.specialization, *compiled.binary, best_, trial);
    }
    store(compiled.candidate, compiled.specialization.hash,
          compiled.binary ? compiled.binary->resources : std::vector<KernelResources>(), trial);
    if (trial.status == TrialStatus::ok) binaries_.keep(std::move(*compiled.binary), trial.median);
    ++new_trials_;
    learn(compiled.candidate, std::move(trial));
    report("search");
  }

  void store(Candidate candidate, const std::string& specialization_hash,
             const std::vector<KernelResources>& resources, const Trial& trial) {
    TrialRecord record{record_,
                       space_->member_of(candidate).kernel_template->hash,
                       compiler_,
                       backend_->measurement(),
                       specialization_hash,
                       resources,
                       trial,
                       {}};
    remember_([&] { context_.store.put_trial(record); });
  }

  void report(const char* phase) {
    if (!options_.on_progress) return;
    TuneProgress progress;
    progress.measured = static_cast<std::int64_t>(result_.trials.size());
    progress.failed = std::count_if(result_.trials.begin(), result_.trials.end(),
                                    [](const Trial& t) { return t.status != TrialStatus::ok; });
    progress.candidates = space_->size();
    progress.elapsed = seconds_since(start_);
    progress.best = best_;
    progress.phase = phase;
    progress.last = result_.trials.empty() ? nullptr : &result_.trials.back();
    options_.on_progress(progress);
  }

  // ------------------------------------------------------------------------------- finalists

  struct Finalist {
    Candidate candidate = 0;
    Specialization specialization;
    Binary binary;
    std::unique_ptr<const Executable> executable;
    std::int64_t made_at = -1;  // Measurer::restarts() when it was prepared
  };

  // The best few, and the defaults, by their medians.
  [[nodiscard]] std::vector<Candidate> final_candidates() const {
    std::vector<std::pair<double, Candidate>> ranking;
    for (const auto& [candidate, index] : measured_)
      if (result_.trials[index].status == TrialStatus::ok)
        ranking.emplace_back(result_.trials[index].median, candidate);
    std::sort(ranking.begin(), ranking.end());
    std::vector<Candidate> chosen;
    for (const auto& [seconds, candidate] : ranking)
      if (chosen.size() < finalist_count && seconds <= finalist_margin * ranking.front().first)
        chosen.push_back(candidate);
    for (const auto& [seconds, candidate] : ranking)
      if (is_default(candidate) && std::count(chosen.begin(), chosen.end(), candidate) == 0)
        chosen.push_back(candidate);
    return chosen;
  }

  [[nodiscard]] bool is_default(Candidate candidate) const {
    return std::count(defaults_.begin(), defaults_.end(), candidate) > 0;
  }

  // Compiled anew only when recalled from a run whose binaries were not kept.
  std::vector<Finalist> compile_finalists() {
    std::vector<Finalist> finalists;
    const auto candidates = final_candidates();
    CompilePool pool(*backend_, binaries_, static_cast<int>(candidates.size()));
    for (const Candidate candidate : candidates) submit(pool, candidate);
    while (auto compiled = pool.next(Clock::now() + std::chrono::hours(1))) {
      if (!compiled->binary) continue;
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
    Trial& trial = result_.trials[measured_.at(finalist.candidate)];
    if (finalist.made_at != measurer_->restarts()) {
      finalist.executable = measurer_->prepare(finalist.specialization, finalist.binary, trial);
      finalist.made_at = measurer_->restarts();
      if (finalist.executable)  // warm up
        measurer_->time(*finalist.executable, 1, best_, trial);
    }
    std::vector<double> samples;
    if (trial.status == TrialStatus::ok && finalist.executable && !measurer_->lost() &&
        finalist.made_at == measurer_->restarts())
      samples = measurer_->time(*finalist.executable, samples_a_round, best_, trial);
    if (!samples.empty()) return median(samples);
    log(LogLevel::warning,
        fmt::format("{}: {}", finalist.specialization.description, trial.message));
    store(finalist.candidate, finalist.specialization.hash, finalist.binary.resources, trial);
    return std::nullopt;
  }

  // Round after round over all that still may win, so that a drift of the clock hits each alike.
  Race race(std::vector<Finalist>& finalists) {
    Race race(finalists.size());
    const auto start = Clock::now();
    const double limit =
        options_.budget.seconds > 0 ? final_share * options_.budget.seconds : final_seconds;
    while (!race.decided() && !measurer_->lost()) {
      race.run_round([&](std::size_t entrant) { return turn(finalists[entrant]); });
      report("finalists");
      if (race.rounds() >= 3 && seconds_since(start) > limit) break;
    }
    return race;
  }

  void choose_winner() {
    if (std::none_of(result_.trials.begin(), result_.trials.end(),
                     [](const Trial& trial) { return trial.status == TrialStatus::ok; }))
      fail_for_all();
    auto finalists = measurer_->lost() ? std::vector<Finalist>() : compile_finalists();
    const Race result = race(finalists);
    if (result.running().empty() || result.rounds() == 0) {
      log(LogLevel::warning,
          fmt::format("{}: the device failed before the best candidates could be compared; the "
                      "winner is the one with the lowest median so far",
                      result_.problem));
      return take_best_trial();
    }
    const std::size_t best = result.leader();
    const auto& member = space_->member_of(finalists[best].candidate);
    result_.winner = {member.kernel_template->name, finalists[best].specialization.configuration,
                      result.median_seconds(best), Provenance::tuned};
    for (std::size_t i = 0; i < finalists.size(); ++i)
      if (is_default(finalists[i].candidate) &&
          &space_->member_of(finalists[i].candidate) == &member)
        result_.default_seconds = result_.winner.seconds * result.slowdown(i);
    store_winner(finalists[best].specialization.hash, *member.kernel_template);
  }

  void take_best_trial() {
    const auto best = std::min_element(measured_.begin(), measured_.end(), [&](auto& a, auto& b) {
      const Trial &left = result_.trials[a.second], &right = result_.trials[b.second];
      const auto rank = [](const Trial& trial) {
        return std::pair(trial.status != TrialStatus::ok, trial.median);
      };
      return rank(left) < rank(right);
    });
    const Trial& trial = result_.trials[best->second];
    result_.winner = {trial.kernel_template, trial.configuration, trial.median, Provenance::tuned};
    store_winner(specialize_candidate(best->first).hash,
                 *space_->member_of(best->first).kernel_template);
  }

  void store_winner(const std::string& specialization_hash, const KernelTemplate& kernel) {
    WinnerRecord winner;
    winner.problem = record_;
    winner.template_hash = kernel.hash;
    winner.kernel_template = kernel.name;
    winner.configuration = result_.winner.configuration;
    winner.seconds = result_.winner.seconds;
    winner.default_seconds = result_.default_seconds;
    winner.compiler = compiler_;
    winner.specialization_hash = specialization_hash;
    winner.device_name = device_.name;
    winner.driver = device_.driver;
    winner.uuid = device_.uuid;
    if (const auto binary = binaries_.find_binary(specialization_hash))
      binaries_.put_binary(*binary);
    remember_([&] { context_.store.put_winner(winner); });
  }

  void take_stock() {
    result_.verify_seconds = measurer_->verify_seconds();
    result_.measure_seconds = measurer_->measure_seconds();
    result_.prepare_seconds += measurer_->recover_seconds();
    result_.worker_restarts = measurer_->restarts();
    result_.elapsed = seconds_since(start_);
  }

  [[noreturn]] void fail_for_all() const {
    if (result_.trials.empty())
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}: nothing was measured (stopped by {}). Allow a larger budget.",
                              result_.problem, result_.stopped_by));
    std::map<std::string_view, int> counts;
    for (const auto& trial : result_.trials) ++counts[name_of(trial.status)];
    std::vector<std::string> parts;
    for (const auto& [status, count] : counts) parts.push_back(fmt::format("{} {}", count, status));
    const Trial& first = result_.trials.front();
    const bool compiling = first.status == TrialStatus::compile_error;
    throw Error(
        compiling ? ErrorCode::compile_failed : ErrorCode::launch_failed,
        fmt::format("{}: no configuration works ({}); the first was {} {}: {}", result_.problem,
                    fmt::join(parts, ", "), first.kernel_template, to_text(first.configuration),
                    first.message.substr(0, first.message.find('\n'))),
        first.message);
  }

  void log(LogLevel level, const std::string& message) const {
    if (context_.log) context_.log(level, message);
  }

  const TuningContext& context_;
  const OperatorEntry& entry_;
  const Problem& problem_;
  const TuneOptions& options_;
  const Device& device_;
  const ProblemRecord record_;
  const Clock::time_point start_ = Clock::now();

  Forgiving remember_{context_.log};
  RunBinaries binaries_{context_.store, remember_};
  std::unique_ptr<Backend> worker_;  // null: in this process
  Backend* backend_ = nullptr;       // where candidates run
  std::string compiler_;
  std::optional<Measurer> measurer_;
  std::optional<SearchSpace> space_;
  std::unique_ptr<Strategy> strategy_;
  std::vector<PriorCheck> prior_checks_;  // by member of the space
  std::vector<Candidate> defaults_, first_;
  std::map<Candidate, std::size_t> measured_;   // index into result_.trials
  std::map<Candidate, std::size_t> submitted_;  // with its place in the order
  std::int64_t new_trials_ = 0, since_improvement_ = 0;
  double best_ = 0;  // seconds
  TuneResult result_;
};

}  // namespace

ProblemRecord problem_record(const Problem& problem, const Device& device) {
  return {problem.op->name, problem.tuning_key(), problem.key(), problem.describe(), device.kind()};
}

TuneResult tune(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
                const TuneOptions& options) {
  if (problem.has_no_work())
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("{} computes no element: there is nothing to tune", problem.describe()));
  return TuningRun(context, entry, problem, options).run();
}

}  // namespace cudadent
