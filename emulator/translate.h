// The text that NVRTC would compile, made fit for the system's C++ compiler.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent::emulator {

// A function as it is defined at namespace or class scope.
struct FunctionText {
  std::string name;
  std::vector<std::string> template_arguments;  // names of its template's parameters
  std::vector<std::string> arguments;           // names of its parameters
  std::size_t body = 0, body_end = 0;           // from the opening to behind the closing brace
  bool member = false;
};

// Source text with comments, strings and preprocessor lines blanked, so that what remains can be
// searched; as long as the text, with its line ends.
std::string blank_out(std::string_view text);

// Every function definition of a text, in order; `blanked` is blank_out() of it.
std::vector<FunctionText> function_definitions(std::string_view blanked);

// Names of the functions that device/instructions.h defines in its namespace `emulated`.
std::set<std::string> emulated_names(std::string_view instructions);

// Changes the source of a specialization, line by line what it was:
//
// - a function that has inline assembly in it, or a name of `emulated`, calls emulated::<name> with
//   its own template arguments and parameters instead; where there is none, it fails when it is called;
// - `__shared__` variables become references to memory of the block;
// - each kernel of `entries` is exported with its launch bounds.
//
// Throws Error(compile_failed) for what it cannot read.
std::string translate(std::string_view source, const std::set<std::string>& emulated,
                      const std::vector<std::string>& entries);

}  // namespace cudadent::emulator
