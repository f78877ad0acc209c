#include "tuner/cost_model.h"

#include <limits>

namespace cudadent {

namespace {

SpaceDefinition definition_of(const KernelTemplate& kernel, const Problem& problem,
                              const Values& device_facts) {
  SpaceDefinition definition = space_definition(kernel, problem, device_facts);
  definition.constraints = {*kernel.prior};
  return definition;
}

}  // namespace

CostModel::CostModel(const KernelTemplate& kernel, const Problem& problem,
                     const Values& device_facts)
    : compiled_(std::make_shared<const Compiled>(definition_of(kernel, problem, device_facts))) {
  const ConstraintProgram& program = compiled_->program;
  const auto& nodes = program.nodes();
  root_ = program.constraints().back().root;
  std::vector<bool> needed(nodes.size());
  needed[root_] = true;
  for (NodeIndex node = root_ + 1; node-- > 0;)  // parents come after their children
    if (needed[node])
      for (const NodeIndex child : nodes[node].children) needed[child] = true;
  constants_.resize(nodes.size());
  for (NodeIndex node = 0; node <= root_; ++node) {
    if (!needed[node]) continue;
    if (nodes[node].operation == Operation::constant)
      constants_[node] = nodes[node].constant;
    else if (nodes[node].operation == Operation::name)
      variables_.emplace_back(node, kernel.parameters[nodes[node].parameters[0]].name);
    else
      steps_.push_back(node);
  }
}

double CostModel::operator()(const Values& configuration) const {
  std::vector<Operand> values = constants_;
  for (const auto& [node, name] : variables_) {
    const auto found = configuration.find(name);
    values[node] = found == configuration.end() ? Operand::failed(Failure::unknown_name)
                                                : Operand::of(found->second);
  }
  for (const NodeIndex node : steps_)
    values[node] = compiled_->program.evaluate(compiled_->program.nodes()[node], values);
  const Operand& cost = values[root_];
  if (cost.kind == Operand::Kind::real) return cost.real;
  if (cost.kind == Operand::Kind::integer) return static_cast<double>(cost.integer);
  return std::numeric_limits<double>::infinity();
}

}  // namespace cudadent
