// cudadent's data types as those have them who hand tensors over: NumPy, array interfaces, buffers and DLPack.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/numpy.h>

#include <optional>
#include <string_view>

#include "bindings/dlpack.h"

namespace cudadent::python {

// Types that NumPy itself does not have; those of the package ml_dtypes go by their names.
bool is_of_ml_dtypes(DataType type) noexcept;

// Nothing for types that cudadent does not know.
// By the code of a NumPy type; user-defined ones (ml_dtypes.bfloat16) go by name.
std::optional<DataType> data_type_of_numpy(const pybind11::dtype& dtype);
// Of array interfaces ("<f4") and, with the size put behind it, of the buffer protocol ("f").
std::optional<DataType> data_type_of_typestr(std::string_view text, pybind11::handle object);
std::optional<DataType> data_type_of_buffer(const Py_buffer& buffer);
std::optional<DataType> data_type_of_dlpack(dlpack::ElementType type) noexcept;

}  // namespace cudadent::python
