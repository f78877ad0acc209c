#include "tuner/first_candidates.h"

#include <algorithm>

#include "tuner/neighbours.h"

namespace cudadent {

namespace {

constexpr std::size_t hint_count = 4;  // winners that are tried first

}  // namespace

void find_first_candidates(TuningRun& run) {
  for (const auto& member : run.space->members()) {
    const auto configuration =
        default_configuration(*member.kernel_template, run.problem, run.device);
    if (!configuration) continue;
    if (const auto index = member.space.index_of(*configuration))
      run.defaults.push_back(member.first + *index);
  }
  run.first = run.defaults;
  // True when there is no room for more.
  const auto hint = [&](const WinnerRecord& winner) {
    if (run.first.size() >= run.defaults.size() + hint_count) return true;
    const auto candidate = run.find(winner.template_hash, winner.configuration);
    if (candidate && std::count(run.first.begin(), run.first.end(), *candidate) == 0)
      run.first.push_back(*candidate);
    return false;
  };
  Store& store = run.context.store;
  store.winner(run.record.op, run.record.tuning_key, run.record.device_kind, hint);
  for (const auto& neighbour : neighbours_of(run.problem, run.device, store))
    if (hint(neighbour.winner)) break;
}

}  // namespace cudadent
