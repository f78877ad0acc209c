#include "bindings/operator.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <structmember.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "api/parts.h"
#include "bindings/errors.h"
#include "bindings/tensor_reader.h"
#include "bindings/values.h"
#include "runtime/dispatcher.h"
#include "runtime/expression.h"
#include "runtime/operator_info.h"
#include "runtime/problem.h"
#include "runtime/value.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

constexpr std::size_t max_dtypes = 16;

// What a keyword may name.
struct Parameter {
  // wanted: return_lse=True makes the optional output lse.
  enum class Kind : std::uint8_t { tensor, wanted, option, scalar, dtype, stream };
  py::object name;  // interned, so that comparing addresses nearly always suffices
  Kind kind = Kind::stream;
  std::size_t index = 0;  // in the operator's tensors, options, …
};

struct Option {
  std::vector<py::object> values;
  std::size_t bound = 0;     // index of the value when a call does not say
  std::uint64_t weight = 1;  // of the index in the number of a combination of options
};

constexpr std::size_t no_symbol = SIZE_MAX;

// An extent: factor · a symbol's + offset, or the offset alone; below 0 where neither tells.
struct PlannedDimension {
  std::size_t symbol = no_symbol;
  std::int64_t factor = 0, offset = -1;
};

// How to make an output that a call leaves out, and what the tensors given tell of its shape.
struct OutputPlan {
  std::vector<PlannedDimension> dimensions;
  bool first_is_optional = false;  // a tensor may lack the first dimension
  std::optional<std::size_t> dtype_symbol;
  DataType dtype = DataType::f32;  // when there is no symbol
};

// An operator of one runtime with every option decided, and which of the tensors that shapes depend on
// are there.
struct Binding {
  std::shared_ptr<Session> session;
  std::int32_t device = host_memory;
  std::uint64_t combination = 0;
  std::uint32_t presence = 0;
  Operator op;
  Values decided;                 // options, and has_<tensor> of those tensors
  std::vector<OutputPlan> plans;  // of all tensors
  std::size_t symbol_count = 0;   // of dimensions
};

// What the Python object stands for.
struct Core {
  std::shared_ptr<Session> session;  // null: the default runtimes
  std::string name;
  std::shared_ptr<const OperatorManifest> manifest;
  OperatorInfo info;
  std::vector<Parameter> parameters;
  std::vector<Option> options;
  std::vector<std::optional<Expression>> dtype_defaults;  // of info.dtypes
  std::uint64_t combination = 0;                          // of the bound options
  std::vector<double> scalars;                            // bound or by default; NaN: a formula
  bool has_scalars = false;                               // some are bound
  std::vector<std::size_t> deciders;                      // tensors whose presence shapes depend on
  std::optional<std::size_t> sole_output;
  py::object doc;
  std::uint64_t generation = 0;  // of the default runtimes that bindings belong to
  std::vector<std::shared_ptr<const Binding>> bindings;
};

struct OperatorObject {
  PyObject_HEAD vectorcallfunc vectorcall;
  Core* core;
};

Core& core_of(PyObject* self) { return *reinterpret_cast<OperatorObject*>(self)->core; }

// The arguments of one call, sorted out. References are borrowed from the caller.
struct Call {
  std::array<PyObject*, max_tensors> tensors{};  // null: left out; True: to be made
  std::array<double, max_scalars> scalars;
  std::array<std::optional<DataType>, max_dtypes> dtypes;
  PyObject* stream = nullptr;
  std::uint64_t combination = 0;
  bool has_scalars = false;
  std::vector<py::object> made;  // outputs we made
};

// ------------------------------------------------------------------------------- arguments

std::string keyword_list(const Core& core) {
  std::vector<std::string> names;
  names.reserve(core.parameters.size());
  for (const auto& parameter : core.parameters) names.push_back(parameter.name.cast<std::string>());
  return fmt::format("{}", fmt::join(names, ", "));
}

const Parameter& find_parameter(const Core& core, PyObject* keyword) {
  for (const auto& parameter : core.parameters)
    if (parameter.name.ptr() == keyword) return parameter;
  for (const auto& parameter : core.parameters)
    if (PyUnicode_Compare(parameter.name.ptr(), keyword) == 0) return parameter;
  reject(core.name, fmt::format("unknown argument \"{}\"; known: {}",
                                py::handle(keyword).cast<std::string>(), keyword_list(core)));
}

