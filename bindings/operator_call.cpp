#include "bindings/operator_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <utility>

#include "bindings/errors.h"
#include "bindings/operator_arguments.h"
#include "bindings/operator_outputs.h"
#include "bindings/tensor_reader.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

// Those of the deciding tensors that a call gives, or wants made: a bit each.
std::uint32_t presence_of(const Core& core, const Call& call) {
  std::uint32_t presence = 0;
  for (const std::size_t i : core.deciders)
    if (call.tensors[i] != nullptr) presence |= 1U << i;
  return presence;
}

void check_dtypes(const Core& core, const Binding& binding, const Call& call,
                  const std::array<Tensor, max_tensors>& tensors) {
  for (std::size_t i = 0; i < core.info.tensors.size(); ++i) {
    const auto& symbol = binding.plans[i].dtype_symbol;
    if (!tensors[i].present() || !symbol || !call.dtypes[*symbol]) continue;
    if (*call.dtypes[*symbol] != tensors[i].dtype)
      reject(core.name, fmt::format("{} is {}, but {}={}", core.info.tensors[i].name,
                                    name_of(tensors[i].dtype), core.info.dtypes[*symbol].name,
                                    name_of(*call.dtypes[*symbol])));
  }
}

// A call whose tensors are read and complete.
struct Ready {
  Ready(Core& core, PyObject* const* arguments, std::size_t count, PyObject* keywords);

  Call call;
  TensorReader reader;
  std::shared_ptr<const Binding> binding;
  std::array<Tensor, max_tensors> tensors;
};

Ready::Ready(Core& core, PyObject* const* arguments, std::size_t given, PyObject* keywords)
    : reader(core.name) {
  take_arguments(core, call, arguments, given, keywords);
  const std::size_t count = core.info.tensors.size();
  if (call.stream != nullptr) reader.use_stream(stream_from_python(call.stream, core.name));
  std::size_t first = count;
  bool complete = true;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& info = core.info.tensors[i];
    PyObject* object = call.tensors[i];
    if (object == nullptr || object == Py_True) {
      complete = complete && object == nullptr && (info.optional || !info.output);
      continue;
    }
    reader.read(object, info.name, info.output, tensors[i]);
    if (first == count || (core.info.tensors[first].output && !info.output)) first = i;
  }
  if (first == count) reject(core.name, "no tensor is given");
  binding = find_binding(core, tensors[first].device, call.combination, presence_of(core, call));
  if (!complete) make_outputs(core, *binding, call, tensors, first, reader);
  check_dtypes(core, *binding, call, tensors);
}

std::span<const double> scalars_of(const Core& core, const Call& call) {
  return {call.scalars.data(), call.has_scalars ? core.info.scalars.size() : 0};
}

// Up to the last that is there: optional ones at the end need not be looked at.
std::span<const Tensor> tensors_of(const Core& core, const Ready& ready) {
  std::size_t count = core.info.tensors.size();
  while (count > 0 && !ready.tensors[count - 1].present()) --count;
  return {ready.tensors.data(), count};
}

// Of the caller's outputs PyTorch has to know; nobody else has those that the call made.
void count_writes(const Core& core, const Call& call) {
  for (std::size_t i = 0; i < core.info.tensors.size(); ++i) {
    PyObject* const object = call.tensors[i];
    if (object == nullptr || !core.info.tensors[i].output) continue;
    const bool is_new = std::any_of(call.made.begin(), call.made.end(),
                                    [&](const auto& made) { return made.ptr() == object; });
    if (is_new) continue;
    if (const auto& torch = tensor_type_of(object).torch) torch->count_write(object);
  }
}

void launch(const Core& core, const Ready& ready) {
  const std::span<const Tensor> tensors = tensors_of(core, ready);
  const std::span<const double> scalars = scalars_of(core, ready.call);
  const Stream stream = ready.reader.stream();
  const Operator& op = ready.binding->op;
  const auto& runtime = ready.binding->session->runtime();
  // A launch on a GPU takes less time than to let go of the lock and to get it back.
  const bool is_asynchronous = std::any_of(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.present() && tensor.device != host_memory;
  });
  if (is_asynchronous && op.try_launch(tensors, stream, scalars)) return;
  without_interpreter_lock([&, keep = runtime] {
    op.launch(tensors, stream, scalars);
    return true;
  });
}

}  // namespace

py::object call_operator(Core& core, PyObject* const* arguments, std::size_t count,
                         PyObject* keywords) {
  const Ready ready(core, arguments, count, keywords);
  count_writes(core, ready.call);
  launch(core, ready);
  return result_of(core, ready.call);
}

py::object prepare_operator(Core& core, PyObject* const* arguments, std::size_t count,
                            PyObject* keywords) {
  const Ready ready(core, arguments, count, keywords);
  const std::span<const Tensor> tensors = tensors_of(core, ready);
  const std::span<const double> scalars = scalars_of(core, ready.call);
  return py::cast(without_interpreter_lock([&, keep = ready.binding->session->runtime()] {
    return ready.binding->op.prepare(tensors, scalars);
  }));
}

}  // namespace cudadent::python
