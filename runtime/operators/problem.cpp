#include "runtime/operators/problem.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/language/value.h"
#include "runtime/operators/strides.h"

namespace cudadent {

namespace {

[[noreturn]] void reject(const OperatorManifest& op, const std::string& reason) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}: {}", op.name, reason));
}

std::string list(const std::vector<Value>& values) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(to_text(value));
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string expected_shape_text(const ShapeSpec& shape) {
  std::vector<std::string> parts;
  for (const auto& dimension : shape) parts.push_back(dimension.text());
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

// Without the first entries that a tensor of this rank lacks.
std::string expected_strides_text(const StrideSpec& strides, std::size_t rank) {
  std::vector<std::string> parts;
  for (const auto& name : strides) parts.push_back(name.empty() ? "1" : name);
  parts.erase(parts.begin(), parts.end() - static_cast<std::ptrdiff_t>(rank));
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

Extents shape_of(const Tensor& tensor) {
  return {tensor.shape.data(), static_cast<std::size_t>(tensor.rank)};
}
Extents strides_of(const Tensor& tensor) {
  return {tensor.strides.data(), static_cast<std::size_t>(tensor.rank)};
}

void check_requires(const Problem& problem) {
  const Scope scope(problem.values);
  for (const auto& condition : problem.op->requires_)
    if (!is_true(condition.evaluate(scope)))
      reject(*problem.op, fmt::format("{} does not satisfy the operator's requirement '{}'",
                                      problem.describe(), condition.text()));
}

// A dtype symbol's value when nothing gives it; nothing when it has no default. `values` holds the
// symbols before it.
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

// Words are refused: "no" would count as true.
bool flag_of(const OperatorManifest& op, const std::string& name, const Value& value) {
  if (!is_number(value))
    reject(op, fmt::format("{}={} is neither true nor false", name, to_text(value)));
  return is_true(value);
}

bool presence_of(const OperatorManifest& op, const Values& given, const TensorSpec& tensor) {
  for (const auto& name : {"has_" + tensor.name, tensor.name})
    if (const auto found = given.find(name); found != given.end())
      return flag_of(op, name, found->second);
  return false;
}

// Binds symbols to extents and data types as tensors are met, and says who bound what first.
class Unifier {
 public:
  Unifier(const OperatorManifest& op, Values& values) : op_(op), values_(values) {}

  void bind_shape(const TensorSpec& spec, const Tensor& tensor) {
    const ShapeSpec& expected = spec.shape_for(values_);
    const Extents shape = shape_of(tensor);
    const bool lacks_first = shape.size() + 1 == expected.size() && expected.front().optional;
    if (shape.size() != expected.size() && !lacks_first)
      reject(op_, fmt::format("{} has shape {}, expected {}", spec.name, shape_text(shape),
                              expected_shape_text(expected)));
    const std::size_t missing = lacks_first ? 1 : 0;
    for (std::size_t i = 0; i < shape.size(); ++i)
      bind_extent(spec, expected, expected[i + missing], shape[i], shape);
  }

  // An output has an optional leading dimension if any tensor has it; to be asked when all are bound.
  void check_has_first(const TensorSpec& spec, const Tensor& tensor) {
    ShapeSpec expected = spec.shape_for(values_);
    const Extents shape = shape_of(tensor);
    if (shape.size() == expected.size()) return;
    const std::string& symbol = expected.front().symbol;
    const auto bound = values_.find(symbol);
    if (bound == values_.end()) return;
    expected.front().optional = false;
    reject(op_, fmt::format("{} has shape {}, expected {} with {} = {} from {}", spec.name,
                            shape_text(shape), expected_shape_text(expected), symbol,
                            to_text(bound->second), binder_[symbol]));
  }

  // The extents that follow from others; to be asked when all are bound.
  void check_derived(const TensorSpec& spec, const Tensor& tensor) {
    const ShapeSpec& expected = spec.shape_for(values_);
    const Extents shape = shape_of(tensor);
    const std::size_t missing = expected.size() - shape.size();
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const DimensionSpec& dimension = expected[i + missing];
      if (!dimension.derived) continue;
      if (const auto extent = dimension.extent(values_); extent != shape[i])
        reject(op_, fmt::format("{} has shape {}, expected {} with {} = {}", spec.name,
                                shape_text(shape), expected_shape_text(expected), dimension.text(),
                                extent));
    }
  }

  void bind_dtype(const TensorSpec& spec, DataType dtype) {
    const std::string name(name_of(dtype));
    const auto index = op_.dtype_index(spec.dtype);
    if (!index) {
      if (name != spec.dtype)
        reject(op_, fmt::format("{} is {}, expected {}", spec.name, name, spec.dtype));
      return;
    }
    const auto& [symbol, allowed, otherwise] = op_.dtypes[*index];
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end())
      reject(op_, fmt::format("{} is {}, expected one of {}", spec.name, name,
                              fmt::join(allowed, ", ")));
    const auto [bound, is_new] = values_.emplace(symbol, name);
    if (!is_new && to_text(bound->second) != name)
      reject(op_, fmt::format("{} is {}, but {} is {} in {}", spec.name, name, symbol,
                              to_text(bound->second), binder_[symbol]));
    binder_.emplace(symbol, spec.name);
  }

 private:
  void bind_extent(const TensorSpec& spec, const ShapeSpec& expected,
                   const DimensionSpec& dimension, std::int64_t extent, Extents shape) {
    if (dimension.binds) {
      const auto& [symbol, factor, offset] = *dimension.binds;
      if (extent < offset || (extent - offset) % factor != 0)
        reject(op_, fmt::format("{} has shape {}, expected {}: {} cannot be {}", spec.name,
                                shape_text(shape), expected_shape_text(expected), dimension.text(),
                                extent));
      bind(spec, expected, symbol, (extent - offset) / factor, shape);
      return;
    }
    if (dimension.derived) return;  // when all are bound
    if (dimension.symbol.empty()) {
      if (extent != dimension.constant)
        reject(op_, fmt::format("{} has shape {}, expected {}", spec.name, shape_text(shape),
                                expected_shape_text(expected)));
      return;
    }
    bind(spec, expected, dimension.symbol, extent, shape);
  }

  void bind(const TensorSpec& spec, const ShapeSpec& expected, const std::string& symbol,
            std::int64_t extent, Extents shape) {
    const auto [bound, is_new] = values_.emplace(symbol, extent);
    if (is_new) binder_[symbol] = fmt::format("{} {}", spec.name, shape_text(shape));
    if (std::get<std::int64_t>(bound->second) != extent)
      reject(op_, fmt::format("{} has shape {}, expected {} with {} = {} from {}", spec.name,
                              shape_text(shape), expected_shape_text(expected), symbol,
                              to_text(bound->second), binder_[symbol]));
  }

  const OperatorManifest& op_;
  Values& values_;
  std::map<std::string, std::string> binder_;
};

