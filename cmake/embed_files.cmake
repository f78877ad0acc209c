# cmake -D root=… -D list=… -D output=… -D function=… -D folder=… -P: writes the files named in `list`, which
# lie below `root`, as string literals into the C++ source `output`, which defines `function`. `folder` is for
# people.

file(STRINGS "${list}" paths ENCODING UTF-8)

# Compilers need not take literals longer than 64 KiB, and complain; adjacent ones are joined.
set(chunk_bytes 16000)

set(entries "")
foreach(path IN LISTS paths)
  file(READ "${root}/${path}" text)
  if(text MATCHES "\\)__cudadent\"")
    message(FATAL_ERROR "${path} contains the delimiter of the raw strings it is embedded as")
  endif()
  set(literals "")
  string(LENGTH "${text}" length)
  while(length GREATER chunk_bytes)
    string(SUBSTRING "${text}" 0 ${chunk_bytes} chunk)
    # Cut after a line, lest a character of several bytes be cut in two.
    string(FIND "${chunk}" "\n" cut REVERSE)
    if(cut LESS 0)
      message(FATAL_ERROR "${path} has a line longer than ${chunk_bytes} bytes")
    endif()
    math(EXPR cut "${cut} + 1")
    string(SUBSTRING "${text}" 0 ${cut} chunk)
    string(SUBSTRING "${text}" ${cut} -1 text)
    string(LENGTH "${text}" length)
    string(APPEND literals "R\"__cudadent(${chunk})__cudadent\"\n")
  endwhile()
  string(APPEND literals "R\"__cudadent(${text})__cudadent\"sv")
  string(APPEND entries "    {\"${path}\"sv,\n${literals}},\n")
endforeach()

list(LENGTH paths count)
if(count GREATER 0)
  set(entries "{\n${entries}  }")
endif()
file(WRITE "${output}" "// Generated from ${folder}/; edit the files there.
#include <array>
#include <span>
#include <string_view>

#include \"runtime/base/embedded_files.h\"

namespace cudadent {

using namespace std::string_view_literals;

std::span<const EmbeddedFile> ${function}() {
  static constexpr std::array<EmbeddedFile, ${count}> files{${entries}};
  return files;
}

}  // namespace cudadent
")
