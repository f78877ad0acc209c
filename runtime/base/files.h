// Files as texts.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace cudadent {

// All bytes of a file; nothing where it cannot be read, or is a folder.
std::optional<std::string> read_file(const std::filesystem::path& file);

}  // namespace cudadent