// What a tensor's own strides must be; those of dimensions of one element are never used.
void check_strides(const OperatorManifest& op, const TensorSpec& spec, const Tensor& tensor,
                   const Values& options) {
  const Extents shape = shape_of(tensor), strides = strides_of(tensor);
  const auto fail = [&](const std::string& reason) {
    reject(op, fmt::format("{} {}: shape {}, strides {}{}. Pass a contiguous copy.", spec.name,
                           reason, shape_text(shape), shape_text(strides),
                           spec.has_strides()
                               ? ", expected " +
                                     expected_strides_text(spec.strides.at(options), shape.size())
                               : std::string()));
  };
  if (!spec.has_strides()) {
    Packing packing;
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (shape[i] > 1 && strides[i] != packing.stride()) fail("is not contiguous");
      packing.add(shape[i], packing.stride());
    }
    return;
  }
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (is_stepped_over(shape, i) && strides[i] < 0) fail("has a negative stride");
  const bool side_by_side = spec.strides.at(options).back().empty();
  if (side_by_side && is_stepped_over(shape, shape.size() - 1) && strides.back() != 1)
    fail("is not contiguous in its last dimension");
}

// By the names of the manifest; a leading dimension that the tensor lacks is not stepped along.
void name_strides(const TensorSpec& spec, const Tensor& tensor, const Values& options,
                  Values& named) {
  if (!spec.has_strides()) return;
  const StrideSpec& names = spec.strides.at(options);
  const auto rank = static_cast<std::size_t>(tensor.rank);
  const std::size_t missing = names.size() - rank;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty()) named[names[i]] = i < missing ? 0 : tensor.strides[i - missing];
}

