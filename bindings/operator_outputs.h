// The outputs of a call of a cudadent.Operator: made when they are left out, and returned.
#pragma once

#include <array>
#include <cstddef>

#include "bindings/operator_arguments.h"
#include "bindings/tensor_reader.h"

namespace cudadent::python {

// Makes the outputs that are wanted and not given, of the library and on the device of the tensor `like`,
// an index, and reads them into `tensors`. Throws Error(invalid_argument) when a tensor is missing, or
// nothing tells an output's shape or data type.
void make_outputs(const Core& core, const Binding& binding, Call& call,
                  std::array<Tensor, max_tensors>& tensors, std::size_t like, TensorReader& reader);

// The output, or a tuple of them: those always written first.
pybind11::object result_of(const Core& core, const Call& call);

}  // namespace cudadent::python
