#include "bindings/tensor_reader.h"

#include <fmt/format.h>
#include <pybind11/numpy.h>

#include <algorithm>
#include <string_view>

#include "bindings/errors.h"
#include "bindings/values.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

// ------------------------------------------------------------------------------- types

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

// ------------------------------------------------------------------------------- data types

// Types that NumPy itself does not have; those of the package ml_dtypes go by their names.
bool is_of_ml_dtypes(DataType type) noexcept {
  return type == DataType::bf16 || type == DataType::e4m3 || type == DataType::e5m2;
}
std::optional<DataType> data_type_of_ml_dtypes(std::string_view name) {
  const auto type = data_type_of_array_name(name);
  return type && is_of_ml_dtypes(*type) ? type : std::nullopt;
}

// By the code of a NumPy type; user-defined ones (ml_dtypes.bfloat16) go by name.
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

// Of array interfaces ("<f4") and, with the size put behind it, of the buffer protocol ("f").
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

// None when the dictionary lacks the key.
py::object item_of(const py::dict& dictionary, const char* key) {
  PyObject* item = PyDict_GetItemString(dictionary.ptr(), key);  // borrowed
  return py::reinterpret_borrow<py::object>(item == nullptr ? Py_None : item);
}

bool has_elements(const Tensor& tensor) {
  const auto* const end = tensor.shape.begin() + tensor.rank;
  return std::find(tensor.shape.begin(), end, 0) == end;
}

// Nothing is read through the strides of a tensor without elements, and libraries set them as they
// like: NumPy to 0.
void pack_if_empty(Tensor& tensor) {
  const auto rank = static_cast<std::size_t>(tensor.rank);
  if (has_elements(tensor)) return;
  std::int64_t packed = 1;
  for (std::size_t i = rank; i-- > 0;) {
    tensor.strides[i] = packed;
    packed *= std::max<std::int64_t>(tensor.shape[i], 1);
  }
}

void* pointer_of(py::handle address) {
  return reinterpret_cast<void*>(  // NOLINT(performance-no-int-to-ptr): Python has no pointers
      address.cast<std::uintptr_t>());
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

// ------------------------------------------------------------------------------- reader

void TensorReader::fail(const std::string& reason) const {
  reject(operation_, fmt::format("{} {}", *name_, reason));
}

void TensorReader::fail_as_library(const py::error_already_set& refusal) const {
  for (PyObject* const type :
       {PyExc_RuntimeError, PyExc_ValueError, PyExc_TypeError, PyExc_BufferError})
    if (refusal.matches(type))
      fail(fmt::format("cannot be read as memory: {}",
                       py::str(refusal.value()).cast<std::string>()));
  throw py::error_already_set(refusal);  // an interrupt, say
}

void TensorReader::read(PyObject* object, const std::string& name, bool writable, Tensor& tensor) {
  name_ = &name;
  const TensorType& type = tensor_type_of(object);
  if (!type.why_not_memory.empty()) fail(type.why_not_memory);
  if (writable && type.is_immutable)
    fail(fmt::format("is a {}, which may not be written to", type.type->tp_name));
  if (type.torch)
    if (const auto why = type.torch->why_more_than_memory(object, grad_mode_); !why.empty())
      fail(why);
  switch (type.reader) {
    case TensorType::Reader::exchange:
      read_exchange(object, type, tensor);
      break;
    case TensorType::Reader::numpy:
      read_numpy(object, writable, tensor);
      break;
    case TensorType::Reader::torch:
      read_torch(object, tensor);
      break;
    case TensorType::Reader::protocols:
      read_protocols(object, writable, tensor);
      break;
  }
  const bool may_be_negated = tensor.dtype == DataType::f32 || tensor.dtype == DataType::f64 ||
                              tensor.dtype == DataType::f16;
  if (type.torch && may_be_negated && type.torch->is_negated(object))
    fail(
        "is negated lazily: its memory holds the numbers with the other sign. Pass "
        "x.resolve_neg()");
  if (tensor.data == nullptr && has_elements(tensor))
    fail(
        "has elements but no memory for them, as tensors of shapes alone have, and zeros that are "
        "never stored");
  pack_if_empty(tensor);
}

void TensorReader::start(Tensor& tensor, std::size_t rank) {
  if (rank > max_rank)
    fail(fmt::format("has {} dimensions, at most {} are possible", rank, max_rank));
  tensor.rank = static_cast<std::int32_t>(rank);
}

void TensorReader::take_stride(Tensor& tensor, std::size_t i, std::int64_t bytes) {
  const auto size = static_cast<std::int64_t>(size_of(tensor.dtype));
  if (bytes % size != 0 && tensor.shape[i] > 1)
    fail(
        fmt::format("is not contiguous: a stride of {} bytes is no whole number of elements of {}. "
                    "Pass a contiguous copy.",
                    bytes, size));
  tensor.strides[i] = bytes / size;
}

void TensorReader::offer_stream(Stream stream) {
  // 1 and null both name the legacy default stream.
  if (reinterpret_cast<std::uintptr_t>(stream) == 1) stream = nullptr;
  if (source_ == Source::caller) return;
  if (source_ == Source::tensor && stream != stream_)
    fail(
        "is current on another stream than the tensors before it. Synchronise them, and say on "
        "which stream to launch: stream=…");
  stream_ = stream;
  source_ = Source::tensor;
}

void TensorReader::take_view(const dlpack::View& view, Tensor& tensor) {
  start(tensor, static_cast<std::size_t>(view.rank));
  const auto type = data_type_of_dlpack(view.type);
  if (!type) fail("has a data type that cudadent does not know");
  tensor.dtype = *type;
  tensor.data =
      view.data == nullptr ? nullptr : static_cast<std::byte*>(view.data) + view.byte_offset;
  switch (view.device.type) {
    case dlpack::cpu:
    case dlpack::cuda_host:
      tensor.device = host_memory;
      break;
    case dlpack::cuda:
    case dlpack::cuda_managed:
      tensor.device = view.device.id;
      break;
    default:
      fail(fmt::format("is neither in host memory nor on a CUDA device (DLPack device type {})",
                       view.device.type));
  }
  std::int64_t packed = 1;
  for (auto i = static_cast<std::size_t>(view.rank); i-- > 0;) {
    tensor.shape[i] = view.shape[i];
    tensor.strides[i] = view.strides == nullptr ? packed : view.strides[i];
    packed *= view.shape[i];
  }
}

void TensorReader::read_exchange(PyObject* object, const TensorType& type, Tensor& tensor) {
  dlpack::View view;
  if (type.exchange->view_of(object, &view) != 0) {
    fail_as_library(py::error_already_set());
  }
  take_view(view, tensor);
  if (tensor.device == host_memory || source_ == Source::caller ||
      (asked_ == type.exchange && asked_device_ == tensor.device))
    return;
  asked_ = type.exchange;
  asked_device_ = tensor.device;
  void* stream = nullptr;
  if (type.exchange->current_stream(dlpack::cuda, tensor.device, &stream) != 0)
    throw py::error_already_set();
  offer_stream(stream);
}

void TensorReader::read_numpy(PyObject* object, bool writable, Tensor& tensor) {
  const auto array = py::reinterpret_borrow<py::array>(object);
  const auto type = data_type_of_numpy(array.dtype());
  if (!type)
    fail(fmt::format("has the data type {}, which cudadent does not know",
                     py::str(array.dtype()).cast<std::string>()));
  if (writable && !array.writeable()) fail("is read-only, and would be written to");
  start(tensor, static_cast<std::size_t>(array.ndim()));
  tensor.dtype = *type;
  tensor.data = const_cast<void*>(array.data());
  tensor.device = host_memory;
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % size_of(*type) != 0)
    fail("is not aligned to its elements. Pass a copy.");
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    tensor.shape[static_cast<std::size_t>(i)] = array.shape(i);
    take_stride(tensor, static_cast<std::size_t>(i), array.strides(i));
  }
}

