// Searches and observers of a user's own, in Python.
#pragma once

#include <cudadent/search.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace cudadent::python {

// How a run searches, as Python's functions take it.
struct SearchArguments {
  pybind11::object strategy;   // a name, or an object with begin, ask and tell
  pybind11::object observers;  // names, and objects with after
  std::string objective;
  std::uint64_t seed = 0;
};

// The options own the objects, and may be copied and destroyed without the interpreter lock. Throws
// Error(invalid_argument) for objects that lack a method.
void set_search(TuneOptions& options, const SearchArguments& search);

// CandidateSpace and Measurement, which these objects are given.
void bind_search(pybind11::module_& module);

}  // namespace cudadent::python
