#include "bindings/errors.h"

#include <fmt/format.h>

#include <new>
#include <utility>

namespace py = pybind11;

namespace cudadent::python {

namespace {

constexpr const char* error_doc =
    "Every failure of cudadent.\n\n"
    "code   : what kind of failure: 'invalid_argument', 'invalid_manifest', 'unsupported',\n"
    "         'not_tuned', 'device_unavailable', 'compiler_unavailable', 'compile_failed',\n"
    "         'launch_failed', 'cache_failed', 'timed_out', 'machine_failed', 'cancelled'\n"
    "         or 'internal'\n"
    "detail : long material, such as a compiler's log; often empty";

constexpr const char* invalid_argument_doc =
    "Tensors, names or values that do not fit. Its code is 'invalid_argument'.";

// Live as long as the process: an exception may outlast the module.
PyObject* error_type = nullptr;
PyObject* invalid_argument_type = nullptr;

void set_error(const Error& error) {
  PyObject* type = error.code() == ErrorCode::invalid_argument ? invalid_argument_type : error_type;
  try {
    const py::object exception = py::reinterpret_borrow<py::object>(type)(py::str(error.what()));
    exception.attr("code") = py::str(std::string(name_of(error.code())));
    // A compiler's log may hold anything; never fail to report because of it.
    exception.attr("detail") = py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
        error.detail().data(), static_cast<Py_ssize_t>(error.detail().size()), "replace"));
    PyErr_SetObject(type, exception.ptr());
  } catch (py::error_already_set& other) {
    other.restore();
  }
}

}  // namespace

void bind_errors(py::module_& module) {
  error_type = PyErr_NewExceptionWithDoc("cudadent.Error", error_doc, PyExc_RuntimeError, nullptr);
  if (error_type == nullptr) throw py::error_already_set();
  py::setattr(error_type, "code", py::str("internal"));
  py::setattr(error_type, "detail", py::str(""));
  const py::tuple bases = py::make_tuple(py::handle(error_type), py::handle(PyExc_ValueError));
  invalid_argument_type = PyErr_NewExceptionWithDoc("cudadent.InvalidArgument",
                                                    invalid_argument_doc, bases.ptr(), nullptr);
  if (invalid_argument_type == nullptr) throw py::error_already_set();
  py::setattr(invalid_argument_type, "code", py::str("invalid_argument"));
  module.attr("Error") = py::handle(error_type);
  module.attr("InvalidArgument") = py::handle(invalid_argument_type);
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(std::move(pointer));
    } catch (const Error& error) {
      set_error(error);
    }
  });
}

void set_exception() noexcept {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (py::builtin_exception& error) {
    error.set_error();
  } catch (const Error& error) {
    set_error(error);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    set_error(Error(ErrorCode::internal, error.what()));
  } catch (...) {
    set_error(Error(ErrorCode::internal, "an unknown exception"));
  }
}

void reject(const std::string& operation, const std::string& reason) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", operation, reason));
}

}  // namespace cudadent::python
