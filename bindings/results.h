// What tuning and looking up return, as Python's classes.
#pragma once

#include <pybind11/pybind11.h>

namespace cudadent::python {

// Budget, Winner, Explanation, Trial, TuneProgress and TuneResult.
void bind_results(pybind11::module_& module);

}  // namespace cudadent::python