// The dimensions in the shapes of the tensors that are there.
std::set<std::string> bound_dimensions(const Problem& problem) {
  std::set<std::string> bound;
  for (const auto& tensor : problem.op->tensors)
    if (problem.has(tensor))
      for (const auto& dimension : tensor.shape_for(problem.values))
        bound.insert(dimension.bound_symbol());
  return bound;
}

// Gives the dimensions that nothing bound their values.
void complete_dimensions(Problem& problem) {
  const auto bound = bound_dimensions(problem);
  for (const auto& dimension : problem.op->dimensions)
    if (!bound.contains(dimension))
      problem.values[dimension] = std::int64_t{0};
    else if (problem.op->is_optional_dimension(dimension))
      problem.values.emplace(dimension, std::int64_t{1});
}

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

// Binds the names of strides to what is given by name, else as if the tensor were packed.
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

// One for each tensor of the manifest, those that the call leaves out absent.
std::vector<Tensor> in_manifest_order(const OperatorManifest& op, std::span<const Tensor> given) {
  std::vector<Tensor> all(op.tensors.size());
  const CallOrder order = op.call_order();
  for (std::size_t i = 0; i < given.size(); ++i) all[order.place(i, given.size())] = given[i];
  return all;
}

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

// A number as it is among the problem's values.
Value value_of(const ScalarSpec& scalar, double number) {
  if (scalar.integer) return static_cast<std::int64_t>(number);
  return number;
}

// In manifest order; NaN for those that are not given.
std::vector<double> scalars_by_name(const OperatorManifest& op, const Values& given) {
  std::vector<double> scalars;
  for (const auto& scalar : op.scalars) {
    const auto found = given.find(scalar.name);
    scalars.push_back(found == given.end() ? NAN : as_real(found->second, scalar.name));
    if (found != given.end()) check_scalar(op, scalar, scalars.back());
  }
  return scalars;
}

// Gives the scalars their values; where `given` has none, or a NaN, it is the default.
void take_scalars(Problem& problem, std::span<const double> given) {
  const auto& specs = problem.op->scalars;
  if (!given.empty() && given.size() != specs.size())
    reject(*problem.op, fmt::format("{} scalars given, expected {}", given.size(), specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const bool is_given = !given.empty() && !std::isnan(given[i]);
    const double number =
        is_given ? given[i]
                 : as_real(specs[i].otherwise.evaluate(Scope(problem.values)), specs[i].name);
    if (is_given || specs[i].in_problem) check_scalar(*problem.op, specs[i], number);
    problem.scalars.push_back(number);
    if (specs[i].in_problem) problem.values[specs[i].name] = value_of(specs[i], number);
  }
}

}  // namespace

void check_scalar(const OperatorManifest& op, const ScalarSpec& scalar, double number) {
  constexpr double beyond = 9223372036854775808.0;  // 2^63
  const auto refuse = [&](const std::string& why) {
    reject(op, fmt::format("{}={} {}", scalar.name, number, why));
  };
  if (!std::isfinite(number)) refuse("is not a finite number; leave it out for its default");
  if (scalar.integer && (number != std::floor(number) || std::abs(number) >= beyond))
    refuse("is not an integer");
  if (number < scalar.least || number > scalar.most)
    refuse(fmt::format("is out of range, expected {} to {}", scalar.least, scalar.most));
}

std::vector<double> default_scalars(const Problem& problem) {
  std::vector<double> scalars;
  for (const auto& scalar : problem.op->scalars)
    scalars.push_back(as_real(scalar.otherwise.evaluate(Scope(problem.values)), scalar.name));
  return scalars;
}

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
    const auto otherwise = default_dtype(*op, spec, values);
    if (!otherwise || *otherwise != to_text(values.at(spec.symbol))) add(spec.symbol);
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

