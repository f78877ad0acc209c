#include "runtime/problem.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/value.h"

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
  for (const auto& dimension : shape)
    parts.push_back(dimension.symbol.empty() ? std::to_string(dimension.constant)
                                             : dimension.symbol);
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

void check_requires(const Problem& problem) {
  const Scope scope(problem.values);
  for (const auto& condition : problem.op->requires_)
    if (!is_true(condition.evaluate(scope)))
      reject(*problem.op, fmt::format("{} does not satisfy the operator's requirement '{}'",
                                      problem.describe(), condition.text()));
}

// A dtype symbol's value when nothing gives it; nothing when it has no default.
std::optional<std::string> default_dtype(const DataTypeSpec& spec, const Values& values) {
  if (!spec.default_symbol) return std::nullopt;
  if (const auto other = values.find(*spec.default_symbol); other != values.end())
    return to_text(other->second);
  return spec.default_symbol;
}

void check_dtype(const OperatorManifest& op, const DataTypeSpec& spec, const std::string& name) {
  if (std::find(spec.values.begin(), spec.values.end(), name) == spec.values.end())
    reject(op, fmt::format("{}={} is not supported; expected one of {}", spec.symbol, name,
                           fmt::join(spec.values, ", ")));
}

void check_known(const OperatorManifest& op, const Values& given) {
  std::set<std::string> known(op.dimensions.begin(), op.dimensions.end());
  known.insert("aligned");
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
    const std::span<const std::int64_t> shape(tensor.shape.data(),
                                              static_cast<std::size_t>(tensor.rank));
    if (shape.size() != expected.size())
      reject(op_, fmt::format("{} has shape {}, expected {}", spec.name, shape_text(shape),
                              expected_shape_text(expected)));
    for (std::size_t i = 0; i < shape.size(); ++i) bind_extent(spec, expected, i, shape);
  }

  void bind_dtype(const TensorSpec& spec, DataType dtype) {
    const std::string name(name_of(dtype));
    const auto symbol = std::find_if(op_.dtypes.begin(), op_.dtypes.end(),
                                     [&](const auto& entry) { return entry.symbol == spec.dtype; });
    if (symbol == op_.dtypes.end()) {
      if (name != spec.dtype)
        reject(op_, fmt::format("{} is {}, expected {}", spec.name, name, spec.dtype));
      return;
    }
    if (std::find(symbol->values.begin(), symbol->values.end(), name) == symbol->values.end())
      reject(op_, fmt::format("{} is {}, expected one of {}", spec.name, name,
                              fmt::join(symbol->values, ", ")));
    const auto [bound, is_new] = values_.emplace(symbol->symbol, name);
    if (!is_new && to_text(bound->second) != name)
      reject(op_, fmt::format("{} is {}, but {} is {} in {}", spec.name, name, symbol->symbol,
                              to_text(bound->second), binder_[symbol->symbol]));
    binder_.emplace(symbol->symbol, spec.name);
  }

 private:
  void bind_extent(const TensorSpec& spec, const ShapeSpec& expected, std::size_t i,
                   std::span<const std::int64_t> shape) {
    const DimensionSpec& dimension = expected[i];
    if (dimension.symbol.empty()) {
      if (shape[i] != dimension.constant)
        reject(op_, fmt::format("{} has shape {}, expected {}", spec.name, shape_text(shape),
                                expected_shape_text(expected)));
      return;
    }
    const auto [bound, is_new] = values_.emplace(dimension.symbol, shape[i]);
    if (is_new) binder_[dimension.symbol] = fmt::format("{} {}", spec.name, shape_text(shape));
    if (std::get<std::int64_t>(bound->second) != shape[i])
      reject(op_, fmt::format("{} has shape {}, expected {} with {} = {} from {}", spec.name,
                              shape_text(shape), expected_shape_text(expected), dimension.symbol,
                              to_text(bound->second), binder_[dimension.symbol]));
  }

  const OperatorManifest& op_;
  Values& values_;
  std::map<std::string, std::string> binder_;
};

void check_contiguous(const OperatorManifest& op, const TensorSpec& spec, const Tensor& tensor) {
  std::int64_t expected = 1;
  for (auto i = static_cast<std::size_t>(tensor.rank); i-- > 0;) {
    // The stride of an extent of 1 or less is never used.
    if (tensor.shape[i] > 1 && tensor.strides[i] != expected) {
      const auto rank = static_cast<std::size_t>(tensor.rank);
      reject(op, fmt::format("{} is not contiguous: shape {}, strides {}. Pass a contiguous copy.",
                             spec.name, shape_text({tensor.shape.data(), rank}),
                             shape_text({tensor.strides.data(), rank})));
    }
    expected *= std::max<std::int64_t>(tensor.shape[i], 1);
  }
}

// One for each tensor of the manifest, those that the call leaves out absent.
std::vector<Tensor> in_manifest_order(const OperatorManifest& op, std::span<const Tensor> given) {
  std::vector<Tensor> all(op.tensors.size());
  const CallOrder order = op.call_order();
  for (std::size_t i = 0; i < given.size(); ++i) all[order.place(i, given.size())] = given[i];
  return all;
}

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

