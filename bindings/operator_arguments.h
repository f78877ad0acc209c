// The arguments of a call of a cudadent.Operator, sorted out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bindings/operator_core.h"

namespace cudadent::python {

// The arguments of one call, sorted out. References are borrowed from the caller.
struct Call {
  std::array<PyObject*, max_tensors> tensors{};  // null: left out; True: to be made
  std::array<double, max_scalars> scalars;
  std::array<std::optional<DataType>, max_dtypes> dtypes;
  PyObject* stream = nullptr;
  std::uint64_t combination = 0;
  bool has_scalars = false;
  std::vector<pybind11::object> made;  // outputs we made
};

// As Python's vectorcall hands them over: `count` tensors by place, then a value for each of the tuple
// `keywords`, which may be null. Throws Error(invalid_argument).
void take_arguments(const Core& core, Call& call, PyObject* const* arguments, std::size_t count,
                    PyObject* keywords);

}  // namespace cudadent::python
