#include "runtime/language/manifest_hash.h"

#include <nlohmann/json.hpp>

#include "runtime/base/hash.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// JSON, since that says without doubt where one part ends and the next begins. Lists keep the manifest's order.
using HashedJson = nlohmann::json;

struct Content {
  static HashedJson of(const Expression& expression) { return expression.tree(); }
  static HashedJson of(const std::optional<Expression>& expression) {
    return expression ? of(*expression) : HashedJson();
  }
  static HashedJson of(const Value& value) { return to_literal(value); }
  static HashedJson of(const std::string& text) { return text; }

  static HashedJson of(const DimensionSpec& dimension) {
    return dimension.derived ? of(*dimension.derived) : HashedJson(dimension.text());
  }
  static HashedJson of(const ArgumentSpec& argument) {
    return HashedJson::array({argument.name, of(argument.value), argument.type});
  }

  template <class T>
  static HashedJson of(const std::vector<T>& all) {
    HashedJson list = HashedJson::array();
    for (const auto& one : all) list.push_back(of(one));
    return list;
  }

  template <class Named>
  static HashedJson of_named(const Named& all) {
    HashedJson list = HashedJson::array();
    for (const auto& [name, expression] : all)
      list.push_back(HashedJson::array({name, of(expression)}));
    return list;
  }

  template <class T>
  static HashedJson of(const Alternatives<T>& alternatives) {
    HashedJson list = HashedJson::array();
    for (const auto& [when, then] : alternatives.choices)
      list.push_back(HashedJson::array({to_json(when), of(then)}));
    return list;
  }

  static HashedJson of(const TensorSpec& tensor) {
    return {{"name", tensor.name},
            {"shape", of(tensor.shapes)},
            {"strides", of(tensor.strides)},
            {"dtype", tensor.dtype},
            {"output", tensor.output},
            {"optional", tensor.optional},
            {"any_alignment", tensor.any_alignment}};
  }

  static HashedJson of(const ScalarSpec& scalar) {
    return {{"name", scalar.name},
            {"default", of(scalar.otherwise)},
            {"integer", scalar.integer},
            {"in_problem", scalar.in_problem}};
  }

  static HashedJson of(const DataTypeSpec& dtype) {
    return HashedJson::array({dtype.symbol, dtype.values, of(dtype.otherwise)});
  }
  static HashedJson of(const OptionSpec& option) {
    return HashedJson::array({option.name, of(option.values)});
  }
  static HashedJson of(const ParameterSpec& parameter) {
    return HashedJson::array({parameter.name, of(parameter.values)});
  }

  static HashedJson of(const InputSpec& input) {
    return HashedJson::array({static_cast<int>(input.rule), of(input.arguments)});
  }

  static HashedJson of(const TensorMapSpec& map) {
    return {{"name", map.name},           {"when", of(map.when)},
            {"tensor", of(map.tensor)},   {"dims", of(map.dimensions)},
            {"strides", of(map.strides)}, {"box", of(map.box)},
            {"swizzle", of(map.swizzle)}, {"l2_promotion", of(map.l2_promotion)},
            {"dtype", map.dtype}};
  }

  static HashedJson of(const WorkspaceSpec& workspace) {
    return {{"name", workspace.name},
            {"bytes", of(workspace.bytes)},
            {"zero", static_cast<int>(workspace.zeroed)},
            {"when", of(workspace.when)}};
  }

  static HashedJson of(const LaunchSpec& launch) {
    return {{"entry", launch.entry},         {"when", of(launch.when)},
            {"grid", of(launch.grid)},       {"block", of(launch.block)},
            {"cluster", of(launch.cluster)}, {"shared_memory", of(launch.shared_memory)},
            {"args", of(launch.arguments)}};
  }

  static HashedJson of_defaults(const KernelTemplate& kernel) {
    HashedJson list = HashedJson::array();
    for (const auto& name : kernel.default_order)
      list.push_back(HashedJson::array({name, of(kernel.defaults.at(name))}));
    return list;
  }
};

}  // namespace

std::string manifest_hash(const OperatorManifest& op) {
  return content_hash({HashedJson{{"op", op.name},
                                  {"dtypes", Content::of(op.dtypes)},
                                  {"options", Content::of(op.options)},
                                  {"tensors", Content::of(op.tensors)},
                                  {"scalars", Content::of(op.scalars)},
                                  {"requires", Content::of(op.requires_)},
                                  {"tuning_key", Content::of_named(op.tuning_key)},
                                  {"flops", Content::of(op.flops)},
                                  {"bytes", Content::of(op.bytes)},
                                  {"inputs", Content::of_named(op.inputs)},
                                  {"reference", op.reference},
                                  {"tolerance", Content::of_named(op.tolerance)}}
                           .dump()});
}

std::string manifest_hash(const KernelTemplate& kernel) {
  return content_hash({HashedJson{{"template", kernel.name},
                                  {"backend", kernel.backend},
                                  {"source", kernel.source_file},
                                  {"requires", Content::of(kernel.requires_)},
                                  {"compile_time", kernel.compile_time},
                                  {"parameters", Content::of(kernel.parameters)},
                                  {"default", Content::of_defaults(kernel)},
                                  {"let", Content::of_named(kernel.let)},
                                  {"constraints", Content::of(kernel.constraints)},
                                  {"tensor_maps", Content::of(kernel.tensor_maps)},
                                  {"workspace", Content::of(kernel.workspaces)},
                                  {"launches", Content::of(kernel.launches)},
                                  {"compile_options", kernel.compile_options}}
                           .dump()});
}

}  // namespace cudadent
