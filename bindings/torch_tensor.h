// What a tensor of PyTorch is beside its memory: a part of a graph that computes gradients, perhaps lazily negated,
// with a count of how often it was written to.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>

namespace cudadent::python {

// How tensors of one type tell; looked up once a type, since attributes by name cost more than a launch allows.
class TorchType {
 public:
  explicit TorchType(PyTypeObject* type);

  // Why tensors of this type are not what their memory holds; empty when they are.
  [[nodiscard]] const std::string& why_not_memory() const noexcept { return why_not_memory_; }
  // Why this one is not, or would silently lose something; empty when its memory is all there is to it. Allocates
  // nothing then. `grad_mode`, whether PyTorch records what is differentiated, is asked for when first needed.
  [[nodiscard]] std::string why_more_than_memory(PyObject* tensor,
                                                 std::optional<bool>& grad_mode) const;
  // Whether its memory has the numbers with the other sign: of complex numbers' parts, so of types that those have.
  [[nodiscard]] bool is_negated(PyObject* tensor) const;
  // Tells PyTorch that the tensor is written to, so that a gradient that needs what it was is an error.
  void count_write(PyObject* tensor) const;

 private:
  pybind11::object requires_grad_, is_neg_;  // a descriptor, a function of one argument
  pybind11::object is_grad_enabled_, increment_version_;
  pybind11::object forward_ad_;  // the namespace of torch.autograd.forward_ad; null without it
  std::string why_not_memory_;
};

}  // namespace cudadent::python
