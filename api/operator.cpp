#include <cudadent/cudadent.h>

#include "runtime/launch/dispatcher.h"
#include "runtime/operators/operator_info.h"

namespace cudadent {

void Operator::launch(std::span<const Tensor> tensors, Stream stream,
                      std::span<const double> scalars) const {
  state_->dispatcher->launch(*state_, tensors, stream, scalars);
}

bool Operator::try_launch(std::span<const Tensor> tensors, Stream stream,
                          std::span<const double> scalars) const {
  return state_->dispatcher->try_launch(*state_, tensors, stream, scalars);
}

Explanation Operator::prepare(std::span<const Tensor> tensors,
                              std::span<const double> scalars) const {
  return state_->dispatcher->prepare(*state_, tensors, scalars);
}

const std::string& Operator::name() const noexcept { return state_->entry->manifest->name; }

const std::vector<std::string>& Operator::tensors() const noexcept { return state_->tensor_names; }

OperatorInfo Operator::info() const {
  return describe_operator(*state_->entry->manifest, state_->options);
}

}  // namespace cudadent
