#include "runtime/launch/plan_program.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/language/value.h"

namespace cudadent {

namespace {

bool same(const Operand& a, const Operand& b) noexcept {
  if (a.kind != b.kind) return false;
  return a.kind == Operand::Kind::text ? *a.text == *b.text : a.bits() == b.bits();
}

// The operand as a number of a plan; false when it is none that fits.
template <class Number>
bool read(const Operand& operand, Number& number,
          std::int64_t most = std::numeric_limits<std::int64_t>::max(),
          std::int64_t least = 0) noexcept {
  const auto value = whole_number(operand);
  if (!value || *value < least || *value > most || !std::in_range<Number>(*value)) return false;
  number = static_cast<Number>(*value);
  return true;
}

template <class Number>
bool read_all(std::span<const ExpressionGraph::NodeIndex> nodes, std::span<const Operand> values,
              std::vector<Number>& numbers) noexcept {
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (!read(values[nodes[i]], numbers[i])) return false;
  return true;
}

}  // namespace

// ------------------------------------------------------------------------------------ compiling

PlanProgram::PlanProgram(const Specialization& specialization, const Problem& problem,
                         const Values& device_facts, const ProblemProgram& of,
                         const ProblemProgram::Result& member)
    : kernel_(specialization.kernel_template),
      base_(specialization.plan),
      known_(device_facts),
      graph_(known_) {
  const KernelTemplate& kernel = *kernel_;
  define_values(problem, specialization.configuration, of);
  for (const Expression& condition : kernel.requires_) require(condition);
  for (const auto& [name, expression] : kernel.let) graph_.define(name, graph_.compile(expression));
  for (const Expression& condition : kernel.constraints) require(condition);
  compile_binary_constants(kernel);
  compile_workspaces(kernel);
  compile_tensor_maps(kernel);
  compile_launches(kernel,
                   evaluate_let(kernel, problem, specialization.configuration, device_facts));
  steps_ = program_.add(graph_, roots_);
  constants_ = ExpressionProgram::values_for(graph_);
  // A bucket stays: what it was compiled with is ten times as large as the program.
  graph_ = ExpressionGraph(known_);
  roots_ = {};
  // What is fixed, is so as it is for the problem that the specialization is of.
  std::vector<Operand> values = constants_;
  for (const auto& [from, to] : inputs_) values[to] = member.values[from];
  program_.run(steps_, values);
  for (Fixed& fixed : fixed_) fixed.expected = values[fixed.node];
}

// As an expression of the template sees them: what is the same for all of the bucket are constants.
void PlanProgram::define_values(const Problem& problem, const Configuration& configuration,
                                const ProblemProgram& of) {
  for (const auto& [name, value] : problem.values)
    if (!of.is_variable(name)) known_.emplace(name, value);
  known_.insert(configuration.begin(), configuration.end());
  for (const auto& [name, from] : of.variables()) {
    const NodeIndex node = graph_.add_variable(from);
    graph_.define(name, node);
    inputs_.emplace_back(from, node);
  }
}

PlanProgram::NodeIndex PlanProgram::compile(const Expression& expression) {
  const NodeIndex node = graph_.compile(expression);
  roots_.push_back(node);
  return node;
}

void PlanProgram::require(const Expression& condition) {
  conditions_.push_back(compile(condition));
}

void PlanProgram::fix(NodeIndex node) {
  if (graph_.is_constant(node)) return;
  roots_.push_back(node);
  fixed_.push_back({node, {}});
}

// The rest of what the prelude has follows from these, from the configuration and from the device.
void PlanProgram::compile_binary_constants(const KernelTemplate& kernel) {
  for (const std::string& name : kernel.compile_time)
    if (const auto node = graph_.defined(name)) fix(*node);
}

void PlanProgram::compile_workspaces(const KernelTemplate& kernel) {
  for (std::size_t i = 0; i < kernel.workspaces.size(); ++i) {
    const WorkspaceSpec& spec = kernel.workspaces[i];
    Workspace workspace;
    workspace.index = i;
    if (spec.when) workspace.when = compile(*spec.when);
    workspace.bytes = compile(spec.bytes);
    workspaces_.push_back(workspace);
  }
}

void PlanProgram::compile_tensor_maps(const KernelTemplate& kernel) {
  const auto compile_all = [&](const std::vector<Expression>& expressions, bool& varies) {
    std::vector<NodeIndex> nodes;
    for (const Expression& expression : expressions) {
      nodes.push_back(compile(expression));
      varies = varies || !graph_.is_constant(nodes.back());
    }
    return nodes;
  };
  for (std::size_t i = 0; i < kernel.tensor_maps.size(); ++i) {
    const TensorMapSpec& spec = kernel.tensor_maps[i];
    fix(graph_.compile(spec.tensor));
    if (spec.when) fix(graph_.compile(*spec.when));
    if (base_.tensor_maps[i].box.empty()) continue;  // a map of nothing, for everyone
    if (spec.swizzle) fix(graph_.compile(*spec.swizzle));
    if (spec.l2_promotion) fix(graph_.compile(*spec.l2_promotion));
    TensorMap map;
    map.index = i;
    bool varies = false;
    map.dimensions = compile_all(spec.dimensions, varies);
    map.strides = compile_all(spec.strides, varies);
    map.box = compile_all(spec.box, varies);
    if (varies) tensor_maps_.push_back(std::move(map));
  }
}

void PlanProgram::compile_launches(const KernelTemplate& kernel, const Values& visible) {
  std::size_t launch = 0;  // of the plan, which has those that are launched
  for (const LaunchSpec& spec : kernel.launches) {
    if (spec.when) fix(graph_.compile(*spec.when));
    if (!spec.when || is_true(spec.when->evaluate(Scope(visible)))) compile_launch(spec, launch++);
  }
}

void PlanProgram::compile_launch(const LaunchSpec& spec, std::size_t launch) {
  const auto compile_extents = [&](const std::vector<Expression>& expressions, std::int64_t limit,
                                   bool block) {
    for (std::size_t axis = 0; axis < expressions.size(); ++axis)
      extents_.push_back({launch, axis, compile(expressions[axis]), limit, block});
  };
  compile_extents(spec.grid, std::numeric_limits<std::int32_t>::max(), false);
  compile_extents(spec.block, 1024, true);
  for (const Expression& extent : spec.cluster) fix(graph_.compile(extent));
  if (spec.shared_memory) shared_memory_.push_back({launch, compile(*spec.shared_memory)});
  for (std::size_t i = 0; i < spec.arguments.size(); ++i)
    if (spec.arguments[i].value)
      arguments_.push_back(
          {launch, i, compile(*spec.arguments[i].value), spec.arguments[i].type.empty()});
}

PlanProgram::Result PlanProgram::make_result() const { return {constants_, base_}; }

// ----------------------------------------------------------------------------------- evaluating

bool PlanProgram::evaluate(const ProblemProgram::Result& member, Result& result) const noexcept {
  auto& values = result.values;
  for (const auto& [from, to] : inputs_) values[to] = member.values[from];
  program_.run(steps_, values);
  for (const NodeIndex condition : conditions_)
    if (!values[condition].is_true()) return false;
  for (const Fixed& fixed : fixed_)
    if (!same(values[fixed.node], fixed.expected)) return false;
  return write_workspaces(result) && write_tensor_maps(result) && write_launches(result);
}

bool PlanProgram::write_workspaces(Result& result) const noexcept {
  for (const Workspace& workspace : workspaces_) {
    std::size_t& bytes = result.plan.workspaces[workspace.index].bytes;
    bytes = 0;
    if (workspace.when) {
      const Operand& when = result.values[*workspace.when];
      if (when.is_failure()) return false;
      if (!when.is_true()) continue;
    }
    if (!read(result.values[workspace.bytes], bytes)) return false;
  }
  return true;
}

bool PlanProgram::write_tensor_maps(Result& result) const noexcept {
  for (const TensorMap& map : tensor_maps_) {
    TensorMapPlan& plan = result.plan.tensor_maps[map.index];
    if (!read_all(map.dimensions, result.values, plan.dimensions) ||
        !read_all(map.strides, result.values, plan.strides) ||
        !read_all(map.box, result.values, plan.box))
      return false;
    complete(plan, map.strides.empty());
  }
  return true;
}

bool PlanProgram::write_launches(Result& result) const noexcept {
  auto& launches = result.plan.launches;
  for (const Extents& extent : extents_) {
    KernelLaunch& launch = launches[extent.launch];
    auto& target = (extent.block ? launch.block : launch.grid)[extent.axis];
    if (!read(result.values[extent.node], target, extent.limit, 1)) return false;
  }
  for (const auto& [launch, node] : shared_memory_)
    if (!read(result.values[node], launches[launch].shared_memory)) return false;
  for (const ArgumentValue& value : arguments_) {
    const Operand& operand = result.values[value.node];
    Argument& argument = launches[value.launch].arguments[value.argument];
    const bool is_float = argument.kind == Argument::Kind::f32;
    if (value.kind_follows && is_float != (operand.kind == Operand::Kind::real)) return false;
    if (is_float) {
      if (!operand.is_number()) return false;
      argument.real = operand.as_double();
    } else {
      constexpr auto most = std::numeric_limits<std::int64_t>::max();
      constexpr auto least = std::numeric_limits<std::int64_t>::min();
      if (!read(operand, argument.integer, most, least)) return false;
      if (argument.kind == Argument::Kind::i32 && !std::in_range<std::int32_t>(argument.integer))
        return false;
    }
  }
  return true;
}

}  // namespace cudadent
