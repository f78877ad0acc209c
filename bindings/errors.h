// cudadent's errors as Python exceptions.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <string>

namespace cudadent::python {

// Adds Error and InvalidArgument to the module, and has pybind11 translate cudadent::Error.
void bind_errors(pybind11::module_& module);

// Sets the Python exception for the C++ exception being handled. For use in catch (...).
void set_exception() noexcept;

[[noreturn]] void reject(const std::string& operation, const std::string& reason);

}  // namespace cudadent::python
