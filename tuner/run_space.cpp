#include "tuner/run_space.h"

#include <algorithm>

#include "tuner/judge.h"
#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

constexpr std::size_t most_winners = 4;  // of the tuning key
constexpr std::size_t most_judged = 16;  // about as many as are compiled at once

bool contains(const std::vector<Candidate>& candidates, Candidate candidate) {
  return std::find(candidates.begin(), candidates.end(), candidate) != candidates.end();
}

SearchSpace enumerate(const TuningTask& task, TuneSeconds& seconds) {
  const Stopwatch watch(seconds.enumerate_seconds);
  return search_space(task.entry, task.problem, task.device, task.options.kernel_templates,
                      [&](const std::string& reasons) {
                        task.log(LogLevel::warning, only_reference_warning(task.problem, reasons));
                      });
}

// What won for the tuning key, as far as it is in the space.
std::vector<Candidate> winners_of_key(const TuningTask& task, const SearchSpace& space) {
  std::vector<Candidate> found;
  std::size_t seen = 0;
  task.context.store.winner(
      task.record.op, task.record.tuning_key, task.record.device_kind,
      [&](const WinnerRecord& winner) {
        if (const auto candidate = space.find(winner.template_hash, winner.configuration))
          found.push_back(*candidate);
        return ++seen == most_winners;
      });
  return found;
}

}  // namespace

bool RunSpace::is_default(Candidate candidate) const { return contains(defaults, candidate); }
bool RunSpace::is_first(Candidate candidate) const { return contains(first, candidate); }

RunSpace run_space(const TuningTask& task, TuneSeconds& seconds) {
  RunSpace result{.space = enumerate(task, seconds), .untuned = {}, .defaults = {}, .first = {}};
  const Stopwatch watch(seconds.search_seconds);
  const SearchSpace& space = result.space;
  for (const auto& member : space.members())
    if (const auto index = default_index(member, task.problem, task.device))
      result.defaults.push_back(member.first + *index);
  const auto ranking = judged(space, task.entry, task.problem, task.device, task.context.store);
  if (!ranking.empty()) result.untuned = ranking.front().candidate;

  const auto add = [&](const std::vector<Candidate>& candidates) {
    for (const Candidate candidate : candidates)
      if (!contains(result.first, candidate)) result.first.push_back(candidate);
  };
  if (result.untuned) add({*result.untuned});
  add(result.defaults);
  add(winners_of_key(task, space));
  add(diverse(space, ranking, most_judged));
  return result;
}

Specialization specialization_of(const TuningTask& task, const RunSpace& space,
                                 Candidate candidate) {
  return specialize(space.space.member_of(candidate).kernel_template, task.problem,
                    space.space.configuration(candidate), task.device);
}

}  // namespace cudadent
