#include "runtime/operators/problem_completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/language/value.h"
#include "runtime/operators/strides.h"

namespace cudadent {

void reject(const OperatorManifest& op, const std::string& reason) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", op.name, reason));
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

bool flag_of(const OperatorManifest& op, const std::string& name, const Value& value) {
  if (!is_number(value))
    reject(op, fmt::format("{}={} is neither true nor false", name, to_text(value)));
  return is_true(value);
}

std::optional<std::string> default_dtype(const OperatorManifest& op, const DataTypeSpec& spec,
                                         const Values& values) {
  if (!spec.otherwise) return std::nullopt;
  const Value type = spec.otherwise->evaluate(Scope(values));
  if (!data_type_named(to_text(type)))
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("{}: the default of {} is {}, which is no data type", op.origin,
                            spec.symbol, to_literal(type)));
  return to_text(type);
}

std::set<std::string> bound_dimensions(const Problem& problem) {
  std::set<std::string> bound;
  for (const auto& tensor : problem.op->tensors)
    if (problem.has(tensor))
      for (const auto& dimension : tensor.shape_for(problem.values))
        bound.insert(dimension.bound_symbol());
  return bound;
}

void complete_dimensions(Problem& problem) {
  const auto bound = bound_dimensions(problem);
  for (const auto& dimension : problem.op->dimensions)
    if (!bound.contains(dimension))
      problem.values[dimension] = std::int64_t{0};
    else if (problem.op->is_optional_dimension(dimension))
      problem.values.emplace(dimension, std::int64_t{1});
}

namespace {

void check_output(const Problem& problem, const TensorSpec& spec) {
  const auto shape = problem.shape_of(spec), strides = problem.strides_of(spec);
  if (!steps_over_its_inside(shape, strides))
    reject(*problem.op,
           fmt::format("{} has shape {} and strides {}, with which elements of this output share "
                       "memory or interleave; expected each stride to step over all that smaller "
                       "ones reach, as in {}. Pass a contiguous tensor.",
                       spec.name, shape_text(shape), shape_text(strides),
                       shape_text(packed_strides(shape))));
}

std::int64_t given_stride(const OperatorManifest& op, const TensorSpec& spec,
                          const std::string& name, const Value& value) {
  const std::int64_t stride = as_integer(value, name);
  if (stride < 0 || stride > max_stride)
    reject(op, fmt::format("{}={} cannot be a stride of {}, expected 0 to {}", name, stride,
                           spec.name, max_stride));
  return stride;
}

}  // namespace

void complete_strides(Problem& problem, const Values& given) {
  for (const auto& name : problem.op->strides) problem.values[name] = std::int64_t{0};
  for (const auto& spec : problem.op->tensors) {
    if (!spec.has_strides() || !problem.has(spec)) continue;
    const auto shape = problem.shape_of(spec);
    const StrideSpec& names = spec.strides.at(problem.values);
    Packing packing;
    for (std::size_t i = shape.size(); i-- > 0;) {
      std::int64_t stride = packing.stride();
      if (!names[i].empty()) {
        const auto found = given.find(names[i]);
        if (found != given.end() && is_stepped_over(shape, i))
          stride = given_stride(*problem.op, spec, names[i], found->second);
        problem.values[names[i]] = stride;
      }
      packing.add(shape[i], stride);
    }
    if (spec.output) check_output(problem, spec);
  }
}

bool rows_are_aligned(const Problem& problem) {
  const auto& tensors = problem.op->tensors;
  return std::all_of(tensors.begin(), tensors.end(), [&](const TensorSpec& spec) {
    return !spec.has_strides() || spec.any_alignment || !problem.has(spec) ||
           rows_are_multiples_of(16, problem.shape_of(spec), problem.strides_of(spec),
                                 size_of(problem.dtype_of(spec)));
  });
}

void take_alignment(Problem& problem, const Values& given) {
  const bool rows = rows_are_aligned(problem);
  auto found = given.find("base_aligned");
  if (found == given.end() && rows) found = given.find("aligned");
  const bool bases = found == given.end() || flag_of(*problem.op, found->first, found->second);
  problem.values["base_aligned"] = bases;
  problem.values["aligned"] = bases && rows;
}

void check_requires(const Problem& problem) {
  const Scope scope(problem.values);
  for (const auto& condition : problem.op->requires_)
    if (!is_true(condition.evaluate(scope)))
      reject(*problem.op, fmt::format("{} does not satisfy the operator's requirement '{}'",
                                      problem.describe(), condition.text()));
}

}  // namespace cudadent
