// Python's arrays and tensors as cudadent::Tensor, without copying: NumPy, PyTorch, CuPy, and
// everything that speaks DLPack, __cuda_array_interface__, __array_interface__ or the buffer
// protocol.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "bindings/dlpack.h"
#include "bindings/tensor_types.h"

namespace cudadent::python {

// Reads the tensors of one call, and finds the stream on which to launch.
class TensorReader {
 public:
  // `operation` is for messages and must outlive the reader.
  explicit TensorReader(const std::string& operation) : operation_(operation) {}

  // The caller names the stream: tensors are not asked for theirs.
  void use_stream(Stream stream) noexcept {
    stream_ = stream;
    source_ = Source::caller;
  }

  // A view that is good while `object` and this reader live. Throws Error(invalid_argument): not a
  // tensor, an unknown data type, too many dimensions, read-only but to be written, memory of
  // another kind of device, current on another stream than the tensors before, or a tensor that
  // is more than its memory: masked, lazily negated, requiring a gradient that is being recorded.
  void read(PyObject* object, const std::string& name, bool writable, Tensor& tensor);

  [[nodiscard]] Stream stream() const noexcept { return stream_; }

 private:
  enum class Source : std::uint8_t { none, tensor, caller };

  void read_exchange(PyObject* object, const TensorType& type, Tensor& tensor);
  void read_numpy(PyObject* object, bool writable, Tensor& tensor);
  void read_torch(PyObject* object, Tensor& tensor);
  void read_protocols(PyObject* object, bool writable, Tensor& tensor);
  void read_interface(pybind11::handle object, const pybind11::dict& interface, bool on_device,
                      bool writable, Tensor& tensor);
  void read_dlpack(pybind11::handle object, bool writable, Tensor& tensor);
  void read_buffer(pybind11::handle object, bool writable, Tensor& tensor);

  void take_view(const dlpack::View& view, Tensor& tensor);
  void take_stride(Tensor& tensor, std::size_t i, std::int64_t bytes);
  void offer_stream(Stream stream);
  void start(Tensor& tensor, std::size_t rank);
  [[noreturn]] void fail(const std::string& reason) const;
  // For the Python exception of a library that refuses to hand over a tensor.
  [[noreturn]] void fail_as_library(const pybind11::error_already_set& refusal) const;

  const std::string& operation_;
  const std::string* name_ = nullptr;  // of the tensor being read
  Stream stream_ = nullptr;
  Source source_ = Source::none;
  const dlpack::Exchange* asked_ = nullptr;  // whose current stream is known, and for
  std::int32_t asked_device_ = host_memory;  // which device
  std::optional<bool> grad_mode_;            // of PyTorch, once it was needed
  std::vector<pybind11::object> kept_;       // what views point into, until the call ends
};

// What `stream=` says: an integer, or a stream object of PyTorch, CuPy or of the __cuda_stream__
// protocol. Throws Error(invalid_argument).
Stream stream_from_python(PyObject* object, const std::string& operation);

}  // namespace cudadent::python
