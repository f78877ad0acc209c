// A problem from names and values, as a person gives them.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "runtime/language/value.h"
#include "runtime/operators/problem_completion.h"

namespace cudadent {

namespace {

void check_dtype(const OperatorManifest& op, const DataTypeSpec& spec, const std::string& name) {
  if (std::find(spec.values.begin(), spec.values.end(), name) == spec.values.end())
    reject(op, fmt::format("{}={} is not supported; expected one of {}", spec.symbol, name,
                           fmt::join(spec.values, ", ")));
}

void check_known(const OperatorManifest& op, const Values& given) {
  std::set<std::string> known(op.dimensions.begin(), op.dimensions.end());
  known.insert({"aligned", "base_aligned"});
  known.insert(op.strides.begin(), op.strides.end());
  for (const auto& spec : op.dtypes) known.insert(spec.symbol);
  for (const auto& option : op.options) known.insert(option.name);
  for (const auto& scalar : op.scalars) known.insert(scalar.name);
  for (const auto& tensor : op.tensors)
    if (tensor.optional) known.insert(tensor.name);
  for (const auto& [name, value] : given) {
    const bool presence = name.starts_with("has_") && known.contains(name.substr(4)) &&
                          op.tensor_index(name.substr(4));
    if (!known.contains(name) && !presence)
      reject(op, fmt::format("unknown name \"{}\"; known: {}", name, fmt::join(known, ", ")));
  }
}

bool presence_of(const OperatorManifest& op, const Values& given, const TensorSpec& tensor) {
  for (const auto& name : {"has_" + tensor.name, tensor.name})
    if (const auto found = given.find(name); found != given.end())
      return flag_of(op, name, found->second);
  return false;
}

void take_dimensions(Problem& problem, const Values& given) {
  const auto bound = bound_dimensions(problem);
  for (const auto& dimension : problem.op->dimensions) {
    if (!bound.contains(dimension)) continue;
    const auto found = given.find(dimension);
    if (found == given.end()) {
      if (problem.op->is_optional_dimension(dimension)) continue;
      reject(*problem.op, fmt::format("dimension {0} is missing: give {0}=…", dimension));
    }
    const std::int64_t extent = as_integer(found->second, dimension);
    if (extent < 0) reject(*problem.op, fmt::format("{}={} is negative", dimension, extent));
    problem.values[dimension] = extent;
  }
}

void take_dtypes(Problem& problem, const Values& given) {
  for (const auto& spec : problem.op->dtypes) {
    const auto found = given.find(spec.symbol);
    const auto name = found == given.end() ? default_dtype(*problem.op, spec, problem.values)
                                           : std::optional(to_text(found->second));
    if (!name)
      reject(*problem.op, fmt::format("{} is missing: give one of {}", spec.symbol,
                                      fmt::join(spec.values, ", ")));
    check_dtype(*problem.op, spec, *name);
    problem.values[spec.symbol] = *name;
  }
}

}  // namespace

Problem make_problem(std::shared_ptr<const OperatorManifest> op, const Values& given) {
  check_known(*op, given);
  Problem problem{op, {}, {}};
  Values options;
  for (const auto& option : op->options)
    if (const auto found = given.find(option.name); found != given.end()) options.insert(*found);
  problem.values = complete_options(*op, options);
  for (const auto& tensor : op->tensors)
    if (tensor.optional) problem.values["has_" + tensor.name] = presence_of(*op, given, tensor);
  take_dimensions(problem, given);
  complete_dimensions(problem);
  take_dtypes(problem, given);
  take_scalars(problem, scalars_by_name(*op, given));
  complete_strides(problem, given);
  take_alignment(problem, given);
  check_requires(problem);
  return problem;
}

}  // namespace cudadent
