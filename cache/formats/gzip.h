// Files compressed with gzip.
#pragma once

#include <string>
#include <string_view>

namespace cudadent {

// The bytes of a gzip file; `name` is for messages. Throws Error(invalid_argument) for damaged ones, and
// Error(unsupported) in a build without zlib.
std::string decompress_gzip(std::string_view bytes, const std::string& name);

}  // namespace cudadent
