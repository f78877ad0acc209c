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

// The parts, for text that lies in memory; `name` is for messages. Times in these files are
// milliseconds unless they say otherwise. What carries no positive finite time failed.
std::vector<RecordedConfiguration> parse_t4(const std::string& text, const std::string& name);
std::vector<RecordedConfiguration> parse_kernel_tuner(const std::string& text,
                                                      const std::string& name);

// The bytes of a gzip file. Throws Error(invalid_argument) for damaged ones, and Error(unsupported)
// in a build without zlib.
std::string decompress_gzip(std::string_view bytes, const std::string& name);

}  // namespace cudadent
