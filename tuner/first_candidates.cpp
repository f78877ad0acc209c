#include "tuner/first_candidates.h"

#include <algorithm>

#include "tuner/judge.h"

namespace cudadent {

namespace {

constexpr std::size_t most_winners = 4;  // of the tuning key
constexpr std::size_t most_judged = 16;  // about as many as are compiled at once

}  // namespace

void find_first_candidates(TuningRun& run) {
  for (const auto& member : run.space->members())
    if (const auto index = default_index(member, run.problem, run.device))
      run.defaults.push_back(member.first + *index);
  const auto add = [&](Candidate candidate) {
    if (std::count(run.first.begin(), run.first.end(), candidate) == 0)
      run.first.push_back(candidate);
  };
  Store& store = run.context.store;
  const auto ranking = judged(*run.space, run.entry, run.problem, run.device, store);
  if (!ranking.empty()) run.untuned = ranking.front().candidate;
  if (run.untuned) add(*run.untuned);
  for (const Candidate candidate : run.defaults) add(candidate);
  std::size_t winners = 0;
  store.winner(run.record.op, run.record.tuning_key, run.record.device_kind,
               [&](const WinnerRecord& winner) {
                 if (const auto found = run.find(winner.template_hash, winner.configuration))
                   add(*found);
                 return ++winners == most_winners;
               });
  for (const Candidate candidate : diverse(*run.space, ranking, most_judged)) add(candidate);
}

}  // namespace cudadent
