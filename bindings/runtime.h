// The Python class Runtime, and the functions of the module that use runtimes of its own.
#pragma once

#include <pybind11/pybind11.h>

namespace cudadent::python {

void bind_runtime(pybind11::module_& module);
// op(), tune(), operators() and set_default_options().
void bind_defaults(pybind11::module_& module);

}  // namespace cudadent::python
