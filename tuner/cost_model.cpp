#include "tuner/cost_model.h"

#include <limits>

namespace cudadent {

namespace {

SpaceDefinition definition_of(const KernelTemplate& kernel, const Problem& problem,
                              const Values& device_facts) {
  SpaceDefinition definition = space_definition(kernel, problem, device_facts);
  definition.let.insert(definition.let.end(), kernel.prior->let.begin(), kernel.prior->let.end());
  definition.constraints = {kernel.prior->seconds};
  return definition;
}

}  // namespace

CostModel::CostModel(const KernelTemplate& kernel, const Problem& problem,
                     const Values& device_facts)
    : compiled_(std::make_shared<const Compiled>(definition_of(kernel, problem, device_facts))) {
  const ConstraintProgram& program = compiled_->program;
  const auto& nodes = program.nodes();
  root_ = program.constraints().back().root;
  range_ = steps_.add(program.graph(), std::span(&root_, 1));
  constants_ = ExpressionProgram::values_for(program.graph());
  for (NodeIndex node = 0; node <= root_; ++node)
    if (nodes[node].operation == Operation::name)
      variables_.emplace_back(node, kernel.parameters[nodes[node].variables[0]].name);
}

double CostModel::operator()(const Values& configuration) const {
  std::vector<Operand> values = constants_;
  for (const auto& [node, name] : variables_) {
    const auto found = configuration.find(name);
    values[node] = found == configuration.end() ? Operand::failed(Failure::unknown_name)
                                                : Operand::of(found->second);
  }
  steps_.run(range_, values);
  const Operand& cost = values[root_];
  if (cost.kind == Operand::Kind::real) return cost.real;
  if (cost.kind == Operand::Kind::integer) return static_cast<double>(cost.integer);
  return std::numeric_limits<double>::infinity();
}

}  // namespace cudadent
