// A template's prior, compiled for one problem on one device: a search asks it about every candidate.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"
#include "tuner/constraint_program.h"

namespace cudadent {

class CostModel {
 public:
  // `device_facts` are Device::facts(). The template has a prior.
  CostModel(const KernelTemplate& kernel_template, const Problem& problem,
            const Values& device_facts);

  // What the prior says of a configuration, whether that is valid or not. Infinity where it fails, since it
  // only orders candidates. May be called from many threads.
  [[nodiscard]] double operator()(const Values& configuration) const;

 private:
  using NodeIndex = ConstraintProgram::NodeIndex;

  // The program borrows from the definition: both stay where they are when a model is copied.
  struct Compiled {
    explicit Compiled(SpaceDefinition of) : definition(std::move(of)), program(definition) {}

    SpaceDefinition definition;  // the prior stands as its one constraint
    ConstraintProgram program;
  };

  std::shared_ptr<const Compiled> compiled_;
  NodeIndex root_ = 0;
  std::vector<std::pair<NodeIndex, std::string>> variables_;  // and their parameters' names
  ExpressionProgram steps_;
  ExpressionProgram::Range range_;
  std::vector<Operand> constants_;  // by node
};

}  // namespace cudadent
