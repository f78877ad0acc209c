#include "bindings/operator.h"

#include <fmt/format.h>
#include <structmember.h>

#include <cmath>
#include <cstddef>
#include <utility>

#include "bindings/errors.h"
#include "bindings/operator_call.h"
#include "bindings/operator_core.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

struct OperatorObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  Core* core;
};

Core& core_of(PyObject* self) { return *reinterpret_cast<OperatorObject*>(self)->core; }

PyObject* refuse_construction(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError, "operators are made by cudadent.op() and Runtime.op()");
  return nullptr;
}

void deallocate(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<OperatorObject*>(self)->core;
  type->tp_free(self);
  Py_DECREF(reinterpret_cast<PyObject*>(type));
}

// Wraps what may throw for Python's function tables.
template <class Work>
PyObject* guarded(Work work) noexcept {
  try {
    return py::object(work()).release().ptr();
  } catch (...) {
    set_exception();
    return nullptr;
  }
}

PyObject* vectorcall(PyObject* self, PyObject* const* arguments, std::size_t flagged_count,
                     PyObject* keywords) noexcept {
  return guarded([&] {
    const auto count = static_cast<std::size_t>(PyVectorcall_NARGS(flagged_count));
    return call_operator(core_of(self), arguments, count, keywords);
  });
}

PyObject* prepare(PyObject* self, PyObject* const* arguments, Py_ssize_t count,
                  PyObject* keywords) noexcept {
  return guarded([&] {
    return prepare_operator(core_of(self), arguments, static_cast<std::size_t>(count), keywords);
  });
}

py::dict bound_options(const Core& core) {
  py::dict options;
  for (std::size_t i = 0; i < core.options.size(); ++i)
    options[py::str(core.info.options[i].name)] = core.options[i].values[core.options[i].bound];
  return options;
}

PyObject* represent(PyObject* self) {
  return guarded([&] {
    const Core& core = core_of(self);
    std::string options;
    for (const auto& [name, value] : bound_options(core))
      options += fmt::format(" {}={}", py::str(name).cast<std::string>(),
                             py::str(value).cast<std::string>());
    return py::str(fmt::format("<cudadent.Operator {}{}>", core.name, options));
  });
}

PyObject* get_name(PyObject* self, void*) {
  return guarded([&] { return py::str(core_of(self).name); });
}

PyObject* get_doc(PyObject* self, void*) {
  return guarded([&] { return core_of(self).doc; });
}

int set_doc(PyObject* self, PyObject* value, void*) {
  core_of(self).doc = value == nullptr ? py::none() : py::reinterpret_borrow<py::object>(value);
  return 0;
}

PyObject* get_options(PyObject* self, void*) {
  return guarded([&] { return bound_options(core_of(self)); });
}

PyObject* get_tensors(PyObject* self, void*) {
  return guarded([&] {
    py::list names;
    for (const auto& tensor : core_of(self).info.tensors) names.append(tensor.name);
    return py::tuple(names);
  });
}

// What a scalar is when a call does not say; None where that depends on the problem.
py::object default_of(const Core& core, std::size_t scalar) {
  const double value = core.scalars[scalar];
  if (std::isnan(value)) return py::none();
  if (core.info.scalars[scalar].integer) return py::int_(static_cast<std::int64_t>(value));
  return py::float_(value);
}

// For inspect.signature and help().
PyObject* get_signature(PyObject* self, void*) {
  return guarded([&] {
    const Core& core = core_of(self);
    const auto inspect = py::module_::import("inspect");
    const py::object kind = inspect.attr("Parameter");
    py::list parameters;
    const auto add = [&](const py::object& name, const char* how, const py::object& value) {
      parameters.append(kind(name, kind.attr(how), py::arg("default") = value));
    };
    bool needed = true;  // Python wants parameters without a default to come first
    for (const auto& parameter : core.parameters) {
      const py::object& name = parameter.name;
      if (parameter.kind == Parameter::Kind::tensor &&
          &parameter - core.parameters.data() < std::ptrdiff_t(core.info.tensors.size())) {
        const auto& tensor = core.info.tensors[parameter.index];
        needed = needed && !tensor.output && !tensor.optional;
        add(name, "POSITIONAL_OR_KEYWORD",
            needed ? py::object(kind.attr("empty")) : py::object(py::none()));
      } else if (parameter.kind == Parameter::Kind::option) {
        const Option& option = core.options[parameter.index];
        add(name, "KEYWORD_ONLY", option.values[option.bound]);
      } else if (parameter.kind == Parameter::Kind::scalar) {
        add(name, "KEYWORD_ONLY", default_of(core, parameter.index));
      } else if (parameter.kind == Parameter::Kind::wanted) {
        add(name, "KEYWORD_ONLY", py::bool_(false));
      } else {
        add(name, "KEYWORD_ONLY", py::none());
      }
    }
    return inspect.attr("Signature")(parameters);
  });
}

constexpr const char* prepare_doc =
    "prepare($self, /, *tensors, **arguments)\n--\n\n"
    "Does everything that a call with the same arguments does, except for the launch: looks the\n"
    "problem up or tunes it, compiles and loads. Do this before capturing a CUDA graph.\n"
    "Returns an Explanation: which problem it is, and which configuration will run.";

PyMethodDef methods[] = {
    {"prepare", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(prepare)),
     METH_FASTCALL | METH_KEYWORDS, prepare_doc},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET,
     static_cast<Py_ssize_t>(offsetof(OperatorObject, vectorcall)), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyGetSetDef attributes[] = {
    {"name", get_name, nullptr, "The operator's name.", nullptr},
    {"__name__", get_name, nullptr, nullptr, nullptr},
    {"__doc__", get_doc, set_doc, nullptr, nullptr},
    {"__signature__", get_signature, nullptr, nullptr, nullptr},
    {"options", get_options, nullptr, "The options that a call has unless it says otherwise.",
     nullptr},
    {"tensors", get_tensors, nullptr, "Tensor names, in the order a call takes them.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(refuse_construction)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_repr, reinterpret_cast<void*>(represent)},
                       {Py_tp_methods, methods},
                       {Py_tp_members, members},
                       {Py_tp_getset, attributes},
                       {0, nullptr}};

PyType_Spec specification = {"cudadent.Operator", sizeof(OperatorObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, slots};

// Lives as long as the process, as types of extension modules do.
PyTypeObject* operator_type = nullptr;

}  // namespace

void bind_operator(py::module_& module) {
  operator_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&specification));
  if (operator_type == nullptr) throw py::error_already_set();
  module.attr("Operator") = py::handle(reinterpret_cast<PyObject*>(operator_type));
}

py::object make_operator(std::shared_ptr<Session> session, const std::string& name,
                         const Values& options) {
  auto core = make_core(std::move(session), name, options);
  auto* self = PyObject_New(OperatorObject, operator_type);
  if (self == nullptr) throw py::error_already_set();
  self->vectorcall = vectorcall;
  self->core = core.release();
  return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(self));
}

}  // namespace cudadent::python
