#include "bindings/operator_core.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "api/parts.h"
#include "bindings/values.h"
#include "runtime/language/value.h"
#include "runtime/launch/dispatcher.h"
#include "runtime/operators/problem.h"

namespace py = pybind11;

namespace cudadent::python {

namespace {

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

std::shared_ptr<const OperatorManifest> manifest_of(const std::shared_ptr<Session>& session,
                                                    const std::string& name) {
  if (session) return session->runtime()->parts().library.find(name)->manifest;
  return Defaults::instance().library()->find(name)->manifest;
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
    plan.dtype_symbol = op.dtype_index(tensor.dtype);
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

}  // namespace

std::unique_ptr<Core> make_core(std::shared_ptr<Session> session, const std::string& name,
                                const Values& given) {
  auto core = std::make_unique<Core>();
  auto manifest = manifest_of(session, name);
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
    if (!dtype.otherwise.empty()) otherwise = Expression::parse(dtype.otherwise, data_type_words());
  }
  add_options(*core);
  add_parameters(*core);
  add_deciders(*core);
  return core;
}

std::shared_ptr<const Binding> find_binding(Core& core, std::int32_t device,
                                            std::uint64_t combination, std::uint32_t presence) {
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

}  // namespace cudadent::python