// PyTorch before 2.10, which has no exchange table.
void TensorReader::read_torch(PyObject* object, Tensor& tensor) {
  const py::handle source(object);
  const py::tuple shape(source.attr("shape"));
  start(tensor, shape.size());
  tensor.dtype = data_type_from_python(source.attr("dtype"), *name_);
  tensor.device = source.attr("get_device")().cast<std::int32_t>();  // −1 in host memory
  if (tensor.device == host_memory &&
      source.attr("device").attr("type").cast<std::string>() != "cpu")
    fail("is neither in host memory nor on a CUDA device");
  tensor.data = pointer_of(source.attr("data_ptr")());
  const py::tuple strides(source.attr("stride")());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    tensor.shape[i] = shape[i].cast<std::int64_t>();
    tensor.strides[i] = strides[i].cast<std::int64_t>();
  }
  if (tensor.device == host_memory || source_ == Source::caller) return;
  const auto current = py::module_::import("torch._C").attr("_cuda_getCurrentRawStream");
  offer_stream(pointer_of(current(tensor.device)));
}

void TensorReader::read_protocols(PyObject* object, bool writable, Tensor& tensor) {
  const py::handle source(object);
  const py::object cuda = py::getattr(source, "__cuda_array_interface__", py::none());
  if (py::isinstance<py::dict>(cuda)) return read_interface(source, cuda, true, writable, tensor);
  const py::object host = py::getattr(source, "__array_interface__", py::none());
  if (py::isinstance<py::dict>(host)) return read_interface(source, host, false, writable, tensor);
  if (py::hasattr(source, "__dlpack__")) return read_dlpack(source, writable, tensor);
  if (PyObject_CheckBuffer(object) != 0) return read_buffer(source, writable, tensor);
  fail(
      fmt::format("is a {}, not a tensor; expected an array of NumPy, PyTorch or CuPy, or an "
                  "object with __dlpack__, __cuda_array_interface__ or __array_interface__",
                  Py_TYPE(object)->tp_name));
}

