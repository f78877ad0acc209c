// A problem: an operator with its shapes, data types and options.
#pragma once

#include <cudadent/cudadent.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/manifest.h"

namespace cudadent {

// values holds every dimension (integer), dtype symbol (string), option, scalar (float),
// has_<tensor> for each optional tensor (bool) and `aligned` (every tensor's base is a multiple of
// 16 bytes).
struct Problem {
  std::shared_ptr<const OperatorManifest> op;
  Values values;
  std::vector<double> scalars;  // run-time scalars in manifest order; not part of any key

  // "gemm m=4096 n=4096 k=4096 dtype=bf16": dimensions and dtypes, and what differs from defaults.
  [[nodiscard]] std::string describe() const;
  // The problem as the cache keys it exactly: canonical JSON of values.
  [[nodiscard]] std::string key() const;
  // The same with the operator's tuning-key expressions applied: problems with one key share a
  // winner.
  [[nodiscard]] std::string tuning_key() const;
  [[nodiscard]] double flops() const;  // 0 when the manifest has none
  [[nodiscard]] double bytes() const;
  // Largest ‖out − ref‖ / ‖ref‖ of an output of this type that verifies; 1e-5 when the manifest is silent.
  [[nodiscard]] double tolerance(DataType output) const;
  [[nodiscard]] std::vector<std::int64_t> shape_of(const TensorSpec& tensor) const;  // elements
  [[nodiscard]] DataType dtype_of(const TensorSpec& tensor) const;
  [[nodiscard]] bool has(const TensorSpec& tensor) const;
  // True when every output that is present has no elements: there is nothing to launch.
  [[nodiscard]] bool has_no_work() const;
};

// From names and values as a person gives them; what is left out takes its default, optional
// tensors are absent unless has_<tensor> (or bias=1 for a tensor called bias) says so. Throws
// Error(invalid_argument) for unknown names, missing dimensions, values of the wrong kind or not
// allowed, and problems the operator's `requires` rejects.
Problem make_problem(std::shared_ptr<const OperatorManifest> op, const Values& given);

// From tensors, in the order that Operator::launch takes them, and options. Throws Error(invalid_argument) for shapes
// that do not unify, wrong data types, non-contiguous tensors, missing tensors; names the tensor,
// what was given and what was expected.
Problem problem_of(std::shared_ptr<const OperatorManifest> op, std::span<const Tensor> tensors,
                   const Values& options);

// Every option of the operator: the given ones, else their defaults. Throws Error(invalid_argument)
// for unknown options and values that are not allowed.
Values complete_options(const OperatorManifest& op, const Values& given);

}  // namespace cudadent
