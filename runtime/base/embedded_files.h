// Files that became part of the library as it was built (cmake/EmbedFiles.cmake).
#pragma once

#include <span>
#include <string_view>

namespace cudadent {

struct EmbeddedFile {
  std::string_view path;  // below the folder that was embedded
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_files();  // of kernel_templates/
std::span<const EmbeddedFile> shipped_files();   // of cache/shipped/

}  // namespace cudadent