std::vector<double> default_scalars(const OperatorManifest& op) {
  std::vector<double> scalars;
  for (const auto& scalar : op.scalars) scalars.push_back(scalar.default_value);
  return scalars;
}

}  // namespace

std::string Problem::describe() const {
  std::string text = op->name;
  const auto add = [&](const std::string& name) {
    text += fmt::format(" {}={}", name, to_text(values.at(name)));
  };
  for (const auto& dimension : op->dimensions)
    if (values.contains(dimension)) add(dimension);
  for (const auto& spec : op->dtypes) {
    const auto otherwise = default_dtype(spec, values);
    if (!otherwise || *otherwise != to_text(values.at(spec.symbol))) add(spec.symbol);
  }
  for (const auto& option : op->options)
    if (values.at(option.name) != option.values.front()) add(option.name);
  for (const auto& tensor : op->tensors)
    if (tensor.optional && has(tensor)) text += fmt::format(" {}=true", tensor.name);
  if (!is_true(values.at("aligned"))) text += " aligned=false";
  return text;
}

std::string Problem::key() const { return to_json(values).dump(); }

std::string Problem::tuning_key() const {
  Values key = values;
  for (const auto& [name, expression] : op->tuning_key)
    key[name] = expression.evaluate(Scope(values));
  return to_json(key).dump();
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
  for (const auto& dimension : tensor.shape_for(values))
    shape.push_back(dimension.symbol.empty() ? dimension.constant
                                             : std::get<std::int64_t>(values.at(dimension.symbol)));
  return shape;
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
    const auto shape = shape_of(tensor);
    return std::find(shape.begin(), shape.end(), 0) != shape.end();
  });
}

Values complete_options(const OperatorManifest& op, const Values& given) {
  for (const auto& [name, value] : given)
    if (std::none_of(op.options.begin(), op.options.end(),
                     [&, &key = name](const auto& option) { return option.name == key; })) {
      std::vector<std::string> known;
      for (const auto& option : op.options) known.push_back(option.name);
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

Problem make_problem(std::shared_ptr<const OperatorManifest> op, const Values& given) {
  check_known(*op, given);
  Problem problem{op, {}, default_scalars(*op)};
  for (const auto& dimension : op->dimensions) {
    const auto found = given.find(dimension);
    if (found == given.end())
      reject(*op, fmt::format("dimension {0} is missing: give {0}=…", dimension));
    const std::int64_t extent = as_integer(found->second, dimension);
    if (extent < 0) reject(*op, fmt::format("{}={} is negative", dimension, extent));
    problem.values[dimension] = extent;
  }
  for (const auto& spec : op->dtypes) {
    const auto found = given.find(spec.symbol);
    const auto name = found == given.end() ? default_dtype(spec, problem.values)
                                           : std::optional(to_text(found->second));
    if (!name)
      reject(*op, fmt::format("{} is missing: give one of {}", spec.symbol,
                              fmt::join(spec.values, ", ")));
    check_dtype(*op, spec, *name);
    problem.values[spec.symbol] = *name;
  }
  Values options;
  for (const auto& option : op->options)
    if (const auto found = given.find(option.name); found != given.end()) options.insert(*found);
  problem.values.merge(complete_options(*op, options));
  for (const auto& tensor : op->tensors)
    if (tensor.optional) problem.values["has_" + tensor.name] = presence_of(*op, given, tensor);
  for (std::size_t i = 0; i < op->scalars.size(); ++i)
    if (const auto found = given.find(op->scalars[i].name); found != given.end())
      problem.scalars[i] = as_real(found->second, found->first);
  const auto aligned = given.find("aligned");
  problem.values["aligned"] = aligned == given.end() || flag_of(*op, "aligned", aligned->second);
  check_requires(problem);
  return problem;
}

Problem problem_of(std::shared_ptr<const OperatorManifest> op, std::span<const Tensor> tensors,
                   const Values& options) {
  if (tensors.size() > op->tensors.size())
    reject(*op, fmt::format("{} tensors given, expected at most {}", tensors.size(),
                            op->tensors.size()));
  const auto all = in_manifest_order(*op, tensors);
  Problem problem{op, complete_options(*op, options), default_scalars(*op)};
  Unifier unifier(*op, problem.values);
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
    check_contiguous(*op, spec, tensor);
    if (first == nullptr) first = &tensor;
    if (tensor.device != first->device)
      reject(*op, fmt::format("{} is on device {}, the other tensors on {}", spec.name,
                              tensor.device, first->device));
    aligned = aligned && is_aligned(tensor.data);
  }
  for (std::size_t i = 0; i < op->tensors.size(); ++i)
    if (op->tensors[i].optional) problem.values["has_" + op->tensors[i].name] = all[i].present();
  problem.values["aligned"] = aligned;
  for (const auto& spec : op->dtypes)
    if (!problem.values.contains(spec.symbol))
      problem.values[spec.symbol] =
          default_dtype(spec, problem.values).value_or(spec.values.front());
  check_requires(problem);
  return problem;
}

}  // namespace cudadent
