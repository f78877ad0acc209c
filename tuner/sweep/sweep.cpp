#include "tuner/sweep/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "cache/records.h"
#include "runtime/base/threads.h"
#include "runtime/language/value.h"
#include "tuner/budget.h"

namespace cudadent {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto claim_poll = std::chrono::milliseconds(200);

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const SweepDevice& device_of_kind(const std::vector<SweepDevice>& devices,
                                  const std::string& kind) {
  return *std::find_if(devices.begin(), devices.end(), [&](const SweepDevice& device) {
    return device.context.backend.device().kind() == kind;
  });
}

// In the order of the devices.
std::vector<std::string> kinds_of(const std::vector<SweepDevice>& devices) {
  std::vector<std::string> kinds;
  for (const auto& device : devices) {
    const std::string kind = device.context.backend.device().kind();
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  return kinds;
}

Winner winner_of(const Choice& choice) {
  return {choice.kernel_template->name, choice.configuration, choice.seconds, choice.provenance};
}

// Trials that a tuning run would not do again.
std::int64_t known_trials(const TuningContext& context, const OperatorEntry& entry,
                          const ProblemRecord& record) {
  const auto trials = context.store.trials(record.op, record.problem_key, record.device_kind);
  return std::count_if(trials.begin(), trials.end(), [&](const TrialRecord& trial) {
    return is_settled(trial.trial.status) && trial.measurement == context.backend.measurement() &&
           std::any_of(entry.templates.begin(), entry.templates.end(),
                       [&](const auto& kernel) { return kernel->hash == trial.template_hash; });
  });
}

// Makes the job what it can be told to be without running anything.
void look_up(SweepJob& job, const SweepDevice& device, bool fresh) {
  job.description = job.given.op;
  for (const auto& [name, value] : job.given.problem)
    job.description += " " + name + "=" + to_text(value);
  try {
    job.entry = device.context.library.find(job.given.op);
    job.problem = make_problem(job.entry->manifest, job.given.problem);
    job.description = job.problem->describe();
    job.flops = job.problem->flops();
    job.bytes = job.problem->bytes();
    const auto record = problem_record(*job.problem, device.context.backend.device());
    if (fresh) return;
    if (const auto choice = device.source.known(*job.entry, *job.problem)) {
      job.state = SweepState::known;
      job.winner = winner_of(*choice);
    } else {
      job.known_trials = known_trials(device.context, *job.entry, record);
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cache_failed) throw;
    job.state = SweepState::failed;
    job.error = error.what();
  }
}

class SweepRun {
 public:
  SweepRun(std::vector<SweepJob>& jobs, const std::vector<SweepDevice>& devices,
           const SweepOptions& options)
      : jobs_(jobs), devices_(devices), options_(options) {}

  bool run() {
    {
      // This thread serves the last device, and those that the system has no thread for.
      std::vector<std::jthread> threads;
      std::size_t next = start_threads(devices_.size() - 1, [&](std::size_t i) {
        threads.emplace_back([this, &device = devices_[i]] { serve(device); });
      });
      for (; next < devices_.size(); ++next) serve(devices_[next]);
    }
    if (failure_) std::rethrow_exception(failure_);
    return !cancelled();
  }

 private:
  struct Taken {
    SweepJob* job = nullptr;
    std::unique_ptr<Claim> claim;
    explicit operator bool() const noexcept { return job != nullptr; }
  };

  [[nodiscard]] bool cancelled() const {
    return options_.tuning.cancelled && options_.tuning.cancelled();
  }

  [[nodiscard]] double seconds_left() const {
    return options_.total_seconds - seconds_since(start_);
  }

  [[nodiscard]] bool over() const {
    return cancelled() || failure_ || (options_.total_seconds > 0 && seconds_left() <= 0);
  }

  void serve(const SweepDevice& device) {
    try {
      while (Taken taken = take(device)) {
        tune_job(device, *taken.job);
        if (device.context.backend.lost() != Loss::none && !device.context.backend.recover())
          return;
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  // The next job for the device, claimed; none when nothing is left for it.
  Taken take(const SweepDevice& device) {
    const std::string kind = device.context.backend.device().kind();
    const auto start = Clock::now();
    std::unique_lock lock(mutex_);
    while (!over()) {
      bool others_at_work = false;
      for (auto& job : jobs_) {
        if (job.state != SweepState::pending || job.device_kind != kind || job.same_as) continue;
        if (Taken taken = try_to_take(device, job)) return taken;
        others_at_work |= job.state == SweepState::pending;
      }
      if (!others_at_work) return {};
      if (seconds_since(start) > options_.wait_for_others) {
        leave_to_others(device);
        return {};
      }
      lock.unlock();
      std::this_thread::sleep_for(claim_poll);
      lock.lock();
    }
    return {};
  }

  Taken try_to_take(const SweepDevice& device, SweepJob& job) {
    auto claim =
        device.context.store.claim(problem_record(*job.problem, device.context.backend.device()));
    if (!claim) return {};
    if (!options_.tuning.fresh) {
      // Another process may have found it since the sweep looked.
      if (const auto choice = device.source.known(*job.entry, *job.problem)) {
        job.state = SweepState::elsewhere;
        job.winner = winner_of(*choice);
        if (options_.on_end) options_.on_end(job);
        return {};
      }
    }
    job.state = SweepState::running;
    job.device = device.name;
    if (options_.on_start) options_.on_start(job);
    return {&job, std::move(claim)};
  }

  void leave_to_others(const SweepDevice& device) {
    const std::string kind = device.context.backend.device().kind();
    for (auto& job : jobs_) {
      if (job.state != SweepState::pending || job.device_kind != kind || job.same_as) continue;
      job.state = SweepState::elsewhere;
      const auto holder = device.context.store.claimed_by(
          problem_record(*job.problem, device.context.backend.device()));
      job.error = holder ? fmt::format("process {} on {} has been tuning it since {}",
                                       holder->process, holder->host, holder->since)
                         : "another process was tuning it";
      if (options_.on_end) options_.on_end(job);
    }
  }

  // Of one job, with what is left of the shared one.
  Budget budget_of(const SweepDevice& device, const SweepJob& job) {
    Budget budget = job.given.budget.value_or(options_.per_problem);
    if (budget.trials > 0)
      // What it takes to reach as many as were asked for, counting those of a sweep before this one.
      budget.trials = std::max<std::int64_t>(1, budget.trials - job.known_trials);
    if (options_.total_seconds > 0) {
      const std::string kind = device.context.backend.device().kind();
      const std::lock_guard lock(mutex_);
      double priorities = job.given.priority;
      for (const auto& other : jobs_)
        if (other.state == SweepState::pending && other.device_kind == kind && !other.same_as)
          priorities += other.given.priority;
      const auto sharing = std::count_if(devices_.begin(), devices_.end(), [&](const auto& one) {
        return one.context.backend.device().kind() == kind;
      });
      const double share = share_of_budget(seconds_left(), job.given.priority, priorities,
                                           static_cast<int>(sharing));
      budget.seconds = budget.seconds > 0 ? std::min(budget.seconds, share) : share;
    }
    return budget;
  }

  void tune_job(const SweepDevice& device, SweepJob& job) {
    const auto start = Clock::now();
    TuneOptions tuning = options_.tuning;
    tuning.budget = budget_of(device, job);
    tuning.on_progress = [&](const TuneProgress& progress) {
      const std::lock_guard lock(mutex_);
      job.progress = progress;
      job.progress.last = nullptr;
      job.elapsed = seconds_since(start);
      const bool is_trial = progress.last != nullptr && progress.phase == "search";
      if (is_trial) ++job.new_trials;
      if (options_.on_progress) options_.on_progress(job, is_trial ? progress.last : nullptr);
    };
    // A winner of a run that was cut short would pass for a finished one's, and not be tuned again.
    TuningContext context = device.context;
    context.cancelled_runs_have_winners = false;
    SweepState state = SweepState::failed;
    std::string error;
    std::optional<TuneResult> result;
    try {
      result = tune(context, *job.entry, *job.problem, tuning);
      state = SweepState::tuned;
    } catch (const Error& failure) {
      if (failure.code() == ErrorCode::cancelled)
        state = SweepState::interrupted;
      else
        error = failure.what();
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    const std::lock_guard lock(mutex_);
    job.elapsed = seconds_since(start);
    job.state = state;
    job.error = error;
    if (result) {
      job.winner = result->winner;
      job.default_seconds = result->default_seconds;
      job.stopped_by = result->stopped_by;
    }
    if (options_.on_end) options_.on_end(job);
  }

  std::vector<SweepJob>& jobs_;
  const std::vector<SweepDevice>& devices_;
  const SweepOptions& options_;
  const Clock::time_point start_ = Clock::now();
  std::mutex mutex_;  // of the jobs
  std::exception_ptr failure_;
};

}  // namespace

std::string_view name_of(SweepState state) noexcept {
  switch (state) {
    case SweepState::pending:
      return "pending";
    case SweepState::running:
      return "running";
    case SweepState::tuned:
      return "tuned";
    case SweepState::known:
      return "known";
    case SweepState::elsewhere:
      return "elsewhere";
    case SweepState::failed:
      return "failed";
    case SweepState::interrupted:
      return "interrupted";
  }
  return "unknown";
}

std::vector<SweepJob> sweep_jobs(const SweepPlan& plan, const std::vector<SweepDevice>& devices,
                                 bool fresh) {
  std::vector<SweepJob> jobs;
  const auto kinds = kinds_of(devices);
  std::map<std::tuple<std::string, std::string, std::string>, std::size_t> firsts;
  for (const auto& given : plan.problems)
    for (const auto& kind : kinds) {
      SweepJob job;
      job.number = jobs.size();
      job.given = given;
      job.device_kind = kind;
      const SweepDevice& device = device_of_kind(devices, kind);
      look_up(job, device, fresh);
      if (job.problem) {
        const auto [first, is_new] =
            firsts.try_emplace({given.op, kind, job.problem->tuning_key()}, job.number);
        if (!is_new && job.state == SweepState::pending) {
          job.same_as = first->second;
          job.state = SweepState::known;
        }
      }
      jobs.push_back(std::move(job));
    }
  return jobs;
}

bool run_sweep(std::vector<SweepJob>& jobs, const std::vector<SweepDevice>& devices,
               const SweepOptions& options) {
  check_budget(options.per_problem);
  check_wait_for_others(options.wait_for_others);
  check_budget({.seconds = options.total_seconds});
  return SweepRun(jobs, devices, options).run();
}

double share_of_budget(double seconds_left, double priority, double priorities_left, int devices) {
  const double share = seconds_left * devices * priority / std::max(priorities_left, priority);
  return std::clamp(share, 0.01, std::max(seconds_left, 0.01));  // 0 would be no limit
}

}  // namespace cudadent
