#include "runtime/launch/problem_program.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/base/read_mostly_table.h"
#include "runtime/operators/strides.h"

namespace cudadent {

namespace {

constexpr double beyond_integers = 9223372036854775808.0;  // 2^63

Extents shape_of(const Tensor& tensor) noexcept {
  return {tensor.shape.data(), static_cast<std::size_t>(tensor.rank)};
}

// A tensor's dimensions, that which it lacks among them, with what is stepped over to get along them.
struct TensorLayout {
  std::array<std::int64_t, max_rank> shape{}, strides{};
  std::size_t rank = 0;
  [[nodiscard]] Extents extents() const noexcept { return {shape.data(), rank}; }
  [[nodiscard]] Extents steps() const noexcept { return {strides.data(), rank}; }
};

// Of a tensor whose operator has strides: what check_strides() in problem.cpp refuses.
bool may_lie_so(const Tensor& tensor, bool side_by_side) noexcept {
  const Extents shape = shape_of(tensor);
  for (std::size_t i = 0; i < shape.size(); ++i)
    if (is_stepped_over(shape, i) && tensor.strides[i] < 0) return false;
  const std::size_t last = shape.size() - 1;
  return !side_by_side || !is_stepped_over(shape, last) || tensor.strides[last] == 1;
}

}  // namespace

std::int64_t signature_word(const Tensor& tensor) noexcept {
  return tensor.present() ? static_cast<std::int64_t>(tensor.dtype) * 8 + tensor.rank : -1;
}

std::optional<std::int64_t> whole_number(const Operand& operand) noexcept {
  if (operand.is_integer()) return operand.integer;
  if (operand.kind != Operand::Kind::real) return std::nullopt;
  const double real = operand.real;
  if (std::trunc(real) != real || std::abs(real) >= beyond_integers) return std::nullopt;
  return static_cast<std::int64_t>(real);
}

// ------------------------------------------------------------------------------------ compiling

ProblemProgram::ProblemProgram(const Problem& problem, std::span<const Tensor> tensors,
                               std::span<const double> bound)
    : op_(problem.op), known_(problem.values), order_(op_->call_order()), graph_(known_) {
  for (const Tensor& tensor : tensors) signature_.push_back(signature_word(tensor));
  std::array<const Tensor*, max_tensors> placed{};
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].present()) placed[order_.place(i, tensors.size())] = &tensors[i];
  for (std::size_t i = 0; i < op_->tensors.size(); ++i)
    if (placed[i] != nullptr) tensors_.push_back(compile_tensor(problem, i, *placed[i]));
  compile_derived(problem);
  compile_scalars(bound);
  compile_rest();
  constants_ = ExpressionProgram::values_for(graph_);
  graph_ = ExpressionGraph(known_);
}

ProblemProgram::NodeIndex ProblemProgram::add_variable(const std::string& name) {
  const NodeIndex node = graph_.add_variable(static_cast<std::uint32_t>(graph_.nodes().size()));
  graph_.define(name, node);
  variables_.push_back({name, node});
  return node;
}

ProblemProgram::TensorProgram ProblemProgram::compile_tensor(const Problem& problem,
                                                             std::size_t place,
                                                             const Tensor& tensor) {
  const TensorSpec& spec = op_->tensors[place];
  TensorProgram result;
  result.place = place;
  result.any_alignment = spec.any_alignment;
  result.output = spec.output;
  result.has_strides = spec.has_strides();
  result.element_size = static_cast<std::int64_t>(size_of(tensor.dtype));
  const ShapeSpec& shape = spec.shape_for(problem.values);
  result.missing = shape.size() - static_cast<std::size_t>(tensor.rank);
  for (std::size_t i = result.missing; i < shape.size(); ++i)
    result.extents.push_back(compile_extent(shape[i]));
  if (!spec.has_strides()) return result;
  for (const std::string& name : spec.strides.at(problem.values))
    result.strides.push_back(name.empty() ? std::nullopt : std::optional(add_variable(name)));
  return result;
}

ProblemProgram::Extent ProblemProgram::compile_extent(const DimensionSpec& dimension) {
  Extent extent;
  const std::string& symbol = dimension.bound_symbol();
  if (!symbol.empty()) {
    const auto said = graph_.defined(symbol);
    extent.rule = said ? Extent::Rule::repeats : Extent::Rule::binds;
    extent.node = said ? *said : add_variable(symbol);
    if (dimension.binds) {
      extent.factor = dimension.binds->factor;
      extent.offset = dimension.binds->offset;
    }
  } else if (dimension.derived) {
    extent.rule = Extent::Rule::derived;  // compiled when all are bound
  } else {
    extent.constant = dimension.constant;
  }
  return extent;
}

