// cudadent.Operator: a callable whose cached call costs little more than the launch.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "bindings/session.h"

namespace cudadent::python {

// Adds the type to the module.
void bind_operator(pybind11::module_& module);

// An operator with options bound. Without a session each call uses the default runtime of the device
// its tensors are on. Throws Error: invalid_argument, invalid_manifest.
pybind11::object make_operator(std::shared_ptr<Session> session, const std::string& name,
                               const Values& options);

}  // namespace cudadent::python
