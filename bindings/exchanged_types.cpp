#include "bindings/exchanged_types.h"

#include <fmt/format.h>

#include <string>

#include "bindings/values.h"

namespace py = pybind11;

namespace cudadent::python {

bool is_of_ml_dtypes(DataType type) noexcept {
  return type == DataType::bf16 || type == DataType::e4m3 || type == DataType::e5m2;
}
namespace {

std::optional<DataType> data_type_of_ml_dtypes(std::string_view name) {
  const auto type = data_type_of_array_name(name);
  return type && is_of_ml_dtypes(*type) ? type : std::nullopt;
}

}  // namespace

std::optional<DataType> data_type_of_numpy(const py::dtype& dtype) {
  if (dtype.byteorder() == '>') return std::nullopt;
  switch (dtype.num()) {
    case 0:
      return DataType::boolean;
    case 1:
      return DataType::i8;
    case 2:
      return DataType::u8;
    case 5:
      return DataType::i32;
    case 7:  // long: as wide as a pointer here
    case 9:
      return DataType::i64;
    case 11:
      return DataType::f32;
    case 12:
      return DataType::f64;
    case 23:
      return DataType::f16;
    default:
      return data_type_of_ml_dtypes(dtype.attr("name").cast<std::string>());
  }
}

std::optional<DataType> data_type_of_typestr(std::string_view text, py::handle object) {
  if (text.size() < 3 || text[0] == '>') return std::nullopt;
  const std::string_view kind = text.substr(1);
  if (kind == "f8") return DataType::f64;
  if (kind == "f4") return DataType::f32;
  if (kind == "f2") return DataType::f16;
  if (kind == "i8") return DataType::i64;
  if (kind == "i4") return DataType::i32;
  if (kind == "i1") return DataType::i8;
  if (kind == "u1") return DataType::u8;
  if (kind == "b1") return DataType::boolean;
  // Types of ml_dtypes have no letter of their own: they are bytes without a meaning, or floats of one.
  if (kind != "V2" && kind != "V1" && kind != "f1") return std::nullopt;
  return data_type_of_ml_dtypes(
      py::str(py::getattr(object, "dtype", py::none())).cast<std::string>());
}

std::optional<DataType> data_type_of_buffer(const Py_buffer& buffer) {
  std::string_view format = buffer.format == nullptr ? "B" : buffer.format;
  if (format.size() == 2 && (format[0] == '<' || format[0] == '=' || format[0] == '@'))
    format.remove_prefix(1);
  if (format.size() != 1) return std::nullopt;
  const auto sized = [&](char kind) {
    return data_type_of_typestr(fmt::format("<{}{}", kind, buffer.itemsize), py::none());
  };
  if (std::string_view("efd").find(format[0]) != std::string_view::npos) return sized('f');
  if (std::string_view("bhilqn").find(format[0]) != std::string_view::npos) return sized('i');
  if (std::string_view("BHILQN").find(format[0]) != std::string_view::npos) return sized('u');
  if (format[0] == '?') return DataType::boolean;
  return std::nullopt;
}

std::optional<DataType> data_type_of_dlpack(dlpack::ElementType type) noexcept {
  if (type.lanes != 1) return std::nullopt;
  switch (type.code * 256 + type.bits) {
    case dlpack::real * 256 + 64:
      return DataType::f64;
    case dlpack::real * 256 + 32:
      return DataType::f32;
    case dlpack::real * 256 + 16:
      return DataType::f16;
    case dlpack::bfloat * 256 + 16:
      return DataType::bf16;
    case dlpack::integer * 256 + 64:
      return DataType::i64;
    case dlpack::integer * 256 + 32:
      return DataType::i32;
    case dlpack::integer * 256 + 8:
      return DataType::i8;
    case dlpack::unsigned_integer * 256 + 8:
      return DataType::u8;
    case dlpack::truth * 256 + 8:
      return DataType::boolean;
    case dlpack::float8_e4m3fn * 256 + 8:
      return DataType::e4m3;
    case dlpack::float8_e5m2 * 256 + 8:
      return DataType::e5m2;
    default:
      return std::nullopt;
  }
}

}  // namespace cudadent::python
