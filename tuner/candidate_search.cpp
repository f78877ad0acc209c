#include "tuner/candidate_search.h"

#include <fmt/format.h>

#include <algorithm>

namespace cudadent {

namespace {

class CandidateSearch {
 public:
  CandidateSearch(const TuningTask& task, const RunSpace& space, Laboratory& laboratory,
                  CandidateQueue& queue, SearchLimits& limits, TrialLog& log, TuneResult& result)
      : task_(task),
        space_(space),
        laboratory_(laboratory),
        queue_(queue),
        limits_(limits),
        log_(log),
        result_(result) {}

  std::string run() {
    const bool in_turns = laboratory_.workshop().backend().compiling_disturbs_timing();
    std::string reason;
    while ((reason = stop_reason()).empty()) {
      const bool refilled = (!in_turns || queue_.under_way() == 0) && queue_.refill();
      if (queue_.under_way() == 0) {
        if (refilled) continue;  // none of them was to be measured
        return limits_.too_late() ? "time" : "exhausted";
      }
      if (in_turns)
        evaluate_together();
      else if (auto compiled = queue_.next();
               compiled &&
               (!limits_.out_of_time() || limits_.is_worth_overtime(compiled->candidate)))
        evaluate(std::move(*compiled));
      else if (compiled)
        limits_.end(compiled->candidate);
    }
    return reason;
  }

 private:
  [[nodiscard]] std::string stop_reason() const {
    if (!task_.cancelled() && laboratory_.lost()) return "device lost";
    return limits_.stop_reason();
  }

  // Compiles everything under way, then measures it with the cores to itself.
  void evaluate_together() {
    std::vector<Compiled> ready;
    while (queue_.under_way() > 0 && stop_reason().empty())
      if (auto compiled = queue_.next()) ready.push_back(std::move(*compiled));
    // In the order asked for, whichever compiled first: the defaults before all others.
    std::sort(ready.begin(), ready.end(), [&](const auto& a, const auto& b) {
      return queue_.place_of(a.candidate) < queue_.place_of(b.candidate);
    });
    for (auto& compiled : ready)
      if (log_.best() == 0 || stop_reason().empty()) evaluate(std::move(compiled));
  }

  void evaluate(Compiled compiled) {
    limits_.end(compiled.candidate);
    Trial trial = compiled.error ? failed(compiled) : measured(compiled);
    const bool worked = trial.status == TrialStatus::ok;
    const double seconds = trial.median;
    log_.add(compiled, std::move(trial));
    if (worked) laboratory_.workshop().binaries().keep(std::move(*compiled.binary), seconds);
    laboratory_.observers().check();
    log_.judge(log_.at(compiled.candidate));
    queue_.learn(compiled.candidate, log_.at(compiled.candidate));
    log_.report("search");
  }

  [[nodiscard]] Trial begun(const Compiled& compiled) const {
    Trial trial;
    trial.kernel_template = space_.kernel_template(compiled.candidate).name;
    trial.configuration = compiled.specialization.configuration;
    return trial;
  }

  [[nodiscard]] Trial failed(const Compiled& compiled) const {
    const Error& error = *compiled.error;
    if (error.code() == ErrorCode::compiler_unavailable || error.code() == ErrorCode::cancelled)
      throw error;
    Trial trial = begun(compiled);
    trial.status = status_before_running(error.code());
    trial.message =
        error.detail().empty() ? error.what() : fmt::format("{}\n{}", error.what(), error.detail());
    return trial;
  }

  Trial measured(const Compiled& compiled) {
    Trial trial = begun(compiled);
    trial.compile_seconds = compiled.binary->compile_seconds;
    result_.compile_seconds += trial.compile_seconds;
    laboratory_.measurer().measure(compiled.specialization, *compiled.binary, log_.best_seconds(),
                                   trial);
    return trial;
  }

  const TuningTask& task_;
  const RunSpace& space_;
  Laboratory& laboratory_;
  CandidateQueue& queue_;
  SearchLimits& limits_;
  TrialLog& log_;
  TuneResult& result_;
};

}  // namespace

std::string search_candidates(const TuningTask& task, const RunSpace& space, Laboratory& laboratory,
                              const std::unique_ptr<CandidateQueue> queue, SearchLimits& limits,
                              TrialLog& log, TuneResult& result) {
  try {
    return CandidateSearch(task, space, laboratory, *queue, limits, log, result).run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) throw;
    return "cancelled";
  }
}

}  // namespace cudadent
