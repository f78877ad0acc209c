#include "bindings/torch_tensor.h"

#include <fmt/format.h>

namespace py = pybind11;

namespace cudadent::python {

namespace {

// An attribute of an object, or of a module that is loaded; null where there is none.
py::object find(py::handle object, const char* name) {
  return object ? py::getattr(object, name, py::object()) : py::object();
}

py::object find_module(const char* name) {
  const py::dict modules = py::module_::import("sys").attr("modules");
  return modules.contains(name) ? py::object(modules[name]) : py::object();
}

// The class in a type's line of ancestors whose own dictionary has the name, among those below torch.Tensor; null
// when there is none, or when what it has is the function that switches the hook off.
std::string class_with_own(PyTypeObject* type, const char* hook, py::handle switched_off) {
  for (const py::handle ancestor : py::reinterpret_borrow<py::tuple>(type->tp_mro)) {
    const auto module = py::str(py::getattr(ancestor, "__module__", py::str())).cast<std::string>();
    auto name = ancestor.attr("__name__").cast<std::string>();
    if (name == "Tensor" && (module == "torch" || module.starts_with("torch."))) break;
    const py::object own = ancestor.attr("__dict__");
    if (!own.contains(hook)) continue;
    if (switched_off && py::object(own[hook]).is(switched_off)) return {};
    return name;
  }
  return {};
}

std::string why_type_is_no_memory(PyTypeObject* type) {
  const py::object internals = find(find_module("torch"), "_C");
  if (const auto by = class_with_own(type, "__torch_dispatch__",
                                     find(internals, "_disabled_torch_dispatch_impl"));
      !by.empty())
    return fmt::format(
        "is a {}, whose class {} has a __torch_dispatch__ of its own: its memory is not all there "
        "is "
        "to it. Pass the plain tensor that it stands for, such as a DTensor's to_local(); where "
        "torch.compile or torch.export trace, call cudadent in an operator of torch.library",
        type->tp_name, by);
  if (const auto by = class_with_own(type, "__torch_function__",
                                     find(internals, "_disabled_torch_function_impl"));
      !by.empty())
    return fmt::format(
        "is a {}, whose class {} has a __torch_function__ of its own, which would not be asked. "
        "Pass "
        "x.as_subclass(torch.Tensor) if its memory is all there is to it",
        type->tp_name, by);
  return {};
}

// The level of forward-mode differentiation that is under way; below 0 when there is none.
long forward_level(const py::object& forward_ad) {
  if (!forward_ad) return -1;
  static PyObject* const name = PyUnicode_InternFromString("_current_level");
  PyObject* const level = PyDict_GetItemWithError(forward_ad.ptr(), name);  // borrowed
  if (level == nullptr || PyLong_Check(level) == 0) {
    PyErr_Clear();
    return -1;
  }
  return PyLong_AsLong(level);
}

bool is_true(const py::object& answer) {
  if (!answer) throw py::error_already_set();
  const int truth = PyObject_IsTrue(answer.ptr());
  if (truth < 0) throw py::error_already_set();
  return truth == 1;
}

}  // namespace

TorchType::TorchType(PyTypeObject* type) : why_not_memory_(why_type_is_no_memory(type)) {
  const py::handle handle(reinterpret_cast<PyObject*>(type));
  const py::object torch = find_module("torch");
  requires_grad_ = find(handle, "requires_grad");
  is_neg_ = find(handle, "is_neg");
  is_grad_enabled_ = find(torch, "is_grad_enabled");
  // The function behind torch.autograd.graph.increment_version, which costs more than twice as much.
  increment_version_ = find(find(torch, "_C"), "_increment_version");
  if (const py::object forward_ad = find_module("torch.autograd.forward_ad"))
    forward_ad_ = find(forward_ad, "__dict__");
}

std::string TorchType::why_more_than_memory(PyObject* tensor,
                                            std::optional<bool>& grad_mode) const {
  if (requires_grad_) {
    PyObject* descriptor = requires_grad_.ptr();
    const auto get = Py_TYPE(descriptor)->tp_descr_get;
    const auto answer = py::reinterpret_steal<py::object>(
        get == nullptr ? PyObject_GetAttrString(tensor, "requires_grad")
                       : get(descriptor, tensor, reinterpret_cast<PyObject*>(Py_TYPE(tensor))));
    if (is_true(answer)) {
      // Under no_grad() and inference_mode() nothing is differentiated.
      if (!grad_mode) grad_mode = !is_grad_enabled_ || is_true(is_grad_enabled_());
      if (*grad_mode)
        return "requires a gradient, which cudadent does not compute. Call it under "
               "torch.no_grad() or torch.inference_mode(), or pass x.detach()";
    }
  }
  if (forward_level(forward_ad_) >= 0 && !py::module_::import("torch.autograd.forward_ad")
                                              .attr("unpack_dual")(py::handle(tensor))
                                              .attr("tangent")
                                              .is_none())
    return "has a tangent of forward-mode differentiation, which cudadent does not compute. Pass "
           "torch.autograd.forward_ad.unpack_dual(x).primal";
  return {};
}

bool TorchType::is_negated(PyObject* tensor) const {
  return is_neg_ && is_true(py::reinterpret_steal<py::object>(
                        PyObject_Vectorcall(is_neg_.ptr(), &tensor, 1, nullptr)));
}

void TorchType::count_write(PyObject* tensor) const {
  if (!increment_version_) {
    py::module_::import("torch.autograd.graph").attr("increment_version")(py::handle(tensor));
    return;
  }
  const auto tensors = py::reinterpret_steal<py::object>(PyTuple_Pack(1, tensor));
  if (!tensors) throw py::error_already_set();
  PyObject* const argument = tensors.ptr();
  const auto answer = py::reinterpret_steal<py::object>(
      PyObject_Vectorcall(increment_version_.ptr(), &argument, 1, nullptr));
  if (!answer) throw py::error_already_set();
}

}  // namespace cudadent::python
