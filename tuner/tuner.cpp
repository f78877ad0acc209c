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
#include "tuner/run_record.h"
#include "tuner/statistics.h"
#include "tuner/strategy.h"
#include "tuner/workbench.h"

namespace cudadent {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Adds the time it lives to a figure.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total) {}
  ~Stopwatch() { total_ += seconds_since(start_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  Clock::time_point start_ = Clock::now();
};

// How long a candidate is measured. Medians of ten runs of one kernel scatter by 1.5 to 4 %, so the
// search settles for that and the final comparison tells close ones apart.
constexpr int first_samples = 3, more_samples = 3, most_samples = 15;
constexpr double stable_spread = 0.02;
constexpr double losing_factor = 1.25;          // of the best: not measured further
constexpr double most_candidate_seconds = 1.0;  // of measuring
constexpr std::size_t finalist_count = 6;
constexpr double finalist_margin = 1.10;  // of the best
constexpr int final_rounds = 8, samples_a_round = 2;
constexpr double improvement = 0.99;  // of the best: what patience counts as progress

TrialStatus status_of(ErrorCode code) {
  return code == ErrorCode::compile_failed ? TrialStatus::compile_error
                                           : TrialStatus::invalid_resources;
}

class TuningRun {
  // Keeps binaries as remember() does.
  class Binaries : public BinaryStore {
   public:
    explicit Binaries(TuningRun& run) : run_(run) {}
    std::optional<Binary> find_binary(const std::string& specialization_hash) override {
      return run_.context_.store.find_binary(specialization_hash);
    }
    void put_binary(const Binary& binary) override {
      run_.remember([&] { run_.context_.store.put_binary(binary); });
    }

   private:
    TuningRun& run_;
  };

 public:
  TuningRun(const TuningContext& context, const OperatorEntry& entry, const Problem& problem,
            const TuneOptions& options)
      : context_(context),
        entry_(entry),
        problem_(problem),
        options_(options),
        device_(context.backend.device()),
        record_(problem_record(problem, device_)),
        compiler_(context.backend.compiler()) {}

  TuneResult run() {
    result_.problem = problem_.describe();
    result_.flops = problem_.flops();
    result_.bytes = problem_.bytes();
    make_space();
    Workbench workbench = make_workbench();
    workbench_ = &workbench;
    find_defaults();
    recall();
    search();
    choose_winner();
    result_.elapsed = seconds_since(start_);
    remember(
        [&] { context_.store.put_run(run_record(record_, context_.backend, options_, result_)); });
    return std::move(result_);
  }

 private:
  void make_space() {
    const Stopwatch watch(result_.enumerate_seconds);
    space_.emplace(search_space(entry_, problem_, device_, options_.kernel_templates));
    result_.candidates = space_->size();
    strategy_ = make_strategy(options_.strategy, *space_, options_.seed);
  }

  Workbench make_workbench() {
    const Stopwatch watch(result_.verify_seconds);
    Workbench workbench(context_.backend, context_.library, binaries_, entry_, problem_,
                        options_.seed);
    if (workbench.reference().empty())
      log(LogLevel::warning,
          fmt::format(
              "{}: no reference template for this device; candidates are only compared with "
              "each other",
              problem_.op->name));
    return workbench;
  }

  // Every template's default is measured first, so that the winner can never be slower than it.
  void find_defaults() {
    for (const auto& member : space_->members()) {
      const auto configuration = default_configuration(*member.kernel_template, problem_, device_);
      if (!configuration) continue;
      if (const auto index = member.space.index_of(*configuration))
        defaults_.push_back(member.first + *index);
    }
  }

  // What earlier runs measured counts as measured.
  void recall() {
    if (options_.fresh) return;
    for (auto& record :
         context_.store.trials(record_.op, record_.problem_key, record_.device_kind)) {
      if (record.compiler != compiler_ || record.measurement != context_.backend.measurement())
        continue;
      for (const auto& member : space_->members()) {
        if (member.kernel_template->hash != record.template_hash) continue;
        const auto index = member.space.index_of(record.trial.configuration);
        if (!index) continue;
        record.trial.from_cache = true;
        learn(member.first + *index, std::move(record.trial));
      }
    }
  }

  void learn(Candidate candidate, Trial trial) {
    const Stopwatch watch(result_.search_seconds);
    const bool ok = trial.status == TrialStatus::ok;
    strategy_->tell({candidate, ok ? std::optional(trial.median) : std::nullopt});
    const bool better = ok && (best_ == 0 || trial.median < best_);
    if (better && (best_ == 0 || trial.median < improvement * best_))
      since_improvement_ = 0;
    else
      ++since_improvement_;
    if (better) best_ = trial.median;
    measured_[candidate] = result_.trials.size();
    result_.trials.push_back(std::move(trial));
  }

  // ------------------------------------------------------------------------------- search

  [[nodiscard]] Clock::time_point search_deadline() const {
    // The final comparison gets the last tenth of the budget.
    if (options_.budget.seconds <= 0) return Clock::now() + std::chrono::hours(1);
    return start_ + std::chrono::duration_cast<Clock::duration>(
                        std::chrono::duration<double>(0.9 * options_.budget.seconds));
  }

  // Why to stop; empty to go on.
  [[nodiscard]] std::string stop_reason() const {
    if (options_.cancelled && options_.cancelled()) return "cancelled";
    if (device_lost_) return "device lost";
    const Budget& budget = options_.budget;
    if (budget.seconds > 0 && Clock::now() >= search_deadline()) return "time";
    if (budget.trials > 0 && new_trials_ >= budget.trials) return "trials";
    if (budget.patience > 0 && since_improvement_ >= budget.patience) return "patience";
    return {};
  }

  void search() {
    const int cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    const int workers = options_.compile_workers > 0 ? options_.compile_workers : cores;
    CompilePool pool(context_.backend, context_.store, workers);
    const bool in_turns = context_.backend.compiling_disturbs_timing();
    // Enough in advance that no core waits, not so much that the strategy chooses blindly.
    const auto ahead = static_cast<std::size_t>(in_turns ? 4 * workers : workers + 4);
    std::vector<Candidate> queue = defaults_;
    std::erase_if(queue, [&](Candidate candidate) { return measured_.contains(candidate); });
    while ((result_.stopped_by = stop_reason()).empty()) {
      const bool refilled = (!in_turns || pool.under_way() == 0) && refill(pool, queue, ahead);
      if (pool.under_way() == 0) {
        if (refilled) continue;  // none of them could be planned
        result_.stopped_by = "exhausted";
        break;
      }
      if (in_turns)
        evaluate_together(pool);
      else if (auto compiled = wait_for(pool))
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
    if (wanted > queue.size())
      for (const Candidate candidate : strategy_->ask(wanted - queue.size()))
        queue.push_back(candidate);
    const std::size_t count = std::min(wanted, queue.size());
    for (std::size_t i = 0; i < count; ++i)
      if (submitted_.emplace(queue[i], submitted_.size()).second && !measured_.contains(queue[i]))
        submit(pool, queue[i]);
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
    return count > 0;
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
    return pool.next(std::min(search_deadline(), Clock::now() + std::chrono::milliseconds(100)));
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
      if (compiled.error->code() == ErrorCode::compiler_unavailable) throw *compiled.error;
      trial.status = status_of(compiled.error->code());
      trial.message = with_detail(*compiled.error);
    } else {
      trial.compile_seconds = compiled.binary->compile_seconds;
      result_.compile_seconds += trial.compile_seconds;
      measure(compiled, trial);
    }
    store(compiled, trial);
    ++new_trials_;
    learn(compiled.candidate, std::move(trial));
    report("search");
  }

  static std::string with_detail(const Error& error) {
    return error.detail().empty() ? error.what()
                                  : fmt::format("{}\n{}", error.what(), error.detail());
  }

  void measure(const Compiled& compiled, Trial& trial) {
    try {
      const auto executable = context_.backend.prepare(context_.backend.load(*compiled.binary),
                                                       compiled.specialization.plan);
      trial.status = TrialStatus::launch_error;  // until it has run
      verify(*executable, trial);
      if (trial.status == TrialStatus::ok) time(*executable, trial);
    } catch (const Error& error) {
      if (trial.status == TrialStatus::ok) trial.status = TrialStatus::invalid_resources;
      trial.message = with_detail(error);
      // A kernel that faulted leaves the context unusable: the run ends with what it has.
      device_lost_ = context_.backend.lost() != Loss::none;
      if (device_lost_) trial.status = TrialStatus::fault;
    }
  }

  void verify(const Executable& executable, Trial& trial) {
    const Stopwatch watch(result_.verify_seconds);
    const Verdict verdict = workbench_->verify(executable);
    trial.error = verdict.error;
    trial.message = verdict.complaint;
    trial.status = verdict.complaint.empty() ? TrialStatus::ok : TrialStatus::wrong_result;
  }

  void time(const Executable& executable, Trial& trial) {
    const Stopwatch watch(result_.measure_seconds);
    const auto start = Clock::now();
    while (true) {
      const auto more =
          workbench_->time(executable, trial.samples.empty() ? first_samples : more_samples);
      trial.samples.insert(trial.samples.end(), more.begin(), more.end());
      trial.median = median(trial.samples);
      trial.spread = relative_spread(trial.samples);
      const bool losing = best_ > 0 && trial.median > losing_factor * best_;
      const bool stable = trial.samples.size() >= 6 && trial.spread < stable_spread;
      if (losing || stable || trial.samples.size() >= most_samples ||
          seconds_since(start) > most_candidate_seconds)
        return;
    }
  }

  void store(const Compiled& compiled, const Trial& trial) {
    TrialRecord record{
        record_,
        space_->member_of(compiled.candidate).kernel_template->hash,
        compiler_,
        context_.backend.measurement(),
        compiled.specialization.hash,
        compiled.binary ? compiled.binary->resources : std::vector<KernelResources>(),
        trial,
        {}};
    remember([&] { context_.store.put_trial(record); });
  }

  // A cache that cannot be written costs the memory of a result, not the result.
  template <class Write>
  void remember(Write write) {
    try {
      write();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cache_failed) throw;
      if (!std::exchange(cache_warned_, true)) log(LogLevel::warning, error.what());
    }
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
    std::vector<double> samples;
  };

  [[nodiscard]] const Trial* trial_of(Candidate candidate) const {
    const auto found = measured_.find(candidate);
    return found == measured_.end() ? nullptr : &result_.trials[found->second];
  }

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
      if (std::count(defaults_.begin(), defaults_.end(), candidate) > 0 &&
          std::count(chosen.begin(), chosen.end(), candidate) == 0)
        chosen.push_back(candidate);
    return chosen;
  }

  std::vector<Finalist> prepare_finalists() {
    std::vector<Finalist> finalists;
    CompilePool pool(context_.backend, context_.store,
                     static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
    for (const Candidate candidate : final_candidates()) submit(pool, candidate);
    while (auto compiled = pool.next(Clock::now() + std::chrono::hours(1))) {
      if (!compiled->binary) continue;
      try {
        auto executable = context_.backend.prepare(context_.backend.load(*compiled->binary),
                                                   compiled->specialization.plan);
        finalists.push_back({compiled->candidate,
                             std::move(compiled->specialization),
                             std::move(*compiled->binary),
                             std::move(executable),
                             {}});
      } catch (const Error& error) {
        log(LogLevel::warning, error.what());
      }
    }
    // In a fixed order, whatever the order of compiling.
    std::sort(finalists.begin(), finalists.end(),
              [](const auto& a, const auto& b) { return a.candidate < b.candidate; });
    return finalists;
  }

  // Round after round over all of them, so that a drift of the clock hits each alike.
  void compare_interleaved(std::vector<Finalist>& finalists) {
    const Stopwatch watch(result_.measure_seconds);
    const auto start = Clock::now();
    const double limit = options_.budget.seconds > 0 ? 0.1 * options_.budget.seconds : 10;
    for (auto& finalist : finalists) workbench_->time(*finalist.executable, 1);  // warm up
    for (int round = 0; round < final_rounds; ++round) {
      for (auto& finalist : finalists) {
        const auto more = workbench_->time(*finalist.executable, samples_a_round);
        finalist.samples.insert(finalist.samples.end(), more.begin(), more.end());
      }
      report("finalists");
      if (round >= 2 && seconds_since(start) > limit) break;
    }
  }

  void choose_winner() {
    if (std::none_of(result_.trials.begin(), result_.trials.end(),
                     [](const Trial& trial) { return trial.status == TrialStatus::ok; }))
      fail_for_all();
    auto finalists = device_lost_ ? std::vector<Finalist>() : prepare_finalists();
    if (finalists.empty())
      throw Error(
          ErrorCode::launch_failed,
          fmt::format("{}: the device failed during tuning, so that the best candidates could "
                      "not be compared. Trials so far are kept; run again.",
                      result_.problem));
    compare_interleaved(finalists);
    const auto median_of = [](const Finalist& finalist) { return median(finalist.samples); };
    const Finalist& best = *std::min_element(
        finalists.begin(), finalists.end(),
        [&](const auto& a, const auto& b) { return median_of(a) < median_of(b); });
    const auto& member = space_->member_of(best.candidate);
    for (const auto& finalist : finalists)
      if (std::count(defaults_.begin(), defaults_.end(), finalist.candidate) > 0 &&
          &space_->member_of(finalist.candidate) == &member)
        result_.default_seconds = median_of(finalist);
    result_.winner = {member.kernel_template->name, best.specialization.configuration,
                      median_of(best), Provenance::tuned};
    store_winner(best, *member.kernel_template);
  }

  void store_winner(const Finalist& best, const KernelTemplate& kernel) {
    WinnerRecord winner;
    winner.problem = record_;
    winner.template_hash = kernel.hash;
    winner.kernel_template = kernel.name;
    winner.configuration = best.specialization.configuration;
    winner.seconds = result_.winner.seconds;
    winner.default_seconds = result_.default_seconds;
    winner.compiler = compiler_;
    winner.specialization_hash = best.specialization.hash;
    winner.device_name = device_.name;
    winner.driver = device_.driver;
    winner.uuid = device_.uuid;
    remember([&] { context_.store.put_binary(best.binary); });
    remember([&] { context_.store.put_winner(winner); });
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
  const std::string compiler_;
  const Clock::time_point start_ = Clock::now();

  std::optional<SearchSpace> space_;
  std::unique_ptr<Strategy> strategy_;
  Workbench* workbench_ = nullptr;
  std::vector<Candidate> defaults_;
  std::map<Candidate, std::size_t> measured_;   // index into result_.trials
  std::map<Candidate, std::size_t> submitted_;  // with its place in the order
  std::int64_t new_trials_ = 0, since_improvement_ = 0;
  double best_ = 0;  // seconds
  bool device_lost_ = false, cache_warned_ = false;
  Binaries binaries_{*this};
  TuneResult result_;
};

}  // namespace

