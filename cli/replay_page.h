// The page of `cudadent-tune replay --plot`.
#pragma once

#include <filesystem>
#include <vector>

#include "tuner/replay/replay.h"

namespace cudadent::cli {

// Writes one self-contained page with the curves of every space and, of several, their mean.
// Throws Error(invalid_argument) when the file cannot be written.
void write_replay_page(const std::vector<SpaceReplay>& replays, const std::filesystem::path& file);

}  // namespace cudadent::cli
