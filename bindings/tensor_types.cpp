#include "bindings/tensor_types.h"

#include <string_view>
#include <vector>

namespace py = pybind11;

namespace cudadent::python {

namespace {

// True when the type or one of its bases is `name` of a module whose name starts with `module`.
bool descends_from(PyTypeObject* type, std::string_view module, std::string_view name) {
  for (const py::handle base : py::reinterpret_borrow<py::tuple>(type->tp_mro)) {
    const py::object home = py::getattr(base, "__module__", py::none());
    if (!py::isinstance<py::str>(home)) continue;
    const auto home_name = home.cast<std::string>();
    if (base.attr("__name__").cast<std::string>() == name &&
        (home_name == module || home_name.starts_with(std::string(module) + ".")))
      return true;
  }
  return false;
}

// The type's DLPack function table in a version that we know; null when there is none.
const dlpack::Exchange* exchange_of(PyTypeObject* type) {
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  const py::object capsule = py::getattr(handle, "__dlpack_c_exchange_api__", py::none());
  if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return nullptr;
  auto* header = static_cast<dlpack::ExchangeHeader*>(
      PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  while (header != nullptr && header->version.major != dlpack::major_version)
    header = header->previous;
  // The header is the table's first member.
  const auto* exchange = reinterpret_cast<const dlpack::Exchange*>(header);
  const bool usable =
      exchange != nullptr && exchange->view_of != nullptr && exchange->current_stream != nullptr;
  return usable ? exchange : nullptr;
}

TensorType classify(PyTypeObject* type) {
  using Reader = TensorType::Reader;
  using Library = TensorType::Library;
  TensorType result{.type = type};
  if (descends_from(type, "numpy", "ndarray")) {
    result.reader = Reader::numpy;
    result.library = Library::numpy;
    if (descends_from(type, "numpy", "MaskedArray"))
      result.why_not_memory =
          "is a masked array, whose mask would be ignored. Pass x.filled(…), or x.data if the mask "
          "is "
          "not to count";
    return result;
  }
  if (descends_from(type, "torch", "Tensor")) {
    result.reader = Reader::torch;
    result.library = Library::torch;
    result.torch = std::make_shared<const TorchType>(type);
    result.why_not_memory = result.torch->why_not_memory();
  } else if (descends_from(type, "cupy", "ndarray")) {
    result.library = Library::cupy;
  }
  result.is_immutable =
      descends_from(type, "jaxlib", "ArrayImpl") || descends_from(type, "tensorflow", "Tensor");
  result.exchange = exchange_of(type);
  if (result.exchange != nullptr) result.reader = Reader::exchange;
  return result;
}

}  // namespace

const TensorType& tensor_type_of(PyObject* object) {
  // Guarded by the interpreter lock. A program meets few types; they are kept alive here, lest
  // another type be made at the address of one that has gone.
  // The vector is not destroyed: the interpreter is gone by then.
  static auto& known = *new std::vector<TensorType>;
  PyTypeObject* type = Py_TYPE(object);
  for (const TensorType& entry : known)
    if (entry.type == type) return entry;
  TensorType entry = classify(type);
  Py_INCREF(reinterpret_cast<PyObject*>(type));
  known.push_back(entry);
  return known.back();
}

}  // namespace cudadent::python