// What needs the values that all tensors together say.
void ProblemProgram::compile_derived(const Problem& problem) {
  std::vector<NodeIndex> roots;
  for (TensorProgram& tensor : tensors_) {
    const ShapeSpec& shape = op_->tensors[tensor.place].shape_for(problem.values);
    for (std::size_t i = 0; i < tensor.extents.size(); ++i) {
      if (tensor.extents[i].rule != Extent::Rule::derived) continue;
      tensor.extents[i].node = graph_.compile(*shape[i + tensor.missing].derived);
      roots.push_back(tensor.extents[i].node);
    }
    if (tensor.missing == 0) continue;
    const std::string& symbol = shape.front().symbol;  // 1 where no tensor has it
    const auto said = graph_.defined(symbol);
    tensor.missing_extent =
        said ? *said : graph_.add_constant(Operand::of(problem.values.at(symbol)));
  }
  derived_steps_ = program_.add(graph_, roots);
}

void ProblemProgram::compile_scalars(std::span<const double> bound) {
  for (std::size_t i = 0; i < op_->scalars.size(); ++i) {
    const ScalarSpec& spec = op_->scalars[i];
    ScalarProgram scalar;
    scalar.otherwise = graph_.compile(spec.otherwise);
    scalar.default_steps = program_.add(graph_, std::span(&scalar.otherwise, 1));
    scalar.bound = bound[i];
    scalar.integer = spec.integer;
    scalar.in_problem = spec.in_problem;
    scalar.least = spec.least;
    scalar.most = spec.most;
    if (spec.in_problem) scalar.node = add_variable(spec.name);
    scalars_.push_back(scalar);
  }
}

// The requirements, and the key: what Problem::tuning_key() has, exactly or more exactly.
void ProblemProgram::compile_rest() {
  base_aligned_ = add_variable("base_aligned");
  aligned_ = add_variable("aligned");
  for (const Expression& condition : op_->requires_) requires_.push_back(graph_.compile(condition));
  std::vector<NodeIndex> roots = requires_;
  const auto override_of = [&](const std::string& name) {
    std::optional<NodeIndex> node;
    for (const auto& [overridden, expression] : op_->tuning_key)
      if (overridden == name) node = graph_.compile(expression);
    if (node) roots.push_back(*node);
    return node;
  };
  std::vector<Variable> inexact;
  for (const Variable& variable : variables_) {
    if (op_->scalar_index(variable.name)) {
      inexact.push_back(variable);
      scalars_[*op_->scalar_index(variable.name)].tuned = override_of(variable.name);
    } else if (op_->is_dimension(variable.name)) {
      const auto tuned = override_of(variable.name);
      key_.push_back(tuned.value_or(variable.node));
      if (tuned) inexact.push_back(variable);
    } else if (op_->is_stride(variable.name)) {
      inexact.push_back(variable);
      if (const auto tuned = override_of(variable.name)) key_.push_back(*tuned);
    }
  }
  // Overrides of other names, such as options: what they make of them may depend on anything.
  for (const auto& [name, expression] : op_->tuning_key)
    if (!op_->is_dimension(name) && !op_->is_stride(name) && !op_->scalar_index(name))
      key_.push_back(*override_of(name));
  variables_ = std::move(inexact);
  last_steps_ = program_.add(graph_, roots);
}

bool ProblemProgram::is_variable(std::string_view name) const noexcept {
  return std::any_of(variables_.begin(), variables_.end(),
                     [&](const Variable& variable) { return variable.name == name; });
}

ProblemProgram::Result ProblemProgram::make_result() const {
  Result result;
  result.values = constants_;
  result.key.reserve(2 * key_.size() + 3 * scalars_.size() + 1);
  return result;
}

// ----------------------------------------------------------------------------------- evaluating

bool ProblemProgram::is_for(std::span<const Tensor> tensors) const noexcept {
  return std::equal(
      tensors.begin(), tensors.end(), signature_.begin(), signature_.end(),
      [](const Tensor& tensor, std::int64_t word) { return signature_word(tensor) == word; });
}

ProblemProgram::Outcome ProblemProgram::evaluate(std::span<const Tensor> tensors,
                                                 std::span<const double> scalars,
                                                 Result& result) const noexcept {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    result.tensors[order_.place(i, tensors.size())] = &tensors[i];
  bool no_work = true;
  if (!read_extents(result) || !read_scalars(scalars, result) || !read_layouts(result, no_work))
    return Outcome::irregular;
  program_.run(last_steps_, result.values);
  for (const NodeIndex condition : requires_)
    if (!result.values[condition].is_true()) return Outcome::irregular;
  if (no_work) return Outcome::no_work;
  return write_key(result) ? Outcome::regular : Outcome::irregular;
}

