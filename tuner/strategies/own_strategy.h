// A search of the user's own: what it sees of the space, and what it is held to.
#pragma once

#include <memory>

#include "tuner/strategy.h"

namespace cudadent {

// Makes the strategy of TuneOptions::make_strategy. ask() passes on what is new: what was asked for or told before is
// told again, as soon as its result is known. Throws Error(invalid_argument) that names the strategy where it is null,
// proposes more than it was asked for, what is not in the space, or, a thousand times and more in a row, only what it
// proposed before.
std::unique_ptr<Strategy> make_own_strategy(const TuneOptions& options, const SearchSpace& space);

}  // namespace cudadent
