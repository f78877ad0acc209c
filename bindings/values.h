// Values, data types and budgets between Python and C++.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <string>

namespace cudadent::python {

pybind11::object to_python(const Value& value);
pybind11::dict to_python(const Values& values);

// bool, int, float and str, anything that is an index (NumPy's integers), and data types of NumPy
// and PyTorch by name. Throws Error(invalid_argument) that names `what`.
Value value_from_python(pybind11::handle object, const std::string& what);

// "bf16", "bfloat16", numpy.float32, numpy.dtype("f4"), torch.float16, … Throws
// Error(invalid_argument) that names `what`.
DataType data_type_from_python(pybind11::handle object, const std::string& what);

// "float32" for f32: what NumPy, CuPy and PyTorch call a data type.
const char* array_name_of(DataType type);
// The inverse; nothing when the name is unknown.
std::optional<DataType> data_type_of_array_name(std::string_view name);

// None, a Budget, a number of seconds, or text: "30s", "5m", "1h", "200 trials".
Budget budget_from_python(pybind11::handle object);

}  // namespace cudadent::python
