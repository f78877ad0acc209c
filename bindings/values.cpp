#include "bindings/values.h"

#include <fmt/format.h>

#include <array>

#include "bindings/errors.h"
#include "tuner/budget.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

struct ArrayName {
  DataType type;
  const char* name;
};

constexpr std::array<ArrayName, 11> array_names{{{DataType::f64, "float64"},
                                                 {DataType::f32, "float32"},
                                                 {DataType::bf16, "bfloat16"},
                                                 {DataType::f16, "float16"},
                                                 {DataType::i64, "int64"},
                                                 {DataType::i32, "int32"},
                                                 {DataType::i8, "int8"},
                                                 {DataType::u8, "uint8"},
                                                 {DataType::boolean, "bool"},
                                                 {DataType::e4m3, "float8_e4m3fn"},
                                                 {DataType::e5m2, "float8_e5m2"}}};

// The name of a data type object of whatever library; empty when it is none.
std::string name_of_data_type_object(py::handle object) {
  if (py::hasattr(object, "name") && py::isinstance<py::str>(object.attr("name")))
    return object.attr("name").cast<std::string>();  // numpy.dtype("float32")
  if (PyType_Check(object.ptr()))
    return object.attr("__name__").cast<std::string>();  // numpy.float32
  const auto text = py::str(object).cast<std::string>();
  return text.starts_with("torch.") ? text.substr(6) : std::string();  // torch.float32
}

std::string text_of(py::handle object) { return py::repr(object).cast<std::string>(); }

}  // namespace

py::object to_python(const Value& value) {
  return std::visit([](const auto& held) { return py::cast(held); }, value);
}

py::dict to_python(const Values& values) {
  py::dict dictionary;
  for (const auto& [name, value] : values) dictionary[py::str(name)] = to_python(value);
  return dictionary;
}

Value value_from_python(py::handle object, const std::string& what) {
  if (py::isinstance<py::bool_>(object)) return object.cast<bool>();
  if (py::isinstance<py::str>(object)) return object.cast<std::string>();
  if (py::isinstance<py::float_>(object)) return object.cast<double>();
  if (PyIndex_Check(object.ptr())) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
    if (!number) throw py::error_already_set();
    const long long integer = PyLong_AsLongLong(number.ptr());
    if (integer == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    return static_cast<std::int64_t>(integer);
  }
  if (const auto type = data_type_of_array_name(name_of_data_type_object(object)))
    return std::string(name_of(*type));
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{}={} is not a number, a flag, a word or a data type", what, text_of(object)));
}

DataType data_type_from_python(py::handle object, const std::string& what) {
  const bool is_text = py::isinstance<py::str>(object);
  const std::string name = is_text ? object.cast<std::string>() : name_of_data_type_object(object);
  if (const auto type = data_type_named(name)) return *type;
  if (const auto type = data_type_of_array_name(name)) return *type;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{}={} is not a data type; expected f64, f32, bf16, f16, i64, i32, i8, "
                          "u8, bool, e4m3, e5m2, or a NumPy or PyTorch data type",
                          what, text_of(object)));
}

const char* array_name_of(DataType type) {
  for (const auto& entry : array_names)
    if (entry.type == type) return entry.name;
  return "";
}

std::optional<DataType> data_type_of_array_name(std::string_view name) {
  for (const auto& entry : array_names)
    if (entry.name == name) return entry.type;
  return std::nullopt;
}

Budget budget_from_python(py::handle object) {
  if (object.is_none()) return {};
  if (py::isinstance<Budget>(object)) return object.cast<Budget>();
  if (!py::isinstance<py::str>(object)) {
    const double seconds = PyFloat_AsDouble(object.ptr());
    if (seconds == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    const Budget budget{.seconds = seconds};
    check_budget(budget);
    return budget;
  }
  const auto text = object.cast<std::string>();
  // A number alone is one of trials where there are words only, on the command line, and of seconds here.
  if (text.find_first_not_of("0123456789.+-eE ") == std::string::npos)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("budget='{}': seconds or trials? Write '{}s' or '{} trials', or give a "
                            "number of seconds",
                            text, text, text));
  return parse_budget(text);
}

}  // namespace cudadent::python
