#include "runtime/operator_info.h"

#include "runtime/dispatcher.h"

namespace cudadent {

namespace {

std::vector<std::string> shape_names(const ShapeSpec& shape) {
  std::vector<std::string> names;
  for (const auto& dimension : shape)
    names.push_back(dimension.symbol.empty() ? std::to_string(dimension.constant)
                                             : dimension.symbol);
  return names;
}

}  // namespace

OperatorInfo describe_operator(const OperatorManifest& manifest, const Values& options) {
  OperatorInfo info{.name = manifest.name, .doc = manifest.doc};
  for (const auto& tensor : manifest.tensors)
    info.tensors.push_back({.name = tensor.name,
                            .doc = tensor.doc,
                            .shape = shape_names(tensor.shape_for(options)),
                            .dtype = tensor.dtype,
                            .output = tensor.output,
                            .optional = tensor.optional});
  for (const auto& dtype : manifest.dtypes)
    info.dtypes.push_back({dtype.symbol, dtype.values, dtype.default_symbol.value_or("")});
  for (const auto& option : manifest.options)
    info.options.push_back({option.name, option.values, options.find(option.name)->second});
  for (const auto& scalar : manifest.scalars)
    info.scalars.push_back({scalar.name, scalar.default_value});
  return info;
}

OperatorInfo Operator::info() const {
  return describe_operator(*state_->entry->manifest, state_->options);
}

bool Operator::try_launch(std::span<const Tensor> tensors, Stream stream,
                          std::span<const double> scalars) const {
  return state_->dispatcher->try_launch(*state_, tensors, stream, scalars);
}

}  // namespace cudadent
