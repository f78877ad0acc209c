// What commands write: files that are whole or not there, and a standard output that took it all.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string_view>

namespace cudadent::cli {

// What was to be written did not get there: a full disk, a closed pipe. The command has failed, however good its
// result is.
class OutputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Writes bytes beside `file` first and gives them its name when they are on the disk, so that it is whole or what it
// was before; what is no regular file (/dev/stdout) is written to directly. Throws Error(invalid_argument) for a
// name that can be no file, OutputError when the bytes cannot be written.
void write_file(const std::filesystem::path& file, std::string_view bytes);

// Whether all that was printed has reached standard output. Throws OutputError.
void finish_output();

}  // namespace cudadent::cli
