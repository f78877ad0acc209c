#include "bindings/tensor_reader.h"

#include <fmt/format.h>
#include <pybind11/numpy.h>

#include <algorithm>

#include "bindings/errors.h"
#include "bindings/exchanged_types.h"
#include "bindings/values.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

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
