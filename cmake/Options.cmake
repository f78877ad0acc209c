# How everything of ours is compiled.

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
# SQLite may lie in a folder the loader does not search (CMAKE_PREFIX_PATH).
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

# -O3 makes nothing faster here, where the work is in kernels, and compiles a quarter longer.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(CUDADENT_CCACHE ccache)
  if(CUDADENT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER "${CUDADENT_CCACHE}")
  endif()
endif()

add_library(cudadent_options INTERFACE)
target_compile_features(cudadent_options INTERFACE cxx_std_20)
target_compile_options(cudadent_options INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${CUDADENT_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Aggregates are filled by designated initialisers; what is left out has its default.
  # The other two are wrong too often to stop a build (GCC 12 and 13, in the standard library).
  target_compile_options(cudadent_options INTERFACE
      -Wno-missing-field-initializers -Wno-error=restrict -Wno-error=maybe-uninitialized)
elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # Conversions as GCC understands them. Deprecated is what GCC 12's library uses itself (std::stable_sort).
  target_compile_options(cudadent_options INTERFACE
      -Wno-missing-field-initializers -Wno-sign-conversion -Wno-error=deprecated-declarations)
endif()
if(CUDADENT_UNITY)
  # What is in another source is not in the way of this one.
  target_compile_options(cudadent_options INTERFACE
      -Wno-shadow $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(CUDADENT_SANITIZE)
  set(sanitize -fsanitize=${CUDADENT_SANITIZE} -fno-omit-frame-pointer)
  if(CUDADENT_SANITIZE MATCHES "undefined")
    # The three left out double the time GCC takes; the address sanitizer finds the same faults.
    list(APPEND sanitize -fno-sanitize-recover=undefined -fno-sanitize=null,object-size,vptr)
  endif()
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    if(CUDADENT_SANITIZE MATCHES "undefined")
      # Functions of a library that was opened are called by the type we know of them.
      list(APPEND sanitize -fno-sanitize=function)
    endif()
    # As GCC says it, and Clang since 21.
    if(CUDADENT_SANITIZE MATCHES "address")
      list(APPEND sanitize -D__SANITIZE_ADDRESS__=1)
    endif()
    if(CUDADENT_SANITIZE MATCHES "thread")
      list(APPEND sanitize -D__SANITIZE_THREAD__=1)
    endif()
  endif()
  target_compile_options(cudadent_options INTERFACE ${sanitize})
  target_link_options(cudadent_options INTERFACE ${sanitize})
endif()

# What CUDADENT_SELF_CONTAINED asks of programs and modules. What they contain is nobody else's: another SQLite or
# libstdc++ in the process must not be mixed up with it. (Debian's archives are no PIC, but will do while hidden.)
function(cudadent_contain_all target)
  if(CUDADENT_SELF_CONTAINED)
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc "LINKER:--exclude-libs,ALL")
    target_link_libraries(${target} PRIVATE m)
  endif()
endfunction()

# With CUDADENT_UNITY, the sources of a folder are compiled as one: templates of fmt, JSON and the standard library are
# read, instantiated and optimised once per folder instead of once per source. That takes a third of the processor time.
# Builds that are made once do so (scripts/demo.sh, pip install .). Others do not: they compile what changed, and find a
# source that lacks an include. A name in an unnamed namespace must therefore be unique in its folder.
function(cudadent_unite target)
  if(NOT CUDADENT_UNITY)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    cmake_path(IS_PREFIX PROJECT_SOURCE_DIR "${source}" NORMALIZE ours)
    cmake_path(IS_PREFIX PROJECT_BINARY_DIR "${source}" NORMALIZE generated)
    if(ours AND NOT generated)
      cmake_path(GET source PARENT_PATH folder)
      cmake_path(RELATIVE_PATH folder BASE_DIRECTORY "${PROJECT_SOURCE_DIR}")
      string(MAKE_C_IDENTIFIER "${folder}" group)
      set_source_files_properties("${source}" PROPERTIES UNITY_GROUP "${group}")
    endif()
  endforeach()
  # Sources with options of their own are left out by CMake.
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()

# Sanitizer builds read the headers that many sources include once, with Clang: a third less to compile (with GCC a
# tenth, which its own reading takes back). Other builds do not, so that a source that forgets an include is found,
# and so that ccache can share what it knows between clones.
# A second target names one that is compiled alike, whose precompiled header serves both.
function(cudadent_precompile_headers target)
  if(NOT CUDADENT_SANITIZE OR NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    return()
  endif()
  if(ARGC GREATER 1)
    target_precompile_headers(${target} REUSE_FROM ${ARGV1})
    target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
    return()
  endif()
  target_precompile_headers(${target} PRIVATE
      <algorithm> <array> <atomic> <chrono> <cmath> <condition_variable> <cstdint> <cstring> <filesystem> <fstream>
      <functional> <limits> <map> <memory> <mutex> <optional> <random> <set> <span> <sstream> <string> <string_view>
      <thread> <unordered_map> <utility> <variant> <vector>
      <fmt/format.h> <fmt/ranges.h> <nlohmann/json.hpp>)
  # Where there are times in it, ccache takes each to be another.
  target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
endfunction()

# A library made of the objects that cudadent_objects compiled.
function(cudadent_add_library name)
  if(name MATCHES "_static$")
    add_library(${name} STATIC $<TARGET_OBJECTS:cudadent_objects>)
    # Whoever links the archive links these; LINK_ONLY keeps our flags and headers to ourselves.
    target_link_libraries(${name} PUBLIC
        $<LINK_ONLY:SQLite::SQLite3> $<LINK_ONLY:Threads::Threads> ${CMAKE_DL_LIBS}
        $<$<BOOL:${ZLIB_FOUND}>:$<LINK_ONLY:ZLIB::ZLIB>>)
    set_target_properties(${name} PROPERTIES OUTPUT_NAME cudadent EXPORT_NAME cudadent_static)
  else()
    add_library(${name} SHARED $<TARGET_OBJECTS:cudadent_objects>)
    target_link_libraries(${name} PRIVATE SQLite::SQLite3 Threads::Threads ${CMAKE_DL_LIBS}
        $<$<BOOL:${ZLIB_FOUND}>:ZLIB::ZLIB> $<BUILD_INTERFACE:cudadent_options>)
    cudadent_contain_all(${name})
    set_target_properties(${name} PROPERTIES
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  endif()
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_compile_features(${name} PUBLIC cxx_std_20)
  target_include_directories(${name} PUBLIC
      $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
      $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  add_library(cudadent::${name} ALIAS ${name})
endfunction()