std::size_t option_index(const Core& core, std::size_t option, PyObject* value) {
  const auto& values = core.options[option].values;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].ptr() == value) return i;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].equal(py::handle(value))) return i;
  std::vector<std::string> allowed;
  for (const auto& known : core.info.options[option].allowed) allowed.push_back(to_text(known));
  reject(core.name,
         fmt::format("{}={} is not allowed; expected one of {}", core.info.options[option].name,
                     py::str(py::handle(value)).cast<std::string>(), fmt::join(allowed, ", ")));
}

void take_tensor(const Core& core, Call& call, std::size_t index, PyObject* value) {
  if (call.tensors[index] != nullptr && call.tensors[index] != Py_True)
    reject(core.name, fmt::format("{} is given twice", core.info.tensors[index].name));
  if (value != Py_False) call.tensors[index] = value;
}

void take_wanted(Call& call, std::size_t index, PyObject* value) {
  const int wanted = PyObject_IsTrue(value);
  if (wanted < 0) throw py::error_already_set();
  if (wanted == 1 && call.tensors[index] == nullptr) call.tensors[index] = Py_True;
}

void take_scalar(const Core& core, Call& call, std::size_t index, PyObject* value) {
  if (!call.has_scalars) std::copy(core.scalars.begin(), core.scalars.end(), call.scalars.begin());
  call.has_scalars = true;
  call.scalars[index] = PyFloat_AsDouble(value);
  if (call.scalars[index] == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    reject(core.name, fmt::format("{} is a {}, expected a number", core.info.scalars[index].name,
                                  Py_TYPE(value)->tp_name));
  }
}

void take_keyword(const Core& core, Call& call, PyObject* keyword, PyObject* value) {
  const Parameter& parameter = find_parameter(core, keyword);
  if (value == Py_None) return;
  switch (parameter.kind) {
    case Parameter::Kind::tensor:
      return take_tensor(core, call, parameter.index, value);
    case Parameter::Kind::wanted:
      return take_wanted(call, parameter.index, value);
    case Parameter::Kind::scalar:
      return take_scalar(core, call, parameter.index, value);
    case Parameter::Kind::option: {
      const Option& option = core.options[parameter.index];
      // Modulo 2^64, so the order of subtraction and addition does not matter.
      call.combination +=
          (option_index(core, parameter.index, value) - option.bound) * option.weight;
      return;
    }
    case Parameter::Kind::dtype:
      call.dtypes[parameter.index] =
          data_type_from_python(value, core.info.dtypes[parameter.index].name);
      return;
    case Parameter::Kind::stream:
      call.stream = value;
      return;
  }
}

void take_arguments(const Core& core, Call& call, PyObject* const* arguments, std::size_t count,
                    PyObject* keywords) {
  if (count > core.info.tensors.size())
    reject(core.name,
           fmt::format("{} tensors given, expected at most {}", count, core.info.tensors.size()));
  call.combination = core.combination;
  if (core.has_scalars) {
    std::copy(core.scalars.begin(), core.scalars.end(), call.scalars.begin());
    call.has_scalars = true;
  }
  for (std::size_t i = 0; i < count; ++i)
    if (arguments[i] != Py_None) take_tensor(core, call, i, arguments[i]);
  if (keywords == nullptr) return;
  const Py_ssize_t keyword_count = PyTuple_GET_SIZE(keywords);
  for (Py_ssize_t i = 0; i < keyword_count; ++i)
    take_keyword(core, call, PyTuple_GET_ITEM(keywords, i),
                 arguments[count + static_cast<std::size_t>(i)]);
}

// ------------------------------------------------------------------------------- bindings

PlannedDimension planned(const OperatorManifest& op, const DimensionSpec& dimension) {
  const std::string& symbol = dimension.bound_symbol();
  if (symbol.empty()) return {.offset = dimension.derived ? -1 : dimension.constant};
  const auto found = std::find(op.dimensions.begin(), op.dimensions.end(), symbol);
  return {.symbol = static_cast<std::size_t>(found - op.dimensions.begin()),
          .factor = dimension.binds ? dimension.binds->factor : 1,
          .offset = dimension.binds ? dimension.binds->offset : 0};
}

