// The built-in search strategies, behind the interface of the public header. Each is deterministic under its seed
// and the order of its tells, and can serve a batch: it may be asked again before it is told.
#pragma once

#include <cudadent/search.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tuner/search_space.h"

namespace cudadent {

// The space must outlive the strategy. Throws Error(invalid_argument) that lists the known names.
std::unique_ptr<Strategy> make_strategy(std::string_view name, const SearchSpace& space,
                                        std::uint64_t seed);
// Names with one line each, "auto" first.
std::vector<std::pair<std::string, std::string>> strategies();

}  // namespace cudadent
