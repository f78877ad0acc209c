#include "runtime/operators/operator_info.h"

#include <cmath>

#include "runtime/language/value.h"

namespace cudadent {

namespace {

std::vector<std::string> shape_names(const ShapeSpec& shape) {
  std::vector<std::string> names;
  for (const auto& dimension : shape) names.push_back(dimension.text());
  return names;
}

std::vector<std::string> stride_names(const TensorSpec& tensor, const Values& options) {
  if (!tensor.has_strides()) return {};
  std::vector<std::string> names;
  for (const auto& name : tensor.strides.at(options)) names.push_back(name.empty() ? "1" : name);
  return names;
}

std::string default_of(const DataTypeSpec& dtype) {
  if (!dtype.otherwise) return {};
  const bool is_type = dtype.otherwise->names().empty();
  return is_type ? to_text(dtype.otherwise->evaluate(Scope())) : dtype.otherwise->text();
}

}  // namespace

OperatorInfo describe_operator(const OperatorManifest& manifest, const Values& options) {
  OperatorInfo info{.name = manifest.name, .doc = manifest.doc};
  for (const auto& tensor : manifest.tensors)
    info.tensors.push_back({.name = tensor.name,
                            .doc = tensor.doc,
                            .shape = shape_names(tensor.shape_for(options)),
                            .strides = stride_names(tensor, options),
                            .dtype = tensor.dtype,
                            .output = tensor.output,
                            .optional = tensor.optional});
  for (const auto& dtype : manifest.dtypes)
    info.dtypes.push_back({dtype.symbol, dtype.values, default_of(dtype)});
  for (const auto& option : manifest.options)
    info.options.push_back({option.name, option.values, options.find(option.name)->second});
  for (const auto& scalar : manifest.scalars)
    info.scalars.push_back(
        {.name = scalar.name,
         .otherwise = scalar.otherwise.names().empty()
                          ? as_real(scalar.otherwise.evaluate(Scope()), scalar.name)
                          : NAN,
         .formula = scalar.otherwise.text(),
         .integer = scalar.integer,
         .in_problem = scalar.in_problem});
  return info;
}

}  // namespace cudadent
