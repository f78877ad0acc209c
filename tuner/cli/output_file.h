// Files that programs write for people: whole, or not at all.
#pragma once

#include <filesystem>
#include <string_view>

namespace cudadent::cli {

// Writes beside the file and renames, so that an interruption leaves what was there before. Throws
// Error(invalid_argument) when it cannot be written.
void write_file(const std::filesystem::path& file, std::string_view text);

}  // namespace cudadent::cli