Values complete_options(const OperatorManifest& op, const Values& given) {
  for (const auto& [name, value] : given)
    if (std::none_of(op.options.begin(), op.options.end(),
                     [&, &key = name](const auto& option) { return option.name == key; })) {
      std::vector<std::string> known;
      for (const auto& option : op.options) known.push_back(option.name);
      for (const auto& scalar : op.scalars) known.push_back(scalar.name);
      reject(op, fmt::format("unknown option \"{}\"; known: {}", name, fmt::join(known, ", ")));
    }
  Values options;
  for (const auto& option : op.options) {
    const auto found = given.find(option.name);
    const Value& value = found == given.end() ? option.values.front() : found->second;
    if (std::find(option.values.begin(), option.values.end(), value) == option.values.end())
      reject(op, fmt::format("{}={} is not allowed; expected one of {}", option.name,
                             to_text(value), list(option.values)));
    options[option.name] = value;
  }
  return options;
}

Bound bind_values(const OperatorManifest& op, const Values& given) {
  Values options = given;
  for (const auto& scalar : op.scalars) options.erase(scalar.name);
  auto scalars = scalars_by_name(op, given);
  return {complete_options(op, options), std::move(scalars)};
}

namespace {

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

// `aligned` is about bases. Where rows are not aligned it is false whatever they are, and base_aligned
// says it.
void take_alignment(Problem& problem, const Values& given) {
  const bool rows = rows_are_aligned(problem);
  auto found = given.find("base_aligned");
  if (found == given.end() && rows) found = given.find("aligned");
  const bool bases = found == given.end() || flag_of(*problem.op, found->first, found->second);
  problem.values["base_aligned"] = bases;
  problem.values["aligned"] = bases && rows;
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

Problem problem_of(std::shared_ptr<const OperatorManifest> op, std::span<const Tensor> tensors,
                   const Values& options, std::span<const double> scalars) {
  if (tensors.size() > op->tensors.size())
    reject(*op, fmt::format("{} tensors given, expected at most {}", tensors.size(),
                            op->tensors.size()));
  const auto all = in_manifest_order(*op, tensors);
  Problem problem{op, complete_options(*op, options), {}};
  for (std::size_t i = 0; i < all.size(); ++i)  // shapes may depend on it
    if (op->tensors[i].optional) problem.values["has_" + op->tensors[i].name] = all[i].present();
  Unifier unifier(*op, problem.values);
  Values strides;
  bool aligned = true;
  const Tensor* first = nullptr;
  for (std::size_t i = 0; i < op->tensors.size(); ++i) {
    const TensorSpec& spec = op->tensors[i];
    const Tensor& tensor = all[i];
    if (!tensor.present()) {
      if (!spec.optional) reject(*op, fmt::format("tensor {} is missing", spec.name));
      continue;
    }
    unifier.bind_shape(spec, tensor);
    unifier.bind_dtype(spec, tensor.dtype);
    check_strides(*op, spec, tensor, problem.values);
    name_strides(spec, tensor, problem.values, strides);
    if (first == nullptr) first = &tensor;
    if (tensor.device != first->device)
      reject(*op, fmt::format("{} is on device {}, the other tensors on {}", spec.name,
                              tensor.device, first->device));
    aligned = aligned && (spec.any_alignment || is_aligned(tensor.data));
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    if (op->tensors[i].output && all[i].present()) unifier.check_has_first(op->tensors[i], all[i]);
  complete_dimensions(problem);
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].present()) unifier.check_derived(op->tensors[i], all[i]);
  for (const auto& spec : op->dtypes)
    if (!problem.values.contains(spec.symbol))
      problem.values[spec.symbol] =
          default_dtype(*op, spec, problem.values).value_or(spec.values.front());
  take_scalars(problem, scalars);
  complete_strides(problem, strides);
  take_alignment(problem, {{"base_aligned", aligned}});
  check_requires(problem);
  return problem;
}

}  // namespace cudadent