std::vector<OutputPlan> output_plans(const OperatorManifest& op, const Values& decided) {
  std::vector<OutputPlan> plans;
  for (const auto& tensor : op.tensors) {
    OutputPlan& plan = plans.emplace_back();
    for (const auto& dimension : tensor.shape_for(decided)) {
      plan.first_is_optional = plan.first_is_optional || dimension.optional;
      plan.dimensions.push_back(planned(op, dimension));
    }
    for (std::size_t i = 0; i < op.dtypes.size(); ++i)
      if (op.dtypes[i].symbol == tensor.dtype) plan.dtype_symbol = i;
    if (!plan.dtype_symbol) plan.dtype = *data_type_named(tensor.dtype);
  }
  return plans;
}

Values options_of(const Core& core, std::uint64_t combination) {
  Values values;
  for (std::size_t i = 0; i < core.options.size(); ++i) {
    const auto& allowed = core.info.options[i].allowed;
    values[core.info.options[i].name] =
        allowed[combination / core.options[i].weight % allowed.size()];
  }
  return values;
}

// Those of the deciding tensors that a call gives, or wants made: a bit each.
std::uint32_t presence_of(const Core& core, const Call& call) {
  std::uint32_t presence = 0;
  for (const std::size_t i : core.deciders)
    if (call.tensors[i] != nullptr) presence |= 1U << i;
  return presence;
}

std::shared_ptr<const Binding> bind(Core& core, std::int32_t device, std::uint64_t combination,
                                    std::uint32_t presence) {
  auto session = core.session ? core.session : Defaults::instance().session(device);
  const Values options = options_of(core, combination);
  Operator op = session->runtime()->op(core.name, options);
  Values decided = options;
  for (const std::size_t i : core.deciders)
    decided["has_" + core.manifest->tensors[i].name] = (presence >> i & 1U) != 0;
  auto plans = output_plans(*core.manifest, decided);
  core.bindings.push_back(std::make_shared<Binding>(
      Binding{std::move(session), device, combination, presence, std::move(op), std::move(decided),
              std::move(plans), core.manifest->dimensions.size()}));
  return core.bindings.back();
}

std::shared_ptr<const Binding> find_binding(Core& core, std::int32_t device, const Call& call) {
  const std::uint64_t combination = call.combination;
  const std::uint32_t presence = presence_of(core, call);
  if (!core.session && core.generation != Defaults::instance().generation()) {
    core.bindings.clear();
    core.generation = Defaults::instance().generation();
  }
  for (const auto& binding : core.bindings)
    if (binding->combination == combination && binding->presence == presence &&
        (core.session || binding->device == device))
      return binding;
  return bind(core, device, combination, presence);
}

// ------------------------------------------------------------------------------- outputs

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

PyObject* new_reference(PyObject* object) {
  Py_INCREF(object);
  return object;
}

// The output, or a tuple of them: those always written first.
PyObject* result_of(const Core& core, const Call& call) {
  std::array<PyObject*, max_tensors> outputs;
  std::size_t count = 0;
  for (const bool optional : {false, true})
    for (std::size_t i = 0; i < core.info.tensors.size(); ++i)
      if (core.info.tensors[i].output && core.info.tensors[i].optional == optional &&
          call.tensors[i] != nullptr)
        outputs[count++] = call.tensors[i];
  if (count == 1) return new_reference(outputs[0]);
  PyObject* result = PyTuple_New(static_cast<Py_ssize_t>(count));
  if (result == nullptr) throw py::error_already_set();
  for (std::size_t i = 0; i < count; ++i)
    PyTuple_SET_ITEM(result, static_cast<Py_ssize_t>(i), new_reference(outputs[i]));
  return result;
}

// ------------------------------------------------------------------------------- calling

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
  std::shared_ptr<const Binding> binding;
  std::array<Tensor, max_tensors> tensors;
};

void make_ready(Core& core, Call& call, TensorReader& reader, Ready& ready) {
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
    reader.read(object, info.name, info.output, ready.tensors[i]);
    if (first == count || (core.info.tensors[first].output && !info.output)) first = i;
  }
  if (first == count) reject(core.name, "no tensor is given");
  ready.binding = find_binding(core, ready.tensors[first].device, call);
  if (!complete) make_outputs(core, *ready.binding, call, ready.tensors, first, reader);
  check_dtypes(core, *ready.binding, call, ready.tensors);
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

