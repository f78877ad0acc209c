# The libraries we use, each by its CMake package or, where a machine has bare headers, by path. CUDA and
# NVRTC are not here: they are loaded at run time.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
# What must be installed and is not, as "what (Debian package)": said in one line, below.
set(missing)

if(CUDADENT_SELF_CONTAINED)
  # Both find modules take a static library by its file name.
  foreach(variable IN ITEMS SQLite3_LIBRARY ZLIB_LIBRARY)
    if(NOT "${${variable}}" MATCHES "\\.a$")
      unset(${variable} CACHE)
    endif()
  endforeach()
  find_library(SQLite3_LIBRARY libsqlite3.a)
  find_library(ZLIB_LIBRARY libz.a)
  if(NOT SQLite3_LIBRARY)
    list(APPEND missing "libsqlite3.a (libsqlite3-dev)")
  endif()
endif()
find_package(SQLite3 QUIET)
if(NOT SQLite3_FOUND AND NOT missing)
  list(APPEND missing "SQLite 3 (libsqlite3-dev)")
endif()
# Recorded spaces are mostly kept compressed; without zlib they must be decompressed by hand.
find_package(ZLIB QUIET)

# cudadent_header_only(<target> PACKAGE <package> TARGET <its target> HEADER <header> DEBIAN <package>)
# Makes <target>, an interface library with the headers of a library.
function(cudadent_header_only name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PACKAGE;TARGET;HEADER;DEBIAN" "")
  add_library(${name} INTERFACE)
  if(arg_PACKAGE)
    find_package(${arg_PACKAGE} QUIET)
  endif()
  if(arg_TARGET AND TARGET ${arg_TARGET})
    target_link_libraries(${name} INTERFACE ${arg_TARGET})
    return()
  endif()
  find_path(${name}_INCLUDE_DIR ${arg_HEADER})
  mark_as_advanced(${name}_INCLUDE_DIR)
  if(${name}_INCLUDE_DIR)
    target_include_directories(${name} SYSTEM INTERFACE "${${name}_INCLUDE_DIR}")
  else()
    set(missing ${missing} "<${arg_HEADER}> (${arg_DEBIAN})" PARENT_SCOPE)
  endif()
endfunction()

# Headers only here, too: what they declare is compiled once, by runtime/base/fmt.cpp.
cudadent_header_only(cudadent_fmt
    HEADER fmt/format.h DEBIAN libfmt-dev)
cudadent_header_only(cudadent_json PACKAGE nlohmann_json TARGET nlohmann_json::nlohmann_json
    HEADER nlohmann/json.hpp DEBIAN nlohmann-json3-dev)
cudadent_header_only(cudadent_xxhash
    HEADER xxhash.h DEBIAN libxxhash-dev)
if(CUDADENT_TOOLS)
  cudadent_header_only(cudadent_cli11 PACKAGE CLI11 TARGET CLI11::CLI11
      HEADER CLI/CLI.hpp DEBIAN libcli11-dev)
endif()
if(CUDADENT_TESTS)
  cudadent_header_only(cudadent_doctest PACKAGE doctest TARGET doctest::doctest
      HEADER doctest/doctest.h DEBIAN doctest-dev)
endif()

if(missing)
  list(JOIN missing ", " missing_text)
  list(TRANSFORM missing REPLACE ".*\\((.*)\\)" "\\1" OUTPUT_VARIABLE missing_packages)
  list(JOIN missing_packages " " missing_packages)
  # CMake leaves a line that is indented in one piece.
  message(FATAL_ERROR "\n  cudadent: not found: ${missing_text}. On Debian or Ubuntu: apt-get install ${missing_packages}; elsewhere name a folder that holds include/ and lib/ in CMAKE_PREFIX_PATH.\n")
endif()
