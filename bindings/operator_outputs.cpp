#include "bindings/operator_outputs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "bindings/errors.h"
#include "bindings/new_tensor.h"
#include "runtime/language/value.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

[[noreturn]] void reject_output(const Core& core, std::size_t i, const std::string& reason) {
  reject(core.name, fmt::format("cannot make {}: {}; give a tensor to write to",
                                core.info.tensors[i].name, reason));
}

// The extents of the dimensions that the tensors given bind; −1 for others.
std::vector<std::int64_t> extents_of(const Core& core, const Binding& binding, const Call& call,
                                     const std::array<Tensor, max_tensors>& tensors) {
  std::vector<std::int64_t> extents(binding.symbol_count, -1);
  for (std::size_t i = 0; i < core.info.tensors.size(); ++i) {
    if (!tensors[i].present() || call.tensors[i] == Py_True) continue;
    const auto& dimensions = binding.plans[i].dimensions;
    const auto rank = static_cast<std::size_t>(tensors[i].rank);
    const std::size_t missing = dimensions.size() - rank;
    if (missing != 0 && !(missing == 1 && binding.plans[i].first_is_optional)) {
      const std::vector<std::int64_t> shape(tensors[i].shape.begin(),
                                            tensors[i].shape.begin() + tensors[i].rank);
      std::vector<std::string> expected;
      for (const auto& dimension : core.manifest->tensors[i].shape_for(binding.decided))
        expected.push_back(dimension.text());
      reject(core.name, fmt::format("{} has shape [{}], expected [{}]", core.info.tensors[i].name,
                                    fmt::join(shape, ", "), fmt::join(expected, ", ")));
    }
    for (std::size_t j = missing; j < dimensions.size(); ++j) {
      const auto& [symbol, factor, offset] = dimensions[j];
      // Of extents that do not fit, the launch says what is wrong.
      if (symbol == no_symbol || extents[symbol] >= 0) continue;
      const std::int64_t times = tensors[i].shape[j - missing] - offset;
      extents[symbol] = std::max<std::int64_t>(0, factor == 1 ? times : times / factor);
    }
  }
  return extents;
}

// What the call says of a data-type symbol, or the tensors given, or the manifest's default.
std::optional<DataType> dtype_of_symbol(const Core& core, const Binding& binding, const Call& call,
                                        const std::array<Tensor, max_tensors>& tensors,
                                        std::size_t symbol) {
  if (call.dtypes[symbol]) return call.dtypes[symbol];
  for (std::size_t i = 0; i < core.info.tensors.size(); ++i)
    if (tensors[i].present() && binding.plans[i].dtype_symbol == symbol) return tensors[i].dtype;
  const auto& otherwise = core.dtype_defaults[symbol];
  if (!otherwise) return std::nullopt;
  Values earlier;  // a default is made of earlier symbols
  for (const auto& name : otherwise->names())
    for (std::size_t i = 0; i < symbol; ++i) {
      if (core.info.dtypes[i].name != name) continue;
      const auto type = dtype_of_symbol(core, binding, call, tensors, i);
      if (!type) return std::nullopt;
      earlier[name] = std::string(name_of(*type));
    }
  return data_type_named(to_text(otherwise->evaluate(Scope(earlier))));
}

py::object make_output(const Core& core, const Binding& binding, const Call& call,
                       const std::array<Tensor, max_tensors>& tensors, std::size_t i,
                       std::size_t like) {
  const OutputPlan& plan = binding.plans[i];
  const auto extents = extents_of(core, binding, call, tensors);
  std::array<std::int64_t, max_rank> shape{};
  std::size_t rank = 0;
  for (std::size_t j = 0; j < plan.dimensions.size(); ++j) {
    const auto& [symbol, factor, offset] = plan.dimensions[j];  // an output's has no factor
    const std::int64_t extent = symbol == no_symbol ? offset : extents[symbol];
    // Where no tensor has an optional dimension, outputs have none either.
    if (extent < 0 && j == 0 && plan.first_is_optional) continue;
    if (extent < 0) reject_output(core, i, "no tensor given tells its shape");
    shape[rank++] = extent;
  }
  std::optional<DataType> dtype = plan.dtype;
  if (plan.dtype_symbol) dtype = dtype_of_symbol(core, binding, call, tensors, *plan.dtype_symbol);
  if (!dtype) reject_output(core, i, "no tensor given tells its data type");
  return make_tensor_like(call.tensors[like], shape.data(), rank, *dtype, tensors[like].device,
                          core.name, core.info.tensors[i].name);
}
}  // namespace

void make_outputs(const Core& core, const Binding& binding, Call& call,
                  std::array<Tensor, max_tensors>& tensors, std::size_t like,
                  TensorReader& reader) {
  for (std::size_t i = 0; i < core.info.tensors.size(); ++i) {
    const auto& info = core.info.tensors[i];
    if (!info.output && !info.optional && call.tensors[i] == nullptr)
      reject(core.name, fmt::format("tensor {} is missing", info.name));
    const bool wanted =
        call.tensors[i] == Py_True || (info.output && !info.optional && call.tensors[i] == nullptr);
    if (!wanted) continue;
    if (!info.output) reject(core.name, fmt::format("{} is a bool, not a tensor", info.name));
    call.made.push_back(make_output(core, binding, call, tensors, i, like));
    call.tensors[i] = call.made.back().ptr();
    reader.read(call.tensors[i], info.name, true, tensors[i]);
  }
}

py::object result_of(const Core& core, const Call& call) {
  std::array<PyObject*, max_tensors> outputs;
  std::size_t count = 0;
  for (const bool optional : {false, true})
    for (std::size_t i = 0; i < core.info.tensors.size(); ++i)
      if (core.info.tensors[i].output && core.info.tensors[i].optional == optional &&
          call.tensors[i] != nullptr)
        outputs[count++] = call.tensors[i];
  if (count == 1) return py::reinterpret_borrow<py::object>(outputs[0]);
  py::tuple result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = py::handle(outputs[i]);
  return result;
}

}  // namespace cudadent::python