ProblemRecord problem_record(const Problem& problem, const Device& device) {
  return {problem.op->name, problem.tuning_key(), problem.key(), problem.describe(), device.kind()};
}

SearchSpace search_space(const OperatorEntry& entry, const Problem& problem, const Device& device,
                         const std::vector<std::string>& kernel_templates) {
  const auto reference = reference_template(entry, device.backend);
  std::vector<SearchSpace::Member> members;
  std::vector<std::string> reasons;
  const auto add = [&](const std::shared_ptr<const KernelTemplate>& kernel) {
    if (const auto unfit = why_unfit(*kernel, problem, device); !unfit.empty()) {
      reasons.push_back(fmt::format("{} requires '{}'", kernel->name, unfit));
      return;
    }
    TuningSpace space(space_definition(*kernel, problem, device));
    if (space.size() == 0) {
      reasons.push_back(fmt::format("{}: none of its {} configurations satisfies its constraints",
                                    kernel->name, space.raw_size()));
      return;
    }
    std::function<double(const Values&)> prior;
    if (kernel->prior)
      prior = [kernel, problem, facts = device.facts()](const Values& configuration) {
        try {
          const Values visible = evaluate_let(*kernel, problem, configuration, facts);
          return as_real(kernel->prior->evaluate(Scope(visible)), "prior");
        } catch (const Error&) {
          // A prior only orders candidates: where it fails, it says "last".
          return std::numeric_limits<double>::infinity();
        }
      };
    members.push_back({kernel, std::move(space), 0, std::move(prior)});
  };
  const auto wanted = [&](const std::string& name) {
    return kernel_templates.empty() || std::find(kernel_templates.begin(), kernel_templates.end(),
                                                 name) != kernel_templates.end();
  };
  for (const auto& name : kernel_templates)
    if (std::none_of(entry.templates.begin(), entry.templates.end(),
                     [&](const auto& kernel) { return kernel->name == name; }))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{}: no template \"{}\"", entry.manifest->name, name));
  for (const auto& kernel : entry.templates) {
    const bool named = !kernel_templates.empty() && wanted(kernel->name);
    if (kernel->backend == device.backend && wanted(kernel->name) && (kernel != reference || named))
      add(kernel);
  }
  if (members.empty() && reference != nullptr && wanted(reference->name)) add(reference);
  if (members.empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("no template can do {} on {}: {}", problem.describe(), device.name,
                            reasons.empty() ? "there is none for this device"
                                            : fmt::format("{}", fmt::join(reasons, "; "))));
  return SearchSpace(std::move(members));
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
