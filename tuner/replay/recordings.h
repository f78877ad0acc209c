// Readers of recorded spaces.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tuner/replay/recorded_space.h"

namespace cudadent {

// Reads a T4 file, a Kernel Tuner cache file (either may be compressed with gzip, and may break off:
// what was written completely is used) or a cudadent database, told apart by their content.
//
// A database may hold many problems: `problem` chooses the one whose description or key contains it,
// and may be empty when only one problem has been measured.
//
// Throws Error(invalid_argument) that names the file and what was expected.
RecordedSpace read_recorded_space(const std::filesystem::path& file, std::string_view problem = {});

// A T4 or Kernel Tuner file whose text lies in memory; `name` is for messages.
std::vector<RecordedConfiguration> parse_recording(const std::string& text,
                                                   const std::string& name);

}  // namespace cudadent
