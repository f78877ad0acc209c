#include "bindings/operator_arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "bindings/errors.h"
#include "bindings/values.h"
#include "runtime/language/value.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

std::string keyword_list(const Core& core) {
  std::vector<std::string> names;
  names.reserve(core.parameters.size());
  for (const auto& parameter : core.parameters) names.push_back(parameter.name.cast<std::string>());
  return fmt::format("{}", fmt::join(names, ", "));
}

const Parameter& find_parameter(const Core& core, PyObject* keyword) {
  for (const auto& parameter : core.parameters)
    if (parameter.name.ptr() == keyword) return parameter;
  for (const auto& parameter : core.parameters)
    if (PyUnicode_Compare(parameter.name.ptr(), keyword) == 0) return parameter;
  reject(core.name, fmt::format("unknown argument \"{}\"; known: {}",
                                py::handle(keyword).cast<std::string>(), keyword_list(core)));
}

std::size_t option_index(const Core& core, std::size_t option, PyObject* value) {
  const auto& values = core.options[option].values;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].ptr() == value) return i;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].equal(py::handle(value))) return i;
  std::vector<std::string> allowed;
  for (const auto& known : core.info.options[option].allowed) allowed.push_back(to_text(known));
  reject(core.name,
         fmt::format("{}={} is not allowed; expected one of {}", core.info.options[option].name,
                     py::str(py::handle(value)).cast<std::string>(), fmt::join(allowed, ", ")));
}

void take_tensor(const Core& core, Call& call, std::size_t index, PyObject* value) {
  if (call.tensors[index] != nullptr && call.tensors[index] != Py_True)
    reject(core.name, fmt::format("{} is given twice", core.info.tensors[index].name));
  if (value != Py_False) call.tensors[index] = value;
}

void take_wanted(Call& call, std::size_t index, PyObject* value) {
  const int wanted = PyObject_IsTrue(value);
  if (wanted < 0) throw py::error_already_set();
  if (wanted == 1 && call.tensors[index] == nullptr) call.tensors[index] = Py_True;
}

void take_scalar(const Core& core, Call& call, std::size_t index, PyObject* value) {
  if (!call.has_scalars) std::copy(core.scalars.begin(), core.scalars.end(), call.scalars.begin());
  call.has_scalars = true;
  call.scalars[index] = PyFloat_AsDouble(value);
  if (call.scalars[index] == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    reject(core.name, fmt::format("{} is a {}, expected a number", core.info.scalars[index].name,
                                  Py_TYPE(value)->tp_name));
  }
  // It would stand for the default.
  if (std::isnan(call.scalars[index]))
    reject(core.name, fmt::format("{0}=nan is not a finite number; leave {0} out for its default",
                                  core.info.scalars[index].name));
}

void take_keyword(const Core& core, Call& call, PyObject* keyword, PyObject* value) {
  const Parameter& parameter = find_parameter(core, keyword);
  if (value == Py_None) return;
  switch (parameter.kind) {
    case Parameter::Kind::tensor:
      return take_tensor(core, call, parameter.index, value);
    case Parameter::Kind::wanted:
      return take_wanted(call, parameter.index, value);
    case Parameter::Kind::scalar:
      return take_scalar(core, call, parameter.index, value);
    case Parameter::Kind::option: {
      const Option& option = core.options[parameter.index];
      // Modulo 2^64, so the order of subtraction and addition does not matter.
      call.combination +=
          (option_index(core, parameter.index, value) - option.bound) * option.weight;
      return;
    }
    case Parameter::Kind::dtype:
      call.dtypes[parameter.index] =
          data_type_from_python(value, core.info.dtypes[parameter.index].name);
      return;
    case Parameter::Kind::stream:
      call.stream = value;
      return;
  }
}
}  // namespace

void take_arguments(const Core& core, Call& call, PyObject* const* arguments, std::size_t count,
                    PyObject* keywords) {
  if (count > core.info.tensors.size())
    reject(core.name,
           fmt::format("{} tensors given, expected at most {}", count, core.info.tensors.size()));
  call.combination = core.combination;
  if (core.has_scalars) {
    std::copy(core.scalars.begin(), core.scalars.end(), call.scalars.begin());
    call.has_scalars = true;
  }
  for (std::size_t i = 0; i < count; ++i)
    if (arguments[i] != Py_None) take_tensor(core, call, i, arguments[i]);
  if (keywords == nullptr) return;
  const Py_ssize_t keyword_count = PyTuple_GET_SIZE(keywords);
  for (Py_ssize_t i = 0; i < keyword_count; ++i)
    take_keyword(core, call, PyTuple_GET_ITEM(keywords, i),
                 arguments[count + static_cast<std::size_t>(i)]);
}

}  // namespace cudadent::python