void launch(const Core& core, const Call& call, const Ready& ready, Stream stream) {
  const std::span<const Tensor> tensors = tensors_of(core, ready);
  const std::span<const double> scalars = scalars_of(core, call);
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

PyObject* call_operator(PyObject* self, PyObject* const* arguments, std::size_t flagged_count,
                        PyObject* keywords) noexcept {
  try {
    Core& core = core_of(self);
    Call call;
    take_arguments(core, call, arguments,
                   static_cast<std::size_t>(PyVectorcall_NARGS(flagged_count)), keywords);
    TensorReader reader(core.name);
    Ready ready;
    make_ready(core, call, reader, ready);
    launch(core, call, ready, reader.stream());
    return result_of(core, call);
  } catch (...) {
    set_exception();
    return nullptr;
  }
}

PyObject* prepare_operator(PyObject* self, PyObject* const* arguments, Py_ssize_t count,
                           PyObject* keywords) noexcept {
  try {
    Core& core = core_of(self);
    Call call;
    take_arguments(core, call, arguments, static_cast<std::size_t>(count), keywords);
    TensorReader reader(core.name);
    Ready ready;
    make_ready(core, call, reader, ready);
    const std::span<const Tensor> tensors = tensors_of(core, ready);
    const std::span<const double> scalars = scalars_of(core, call);
    auto explanation = without_interpreter_lock([&, keep = ready.binding->session->runtime()] {
      return ready.binding->op.prepare(tensors, scalars);
    });
    return py::cast(std::move(explanation)).release().ptr();
  } catch (...) {
    set_exception();
    return nullptr;
  }
}

// ------------------------------------------------------------------------------- construction

py::object interned(const std::string& text) {
  PyObject* object = PyUnicode_InternFromString(text.c_str());
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

py::object python_option(const Value& value) {
  const auto* word = std::get_if<std::string>(&value);
  return word == nullptr ? to_python(value) : interned(*word);
}

void add_parameter(Core& core, const std::string& name, Parameter::Kind kind, std::size_t index) {
  // Should a manifest use one of our words, the earlier meaning stands.
  for (const auto& parameter : core.parameters)
    if (parameter.name.cast<std::string>() == name) return;
  core.parameters.push_back({interned(name), kind, index});
}

void add_options(Core& core) {
  std::uint64_t weight = 1;
  for (const auto& info : core.info.options) {
    Option& option = core.options.emplace_back();
    option.weight = weight;
    for (const auto& value : info.allowed) option.values.push_back(python_option(value));
    option.bound = static_cast<std::size_t>(
        std::find(info.allowed.begin(), info.allowed.end(), info.bound) - info.allowed.begin());
    core.combination += option.bound * weight;
    weight *= info.allowed.size();
  }
}

void add_parameters(Core& core) {
  const OperatorInfo& info = core.info;
  for (std::size_t i = 0; i < info.tensors.size(); ++i)
    add_parameter(core, info.tensors[i].name, Parameter::Kind::tensor, i);
  if (core.sole_output) add_parameter(core, "out", Parameter::Kind::tensor, *core.sole_output);
  for (std::size_t i = 0; i < info.options.size(); ++i)
    add_parameter(core, info.options[i].name, Parameter::Kind::option, i);
  for (std::size_t i = 0; i < info.scalars.size(); ++i)
    add_parameter(core, info.scalars[i].name, Parameter::Kind::scalar, i);
  for (std::size_t i = 0; i < info.dtypes.size(); ++i)
    add_parameter(core, info.dtypes[i].name, Parameter::Kind::dtype, i);
  for (std::size_t i = 0; i < info.tensors.size(); ++i)
    if (info.tensors[i].output && info.tensors[i].optional)
      add_parameter(core, "return_" + info.tensors[i].name, Parameter::Kind::wanted, i);
  add_parameter(core, "stream", Parameter::Kind::stream, 0);
}

void add_deciders(Core& core) {
  const auto& tensors = core.manifest->tensors;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (std::any_of(tensors.begin(), tensors.end(), [&](const TensorSpec& tensor) {
          const auto& choices = tensor.shapes.choices;
          return std::any_of(choices.begin(), choices.end(), [&](const auto& choice) {
            return choice.when.contains("has_" + tensors[i].name);
          });
        }))
      core.deciders.push_back(i);
}

std::unique_ptr<Core> make_core(std::shared_ptr<Session> session,
                                std::shared_ptr<const OperatorManifest> manifest,
                                const Values& given) {
  auto core = std::make_unique<Core>();
  Bound bound = bind_values(*manifest, given);
  core->session = std::move(session);
  core->info = describe_operator(*manifest, bound.options);
  core->name = core->info.name;
  core->doc = py::str(core->info.doc);
  core->manifest = std::move(manifest);
  core->scalars = std::move(bound.scalars);
  for (std::size_t i = 0; i < core->scalars.size(); ++i)
    if (std::isnan(core->scalars[i]))
      core->scalars[i] = core->info.scalars[i].otherwise;
    else
      core->has_scalars = true;
  if (core->info.dtypes.size() > max_dtypes)
    throw Error(
        ErrorCode::unsupported,
        fmt::format("{}: at most {} data types can be called from Python", core->name, max_dtypes));
  std::size_t required = 0;
  for (std::size_t i = 0; i < core->info.tensors.size(); ++i)
    if (core->info.tensors[i].output && !core->info.tensors[i].optional) {
      core->sole_output = i;
      ++required;
    }
  if (required != 1) core->sole_output = std::nullopt;
  for (const auto& dtype : core->info.dtypes) {
    auto& otherwise = core->dtype_defaults.emplace_back();
    if (data_type_named(dtype.otherwise))
      otherwise = Expression::constant(dtype.otherwise);
    else if (!dtype.otherwise.empty())
      otherwise = Expression::parse(dtype.otherwise);
  }
  add_options(*core);
  add_parameters(*core);
  add_deciders(*core);
  return core;
}

std::shared_ptr<const OperatorManifest> manifest_of(const std::shared_ptr<Session>& session,
                                                    const std::string& name) {
  if (session) return session->runtime()->parts().library.find(name)->manifest;
  return Defaults::instance().library()->find(name)->manifest;
}

// ------------------------------------------------------------------------------- the Python type

PyObject* refuse_construction(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError, "operators are made by cudadent.op() and Runtime.op()");
  return nullptr;
}

void deallocate(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<OperatorObject*>(self)->core;
  type->tp_free(self);
  Py_DECREF(reinterpret_cast<PyObject*>(type));
}

// Wraps what may throw for Python's function tables.
template <class Work>
PyObject* guarded(Work work) noexcept {
  try {
    return py::object(work()).release().ptr();
  } catch (...) {
    set_exception();
    return nullptr;
  }
}

py::dict bound_options(const Core& core) {
  py::dict options;
  for (std::size_t i = 0; i < core.options.size(); ++i)
    options[py::str(core.info.options[i].name)] = core.options[i].values[core.options[i].bound];
  return options;
}

PyObject* represent(PyObject* self) {
  return guarded([&] {
    const Core& core = core_of(self);
    std::string options;
    for (const auto& [name, value] : bound_options(core))
      options += fmt::format(" {}={}", py::str(name).cast<std::string>(),
                             py::str(value).cast<std::string>());
    return py::str(fmt::format("<cudadent.Operator {}{}>", core.name, options));
  });
}

PyObject* get_name(PyObject* self, void*) {
  return guarded([&] { return py::str(core_of(self).name); });
}

PyObject* get_doc(PyObject* self, void*) {
  return guarded([&] { return core_of(self).doc; });
}

int set_doc(PyObject* self, PyObject* value, void*) {
  core_of(self).doc = value == nullptr ? py::none() : py::reinterpret_borrow<py::object>(value);
  return 0;
}

PyObject* get_options(PyObject* self, void*) {
  return guarded([&] { return bound_options(core_of(self)); });
}

PyObject* get_tensors(PyObject* self, void*) {
  return guarded([&] {
    py::list names;
    for (const auto& tensor : core_of(self).info.tensors) names.append(tensor.name);
    return py::tuple(names);
  });
}

// What a scalar is when a call does not say; None where that depends on the problem.
py::object default_of(const Core& core, std::size_t scalar) {
  const double value = core.scalars[scalar];
  if (std::isnan(value)) return py::none();
  if (core.info.scalars[scalar].integer) return py::int_(static_cast<std::int64_t>(value));
  return py::float_(value);
}

// For inspect.signature and help().
PyObject* get_signature(PyObject* self, void*) {
  return guarded([&] {
    const Core& core = core_of(self);
    const auto inspect = py::module_::import("inspect");
    const py::object kind = inspect.attr("Parameter");
    py::list parameters;
    const auto add = [&](const py::object& name, const char* how, const py::object& value) {
      parameters.append(kind(name, kind.attr(how), py::arg("default") = value));
    };
    bool needed = true;  // Python wants parameters without a default to come first
    for (const auto& parameter : core.parameters) {
      const py::object& name = parameter.name;
      if (parameter.kind == Parameter::Kind::tensor &&
          &parameter - core.parameters.data() < std::ptrdiff_t(core.info.tensors.size())) {
        const auto& tensor = core.info.tensors[parameter.index];
        needed = needed && !tensor.output && !tensor.optional;
        add(name, "POSITIONAL_OR_KEYWORD",
            needed ? py::object(kind.attr("empty")) : py::object(py::none()));
      } else if (parameter.kind == Parameter::Kind::option) {
        const Option& option = core.options[parameter.index];
        add(name, "KEYWORD_ONLY", option.values[option.bound]);
      } else if (parameter.kind == Parameter::Kind::scalar) {
        add(name, "KEYWORD_ONLY", default_of(core, parameter.index));
      } else if (parameter.kind == Parameter::Kind::wanted) {
        add(name, "KEYWORD_ONLY", py::bool_(false));
      } else {
        add(name, "KEYWORD_ONLY", py::none());
      }
    }
    return inspect.attr("Signature")(parameters);
  });
}

constexpr const char* prepare_doc =
    "prepare($self, /, *tensors, **arguments)\n--\n\n"
    "Does everything that a call with the same arguments does, except for the launch: looks the\n"
    "problem up or tunes it, compiles and loads. Do this before capturing a CUDA graph.\n"
    "Returns an Explanation: which problem it is, and which configuration will run.";

PyMethodDef methods[] = {
    {"prepare", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(prepare_operator)),
     METH_FASTCALL | METH_KEYWORDS, prepare_doc},
    {nullptr, nullptr, 0, nullptr}};

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET,
     static_cast<Py_ssize_t>(offsetof(OperatorObject, vectorcall)), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyGetSetDef attributes[] = {
    {"name", get_name, nullptr, "The operator's name.", nullptr},
    {"__name__", get_name, nullptr, nullptr, nullptr},
    {"__doc__", get_doc, set_doc, nullptr, nullptr},
    {"__signature__", get_signature, nullptr, nullptr, nullptr},
    {"options", get_options, nullptr, "The options that a call has unless it says otherwise.",
     nullptr},
    {"tensors", get_tensors, nullptr, "Tensor names, in the order a call takes them.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(refuse_construction)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_repr, reinterpret_cast<void*>(represent)},
                       {Py_tp_methods, methods},
                       {Py_tp_members, members},
                       {Py_tp_getset, attributes},
                       {0, nullptr}};

PyType_Spec specification = {"cudadent.Operator", sizeof(OperatorObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, slots};

// Lives as long as the process, as types of extension modules do.
PyTypeObject* operator_type = nullptr;

}  // namespace

void bind_operator(py::module_& module) {
  operator_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&specification));
  if (operator_type == nullptr) throw py::error_already_set();
  module.attr("Operator") = py::handle(reinterpret_cast<PyObject*>(operator_type));
}

py::object make_operator(std::shared_ptr<Session> session, const std::string& name,
                         const Values& options) {
  auto manifest = manifest_of(session, name);
  auto core = make_core(std::move(session), std::move(manifest), options);
  auto* self = PyObject_New(OperatorObject, operator_type);
  if (self == nullptr) throw py::error_already_set();
  self->vectorcall = call_operator;
  self->core = core.release();
  return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(self));
}

}  // namespace cudadent::python
