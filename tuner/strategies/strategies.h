// The strategies, each made in the file of its name; strategy.cpp lists them.
#pragma once

#include <cstdint>
#include <memory>

#include "tuner/strategy.h"

namespace cudadent {

std::unique_ptr<Strategy> make_automatic(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_exhaustive(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_genetic(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_iterated_local_search(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_multi_start_local_search(const SearchSpace& space,
                                                        std::uint64_t seed);
std::unique_ptr<Strategy> make_random(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_simulated_annealing(const SearchSpace& space, std::uint64_t seed);
std::unique_ptr<Strategy> make_surrogate(const SearchSpace& space, std::uint64_t seed);

}  // namespace cudadent
