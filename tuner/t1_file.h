// Tuning spaces that others describe: T1 files.
#pragma once

#include <filesystem>
#include <string>

#include "tuner/tuning_space.h"

namespace cudadent {

// The parameters and conditions of a T1 file's ConfigurationSpace. Values and conditions are Python
// expressions in strings; they are parsed as the expressions of manifests are, and nothing is ever run.
// Throws Error(invalid_argument) for a file that cannot be read or is not T1, and
// Error(invalid_manifest) for an expression that is not understood, naming its parameter.
SpaceDefinition read_t1(const std::filesystem::path& file);
// The same of text in memory; `name` is for messages.
SpaceDefinition parse_t1(const std::string& text, const std::string& name);

}  // namespace cudadent
