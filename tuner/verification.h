// Winners measured again: does each still verify, and still win?
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cache/store.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"
#include "tuner/tuner.h"

namespace cudadent {

enum class WinnerState : std::uint8_t {
  wins,
  loses,     // another configuration is clearly faster
  fails,     // does not compile, load or run, or its results are wrong
  outdated,  // its template has changed or is gone, or its configuration is no longer valid
};
std::string_view name_of(WinnerState state) noexcept;

struct WinnerCheck {
  struct Entrant {
    std::string kernel_template;
    Values configuration;
    std::string role;  // "winner", "default", "trial"
    TrialStatus status = TrialStatus::ok;
    std::string message;  // why it failed
    double seconds = 0;   // median of the comparison; 0 when it failed
    double slowdown = 0;  // times the winner's, over the rounds both ran; 0 unknown
    std::string template_hash, specialization_hash;
    std::string compiler;  // that made the binary measured; empty when there is none
  };
  WinnerState state = WinnerState::wins;
  std::string message;            // of what is not well; empty when it wins
  std::vector<Entrant> entrants;  // the winner first
  std::size_t best = 0;           // of the entrants; no meaning where all failed
};

struct CheckRules {
  std::size_t challengers = 3;  // of the trials known, the fastest
  double margin = 0.02;         // slower by more than this is to lose
};

// Measures the winner of a problem against the default configurations and the fastest known trials, in
// turns, each verified first, on inputs that the winner was not tuned with. Throws what laying out the
// problem raises, Error(cancelled) as `options.cancelled` asks, and machine_failed or timed_out when that kept the
// winner from being judged.
WinnerCheck check_winner(const TuningContext& context, const OperatorEntry& entry,
                         const Problem& problem, const WinnerRecord& winner,
                         const TuneOptions& options, const CheckRules& rules = {});

// The record that takes the winner's place after a check: the best of those compared.
WinnerRecord better_winner(const WinnerRecord& winner, const WinnerCheck& check);

}  // namespace cudadent
