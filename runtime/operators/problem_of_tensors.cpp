// A problem from the tensors of a call.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "runtime/language/value.h"
#include "runtime/operators/problem_completion.h"
#include "runtime/operators/strides.h"

namespace cudadent {

namespace {

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
    const auto& [symbol, allowed, by_default] = op_.dtypes[*index];
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

// One for each tensor of the manifest, those that the call leaves out absent.
std::vector<Tensor> in_manifest_order(const OperatorManifest& op, std::span<const Tensor> given) {
  std::vector<Tensor> all(op.tensors.size());
  const CallOrder order = op.call_order();
  for (std::size_t i = 0; i < given.size(); ++i) all[order.place(i, given.size())] = given[i];
  return all;
}

bool is_aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

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
