#include "bindings/new_tensor.h"

#include <fmt/format.h>

#include "bindings/errors.h"
#include "bindings/exchanged_types.h"
#include "bindings/tensor_types.h"
#include "bindings/values.h"

namespace py = pybind11;

namespace cudadent::python {

py::object make_tensor_like(PyObject* like, const std::int64_t* shape, std::size_t rank,
                            DataType dtype, std::int32_t device, const std::string& operation,
                            const std::string& name) {
  py::tuple extents(rank);
  for (std::size_t i = 0; i < rank; ++i) extents[i] = py::int_(shape[i]);
  const char* type_name = array_name_of(dtype);
  switch (tensor_type_of(like).library) {
    case TensorType::Library::torch:
      return py::handle(like).attr("new_empty")(
          extents, py::arg("dtype") = py::module_::import("torch").attr(type_name));
    case TensorType::Library::cupy: {
      const auto cupy = py::module_::import("cupy");
      const py::object place = cupy.attr("cuda").attr("Device")(device);
      place.attr("__enter__")();
      py::object made = cupy.attr("empty")(
          extents, is_of_ml_dtypes(dtype) ? py::handle(like).attr("dtype") : py::str(type_name));
      place.attr("__exit__")(py::none(), py::none(), py::none());
      return made;
    }
    case TensorType::Library::numpy: {
      const py::object type = is_of_ml_dtypes(dtype)
                                  ? py::module_::import("ml_dtypes").attr(type_name)
                                  : py::object(py::str(type_name));
      return py::module_::import("numpy").attr("empty")(extents, type);
    }
    case TensorType::Library::other:
      break;
  }
  reject(operation, fmt::format("cannot make {} like a {}; give a tensor to write to", name,
                                Py_TYPE(like)->tp_name));
}

}  // namespace cudadent::python
