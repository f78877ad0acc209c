// A launch plan's numbers, compiled for one configuration of a template and the problems of one bucket: what
// specialize() computes of a problem, where the binary stays what it is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/language/expression_graph.h"
#include "runtime/launch/problem_program.h"
#include "runtime/operators/launch_plan.h"
#include "runtime/operators/specialization.h"

namespace cudadent {

class PlanProgram {
 public:
  using NodeIndex = ExpressionGraph::NodeIndex;

  // `member` is `problem` as `of` evaluates it, and the specialization is of this problem. Keeps its template.
  PlanProgram(const Specialization& specialization, const Problem& problem,
              const Values& device_facts, const ProblemProgram& of,
              const ProblemProgram::Result& member);
  PlanProgram(const PlanProgram&) = delete;
  PlanProgram& operator=(const PlanProgram&) = delete;

  struct Result {
    std::vector<Operand> values;  // by node
    LaunchPlan plan;
  };
  [[nodiscard]] Result make_result() const;

  // Makes result.plan that of another member of the bucket. False where the specialization is not for it: a
  // requirement or constraint that it breaks, a constant of the binary that it would have otherwise, other
  // kernels to launch, a number that does not fit.
  bool evaluate(const ProblemProgram::Result& member, Result& result) const noexcept;

 private:
  // What has to be as it was for the problem that the binary was made for.
  struct Fixed {
    NodeIndex node = 0;
    Operand expected;
  };
  // Numbers of the plan.
  struct Extents {  // of a grid or block
    std::size_t launch = 0, axis = 0;
    NodeIndex node = 0;
    std::int64_t limit = 0;
    bool block = false;
  };
  struct SharedMemory {
    std::size_t launch = 0;
    NodeIndex node = 0;
  };
  struct ArgumentValue {
    std::size_t launch = 0, argument = 0;
    NodeIndex node = 0;
    bool kind_follows = false;  // the manifest gives no type: a float makes it f32
  };
  struct Workspace {
    std::size_t index = 0;
    std::optional<NodeIndex> when;
    NodeIndex bytes = 0;
  };
  struct TensorMap {
    std::size_t index = 0;
    std::vector<NodeIndex> dimensions, strides, box;  // strides: none where it is packed
  };

  NodeIndex compile(const Expression& expression);
  void define_values(const Problem& problem, const Configuration& configuration,
                     const ProblemProgram& of);
  void require(const Expression& condition);
  void fix(NodeIndex node);
  void compile_binary_constants(const KernelTemplate& kernel);
  void compile_workspaces(const KernelTemplate& kernel);
  void compile_tensor_maps(const KernelTemplate& kernel);
  void compile_launches(const KernelTemplate& kernel, const Values& visible);
  void compile_launch(const LaunchSpec& spec, std::size_t launch);
  [[nodiscard]] bool write_launches(Result& result) const noexcept;
  [[nodiscard]] bool write_workspaces(Result& result) const noexcept;
  [[nodiscard]] bool write_tensor_maps(Result& result) const noexcept;

  std::shared_ptr<const KernelTemplate> kernel_;
  LaunchPlan base_;
  Values known_;
  ExpressionGraph graph_;  // empty once all is compiled
  ExpressionProgram program_;
  ExpressionProgram::Range steps_;
  std::vector<Operand> constants_;                       // by node
  std::vector<std::pair<NodeIndex, NodeIndex>> inputs_;  // of the problem's program, and here
  std::vector<NodeIndex> conditions_;                    // which must be true
  std::vector<Fixed> fixed_;
  std::vector<Extents> extents_;
  std::vector<SharedMemory> shared_memory_;
  std::vector<ArgumentValue> arguments_;
  std::vector<Workspace> workspaces_;
  std::vector<TensorMap> tensor_maps_;
  std::vector<NodeIndex> roots_;  // of all of this, while it is compiled
};

}  // namespace cudadent