bool ProblemProgram::read_extents(Result& result) const noexcept {
  using Rule = Extent::Rule;
  auto& values = result.values;
  for (const TensorProgram& tensor : tensors_) {
    const Extents shape = shape_of(*result.tensors[tensor.place]);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const Extent& extent = tensor.extents[i];
      if (shape[i] < 0) return false;
      if (extent.rule == Rule::derived) continue;
      if (extent.rule == Rule::constant) {
        if (shape[i] != extent.constant) return false;
        continue;
      }
      std::int64_t value = shape[i] - extent.offset;
      if (value < 0) return false;
      if (extent.factor != 1) {
        if (value % extent.factor != 0) return false;
        value /= extent.factor;
      }
      if (extent.rule == Rule::binds)
        values[extent.node] = Operand::of(value);
      else if (values[extent.node].integer != value)
        return false;
    }
  }
  program_.run(derived_steps_, values);
  for (const TensorProgram& tensor : tensors_)
    for (std::size_t i = 0; i < tensor.extents.size(); ++i)
      if (tensor.extents[i].rule == Rule::derived &&
          whole_number(values[tensor.extents[i].node]) != result.tensors[tensor.place]->shape[i])
        return false;
  return true;
}

bool ProblemProgram::read_scalars(std::span<const double> given, Result& result) const noexcept {
  for (std::size_t i = 0; i < scalars_.size(); ++i) {
    const ScalarProgram& scalar = scalars_[i];
    const bool is_given = !given.empty() && !std::isnan(given[i]);
    double number = is_given ? given[i] : scalar.bound;
    const bool by_default = std::isnan(number);
    if (by_default || scalar.in_problem) {  // whose key says whether it is as by default
      program_.run(scalar.default_steps, result.values);
      const Operand& otherwise = result.values[scalar.otherwise];
      if (!otherwise.is_number()) return false;
      if (by_default) number = otherwise.as_double();
    }
    result.scalars[i] = number;
    if (!scalar.in_problem) continue;
    if (!std::isfinite(number) || number < scalar.least || number > scalar.most) return false;
    if (scalar.integer && (std::floor(number) != number || std::abs(number) >= beyond_integers))
      return false;
    result.values[scalar.node] =
        scalar.integer ? Operand::of(static_cast<std::int64_t>(number)) : Operand::of(number);
  }
  return true;
}

// Strides, alignment, and whether there is anything to do.
bool ProblemProgram::read_layouts(Result& result, bool& no_work) const noexcept {
  auto& values = result.values;
  std::uintptr_t address_bits = 0;
  bool rows_aligned = true;
  for (const TensorProgram& program : tensors_) {
    const Tensor& tensor = *result.tensors[program.place];
    if (!program.any_alignment) address_bits |= reinterpret_cast<std::uintptr_t>(tensor.data);
    TensorLayout layout;
    if (program.missing_extent) {
      const auto extent = whole_number(values[*program.missing_extent]);
      if (!extent) return false;
      layout.shape[layout.rank++] = *extent;
    }
    for (const std::int64_t extent : shape_of(tensor)) layout.shape[layout.rank++] = extent;
    const bool is_empty_tensor = is_empty(layout.extents());
    if (program.output && !is_empty_tensor) no_work = false;
    if (!program.has_strides) continue;
    if (!may_lie_so(tensor, !program.strides.back().has_value())) return false;
    Packing packing;
    for (std::size_t i = layout.rank; i-- > 0;) {
      std::int64_t stride = packing.stride();
      if (program.strides[i]) {
        if (layout.shape[i] > 1 && !is_empty_tensor) {
          stride = i < program.missing ? 0 : tensor.strides[i - program.missing];
          if (stride < 0 || stride > max_stride) return false;
        }
        values[*program.strides[i]] = Operand::of(stride);
      }
      layout.strides[i] = stride;
      packing.add(layout.shape[i], stride);
    }
    if (program.output && !steps_over_its_inside(layout.extents(), layout.steps())) return false;
    if (!program.any_alignment && rows_aligned)
      rows_aligned = rows_are_multiples_of(16, layout.extents(), layout.steps(),
                                           static_cast<std::size_t>(program.element_size));
  }
  const bool base_aligned = address_bits % 16 == 0;
  values[base_aligned_] = Operand::of(base_aligned);
  values[aligned_] = Operand::of(base_aligned && rows_aligned);
  result.rows_aligned = rows_aligned;
  return true;
}

bool ProblemProgram::write_key(Result& result) const noexcept {
  const auto& values = result.values;
  std::uint64_t hash = 0;
  result.key.clear();  // which has room for all of it
  const auto add = [&](std::int64_t word) {
    result.key.push_back(word);
    hash = hash_word(hash, word);
  };
  const auto add_operand = [&](const Operand& operand) {
    add(static_cast<std::int64_t>(operand.kind));
    add(static_cast<std::int64_t>(operand.bits()));
    return !operand.is_failure();
  };
  add((result.rows_aligned ? 2 : 0) + (values[base_aligned_].is_true() ? 1 : 0));
  for (const NodeIndex node : key_)
    if (!add_operand(values[node])) return false;
  for (std::size_t i = 0; i < scalars_.size(); ++i) {
    const ScalarProgram& scalar = scalars_[i];
    if (!scalar.in_problem) continue;
    const bool as_by_default = result.scalars[i] == values[scalar.otherwise].as_double();
    add(as_by_default ? 1 : 0);
    if (!as_by_default && !add_operand(values[scalar.tuned.value_or(scalar.node)])) return false;
  }
  result.hash = hash;
  return true;
}

}  // namespace cudadent
