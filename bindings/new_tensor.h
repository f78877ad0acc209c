// New tensors, of whichever library a call's tensors are of.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace cudadent::python {

// A new tensor without values, of the library and on the device that `like` is of.
// Throws Error(invalid_argument) when the library is one we cannot make tensors of.
pybind11::object make_tensor_like(PyObject* like, const std::int64_t* shape, std::size_t rank,
                                  DataType dtype, std::int32_t device, const std::string& operation,
                                  const std::string& name);

}  // namespace cudadent::python
