#include "runtime/operators/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/language/value.h"
#include "runtime/operators/problem_completion.h"
#include "runtime/operators/strides.h"

namespace cudadent {

namespace {

// Takes out of a key what is as it is when nothing is said.
void drop_implied(const Problem& problem, Values& key) {
  const auto bound = bound_dimensions(problem);
  for (const auto& dimension : problem.op->dimensions)
    if (!bound.contains(dimension) || (problem.op->is_optional_dimension(dimension) &&
                                       key.at(dimension) == Value(std::int64_t{1})))
      key.erase(dimension);
  if (is_true(problem.values.at("base_aligned")) || rows_are_aligned(problem))
    key.erase("base_aligned");
  const auto defaults = default_scalars(problem);
  for (std::size_t i = 0; i < defaults.size(); ++i)
    if (problem.scalars[i] == defaults[i]) key.erase(problem.op->scalars[i].name);
}

// The names of strides that are not what they would be if nothing were said, in order.
std::vector<std::string> unpacked_strides(const Problem& problem) {
  std::vector<std::string> unpacked;
  for (const auto& spec : problem.op->tensors) {
    if (!spec.has_strides() || !problem.has(spec)) continue;
    const auto shape = problem.shape_of(spec), strides = problem.strides_of(spec);
    const StrideSpec& names = spec.strides.at(problem.values);
    Packing packing;
    std::vector<std::string> of_tensor;
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (strides[i] != packing.stride()) of_tensor.push_back(names[i]);
      packing.add(shape[i], strides[i]);
    }
    unpacked.insert(unpacked.end(), of_tensor.rbegin(), of_tensor.rend());
  }
  return unpacked;
}

}  // namespace

std::string Problem::describe() const {
  std::string text = op->name;
  const auto add = [&](const std::string& name) {
    text += fmt::format(" {}={}", name, to_text(values.at(name)));
  };
  Values said = values;
  drop_implied(*this, said);
  for (const auto& dimension : op->dimensions)
    if (said.contains(dimension)) add(dimension);
  for (const auto& spec : op->dtypes) {
    const auto by_default = default_dtype(*op, spec, values);
    if (!by_default || *by_default != to_text(values.at(spec.symbol))) add(spec.symbol);
  }
  for (const auto& option : op->options)
    if (values.at(option.name) != option.values.front()) add(option.name);
  for (const auto& tensor : op->tensors)
    if (tensor.optional && has(tensor)) text += fmt::format(" {}=true", tensor.name);
  const auto defaults = default_scalars(*this);
  for (std::size_t i = 0; i < scalars.size(); ++i)
    if (scalars[i] != defaults[i]) text += fmt::format(" {}={}", op->scalars[i].name, scalars[i]);
  for (const auto& name : unpacked_strides(*this)) add(name);
  if (said.contains("base_aligned"))
    add("base_aligned");
  else if (!is_true(values.at("base_aligned")))
    add("aligned");
  return text;
}

std::string Problem::key() const {
  Values key = values;
  for (const auto& name : op->strides) key.erase(name);
  for (const auto& name : unpacked_strides(*this)) key[name] = values.at(name);
  drop_implied(*this, key);
  return to_json(key).dump();
}

std::string Problem::tuning_key() const {
  Values key = values;
  for (const auto& name : op->strides) key.erase(name);
  for (const auto& [name, expression] : op->tuning_key)
    key[name] = expression.evaluate(Scope(values));
  drop_implied(*this, key);
  return to_json(key).dump();
}

Problem Problem::representative() const {
  constexpr double always_bytes = 2e9, more = 1.5;
  Values given = values_from_json(nlohmann::json::parse(key()));
  for (const auto& [name, expression] : op->tuning_key)
    if (given.contains(name)) given[name] = expression.evaluate(Scope(values));
  try {
    Problem result = make_problem(op, given);
    for (std::size_t i = 0; i < scalars.size(); ++i)
      if (!op->scalars[i].in_problem) result.scalars[i] = scalars[i];
    if (result.tuning_key() != tuning_key()) return *this;
    if (result.bytes() > std::max(always_bytes, more * bytes())) return *this;
    return result;
  } catch (const Error&) {  // strides of this one's own, which do not fit others
    return *this;
  }
}

double Problem::flops() const {
  return op->flops ? as_real(op->flops->evaluate(Scope(values)), "flops") : 0;
}

double Problem::bytes() const {
  return op->bytes ? as_real(op->bytes->evaluate(Scope(values)), "bytes") : 0;
}

double Problem::tolerance(DataType output) const {
  constexpr double when_silent = 1e-5;
  const auto found = op->tolerance.find(std::string(name_of(output)));
  return found == op->tolerance.end() ? when_silent
                                      : as_real(found->second.evaluate(Scope(values)), "tolerance");
}

std::vector<std::int64_t> Problem::shape_of(const TensorSpec& tensor) const {
  std::vector<std::int64_t> shape;
  for (const auto& dimension : tensor.shape_for(values)) shape.push_back(dimension.extent(values));
  return shape;
}

std::vector<std::int64_t> Problem::strides_of(const TensorSpec& tensor) const {
  if (!tensor.has_strides()) return packed_strides(shape_of(tensor));
  std::vector<std::int64_t> all;
  for (const auto& name : tensor.strides.at(values))
    all.push_back(name.empty() ? 1 : std::get<std::int64_t>(values.at(name)));
  return all;
}

DataType Problem::dtype_of(const TensorSpec& tensor) const {
  const auto symbol = values.find(tensor.dtype);
  return *data_type_named(symbol == values.end() ? tensor.dtype : to_text(symbol->second));
}

bool Problem::has(const TensorSpec& tensor) const {
  return !tensor.optional || is_true(values.at("has_" + tensor.name));
}

bool Problem::has_no_work() const {
  return std::all_of(op->tensors.begin(), op->tensors.end(), [&](const TensorSpec& tensor) {
    if (!tensor.output || !has(tensor)) return true;
    return is_empty(shape_of(tensor));
  });
}

}  // namespace cudadent