// The array interface, https://numpy.org/doc/stable/reference/arrays.interface.html, and its CUDA
// kin, https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html (version 3).
void TensorReader::read_interface(py::handle object, const py::dict& interface, bool on_device,
                                  bool writable, Tensor& tensor) {
  const py::tuple shape(interface["shape"]);
  start(tensor, shape.size());
  const auto typestr = interface["typestr"].cast<std::string>();
  const auto type = data_type_of_typestr(typestr, object);
  if (!type) fail(fmt::format("has the data type {}, which cudadent does not know", typestr));
  tensor.dtype = *type;
  const py::object data = item_of(interface, "data");
  if (!py::isinstance<py::tuple>(data)) fail("has an array interface without a pointer");
  const py::tuple address(data);
  if (writable && address[1].cast<bool>()) fail("is read-only, and would be written to");
  tensor.data = pointer_of(address[0]);
  const py::object strides = item_of(interface, "strides");
  std::int64_t packed = static_cast<std::int64_t>(size_of(*type));
  for (std::size_t i = shape.size(); i-- > 0;) {
    tensor.shape[i] = shape[i].cast<std::int64_t>();
    take_stride(tensor, i, strides.is_none() ? packed : py::tuple(strides)[i].cast<std::int64_t>());
    packed *= tensor.shape[i];
  }
  tensor.device = host_memory;
  if (!on_device) return;
  // The interface does not say which device; CuPy tells it DLPack's way.
  tensor.device = 0;
  if (py::hasattr(object, "__dlpack_device__"))
    tensor.device = py::tuple(object.attr("__dlpack_device__")())[1].cast<std::int32_t>();
  const py::object stream = item_of(interface, "stream");
  if (!stream.is_none()) offer_stream(pointer_of(stream));
}

void TensorReader::read_dlpack(py::handle object, bool writable, Tensor& tensor) {
  const py::tuple device(object.attr("__dlpack_device__")());
  py::dict arguments;
  if (device[0].cast<int>() == dlpack::cuda) {
    // The producer makes the data ready on the stream we name: 1 is the legacy default stream.
    const auto stream = reinterpret_cast<std::uintptr_t>(stream_);
    arguments["stream"] = py::int_(stream == 0 ? std::uintptr_t{1} : stream);
  }
  py::object capsule;
  try {
    py::dict versioned(**arguments);
    versioned["max_version"] = py::make_tuple(dlpack::major_version, 3);
    capsule = object.attr("__dlpack__")(**versioned);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) fail_as_library(error);
    capsule = object.attr("__dlpack__")(**arguments);  // from before DLPack 1.0
  }
  kept_.push_back(capsule);  // destroying an unconsumed capsule frees what it holds
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    const auto* managed = static_cast<const dlpack::ManagedVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != dlpack::major_version)
      fail(fmt::format("speaks DLPack {}, not {}", managed->version.major, dlpack::major_version));
    if (writable && (managed->flags & dlpack::read_only) != 0)
      fail("is read-only, and would be written to");
    take_view(managed->view, tensor);
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor")) {
    take_view(
        static_cast<const dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->view,
        tensor);
  } else {
    fail("gave no DLPack capsule");
  }
  if (tensor.device != host_memory) offer_stream(stream_);
}

void TensorReader::read_buffer(py::handle object, bool writable, Tensor& tensor) {
  const auto memory = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(object.ptr()));
  if (!memory) throw py::error_already_set();
  kept_.push_back(memory);
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(memory.ptr());
  const auto type = data_type_of_buffer(buffer);
  if (!type) fail("is a buffer of elements that cudadent does not know");
  if (writable && buffer.readonly != 0) fail("is read-only, and would be written to");
  start(tensor, static_cast<std::size_t>(buffer.ndim));
  tensor.dtype = *type;
  tensor.data = buffer.buf;
  tensor.device = host_memory;
  for (std::size_t i = 0; i < static_cast<std::size_t>(buffer.ndim); ++i) {
    tensor.shape[i] = buffer.shape[i];
    take_stride(tensor, i, buffer.strides[i]);
  }
}

// ------------------------------------------------------------------------------- making tensors

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

Stream stream_from_python(PyObject* object, const std::string& operation) {
  const py::handle source(object);
  if (PyLong_Check(object) != 0) return pointer_of(source);
  if (py::hasattr(source, "cuda_stream")) return pointer_of(source.attr("cuda_stream"));
  if (py::hasattr(source, "__cuda_stream__")) {
    // A pair of the protocol's version and the address; a method of it in the protocol as agreed.
    py::object pair = source.attr("__cuda_stream__");
    if (PyCallable_Check(pair.ptr()) != 0) pair = pair();
    return pointer_of(py::tuple(pair)[1]);
  }
  if (py::hasattr(source, "ptr")) return pointer_of(source.attr("ptr"));
  reject(operation, fmt::format("stream is a {}; expected an address, or a stream of PyTorch or "
                                "CuPy",
                                Py_TYPE(object)->tp_name));
}

}  // namespace cudadent::python
