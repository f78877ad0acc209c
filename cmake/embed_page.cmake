# cmake -D style=… -D script=… -D charts=… -D output=… -P: writes the files as arrays of bytes into the C++
# source `output`. `charts` may be empty.

set(definitions "")
foreach(name IN ITEMS style script charts)
  set(bytes "")
  if(NOT "${${name}}" STREQUAL "")
    file(READ "${${name}}" hex HEX)
    string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
    # A line a few hundred bytes long: compilers and people open the file more easily.
    string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)"
                         "\\1\n" bytes "${bytes}")
  endif()
  # The zero at the end makes no array empty; it does not count.
  string(APPEND definitions "constexpr unsigned char ${name}[] = {\n${bytes}0};\n")
endforeach()

file(WRITE "${output}" "// Generated from cli/page/ and Chart.js; edit the files there.
#include \"cli/page.h\"

namespace cudadent::cli {

namespace {

${definitions}
template <std::size_t size>
std::string_view text_of(const unsigned char (&bytes)[size]) {
  return {reinterpret_cast<const char*>(bytes), size - 1};
}

}  // namespace

PageAssets page_assets() noexcept { return {text_of(style), text_of(script), text_of(charts)}; }

}  // namespace cudadent::cli
")
