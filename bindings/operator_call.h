// Calling a cudadent.Operator. Arguments are as Python's vectorcall hands them over; errors are thrown.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>

#include "bindings/operator_core.h"

namespace cudadent::python {

// Launches, and returns the output or a tuple of outputs.
pybind11::object call_operator(Core& core, PyObject* const* arguments, std::size_t count,
                               PyObject* keywords);
// All that a call does before the launch. Returns an Explanation.
pybind11::object prepare_operator(Core& core, PyObject* const* arguments, std::size_t count,
                                  PyObject* keywords);

}  // namespace cudadent::python
