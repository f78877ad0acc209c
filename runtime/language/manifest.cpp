#include "runtime/language/manifest.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/language/value.h"

namespace cudadent {

namespace {

template <class Spec>
std::optional<std::size_t> index_of(const std::vector<Spec>& specs, std::string Spec::*name,
                                    std::string_view wanted) {
  const auto found = std::find_if(specs.begin(), specs.end(),
                                  [&](const Spec& spec) { return spec.*name == wanted; });
  if (found == specs.end()) return std::nullopt;
  return static_cast<std::size_t>(found - specs.begin());
}

}  // namespace

template <class T>
const T& Alternatives<T>::at(const Values& values) const {
  const auto holds = [&](const auto& entry) {
    const auto found = values.find(entry.first);
    return found == values.end() ? !is_true(entry.second) : found->second == entry.second;
  };
  for (const auto& [when, choice] : choices)
    if (std::all_of(when.begin(), when.end(), holds)) return choice;
  throw Error(ErrorCode::internal, fmt::format("nothing for {}", to_text(values)));
}
template struct Alternatives<ShapeSpec>;
template struct Alternatives<StrideSpec>;

std::string DimensionSpec::text() const {
  if (derived) return derived->text();
  if (symbol.empty()) return std::to_string(constant);
  return optional ? symbol + "?" : symbol;
}

std::int64_t DimensionSpec::extent(const Values& values) const {
  if (!symbol.empty()) return std::get<std::int64_t>(values.at(symbol));
  if (!derived) return constant;
  const std::int64_t extent = as_integer(derived->evaluate(Scope(values)), derived->text());
  if (extent < 0)
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("a tensor's dimension {} is {}", derived->text(), extent));
  return extent;
}

CallOrder OperatorManifest::call_order() const noexcept {
  const auto outputs_end = std::find_if(tensors.rbegin(), tensors.rend(), [](const auto& tensor) {
    return !tensor.output || tensor.optional;
  });
  const auto optional_end = std::find_if_not(outputs_end, tensors.rend(),
                                             [](const auto& tensor) { return tensor.optional; });
  return {tensors.size(), static_cast<std::size_t>(outputs_end - tensors.rbegin()),
          static_cast<std::size_t>(optional_end - outputs_end)};
}

std::optional<std::size_t> OperatorManifest::tensor_index(std::string_view tensor) const {
  return index_of(tensors, &TensorSpec::name, tensor);
}

std::optional<std::size_t> OperatorManifest::scalar_index(std::string_view scalar) const {
  return index_of(scalars, &ScalarSpec::name, scalar);
}

std::optional<std::size_t> OperatorManifest::dtype_index(std::string_view symbol) const {
  return index_of(dtypes, &DataTypeSpec::symbol, symbol);
}

bool OperatorManifest::is_dimension(std::string_view symbol) const {
  return std::find(dimensions.begin(), dimensions.end(), symbol) != dimensions.end();
}

bool OperatorManifest::is_optional_dimension(std::string_view symbol) const {
  return std::find(optional_dimensions.begin(), optional_dimensions.end(), symbol) !=
         optional_dimensions.end();
}

bool OperatorManifest::is_stride(std::string_view symbol) const {
  return std::find(strides.begin(), strides.end(), symbol) != strides.end();
}

const ParameterSpec* KernelTemplate::parameter(std::string_view parameter) const {
  const auto index = index_of(parameters, &ParameterSpec::name, parameter);
  return index ? &parameters[*index] : nullptr;
}

std::optional<std::size_t> KernelTemplate::workspace_index(std::string_view workspace) const {
  return index_of(workspaces, &WorkspaceSpec::name, workspace);
}

}  // namespace cudadent
