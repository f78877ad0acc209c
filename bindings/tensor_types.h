// What is known of the Python types whose objects are tensors.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>

#include "bindings/dlpack.h"
#include "bindings/torch_tensor.h"

namespace cudadent::python {

// How the tensors of a Python type are read, and which library makes more of them.
struct TensorType {
  enum class Reader : std::uint8_t { exchange, numpy, torch, protocols };
  enum class Library : std::uint8_t { torch, numpy, cupy, other };

  PyTypeObject* type = nullptr;
  Reader reader = Reader::protocols;
  Library library = Library::other;
  const dlpack::Exchange* exchange = nullptr;
  std::string why_not_memory;              // why its tensors cannot be read; empty: they can
  bool is_immutable = false;               // its library counts on nobody writing to its tensors
  std::shared_ptr<const TorchType> torch;  // for PyTorch's
};

// Looks a type up once and remembers it. The reference is good until the next call.
const TensorType& tensor_type_of(PyObject* object);

}  // namespace cudadent::python
