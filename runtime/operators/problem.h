// A problem: an operator with its shapes, data types and options.
#pragma once

#include <cudadent/cudadent.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/language/manifest.h"

namespace cudadent {

// values holds
// - every dimension and stride (integers). A dimension that no tensor present has in its shape is 0,
//   an optional leading one that none of them brings is 1. A stride that is never stepped over, since
//   its dimension has one element or the tensor none, is what it would be in a packed tensor; one of
//   an absent tensor is 0;
// - every dtype symbol (string) and option, and has_<tensor> for each optional tensor (bool);
// - every scalar that is in the problem (an integer or a float);
// - `base_aligned`: every tensor starts at a multiple of 16 bytes;
// - `aligned`: base_aligned, and so does every row of each tensor that has strides: those strides that
//   are stepped over are multiples of 16 bytes (0 is one), and of the last dimension 1.
struct Problem {
  std::shared_ptr<const OperatorManifest> op;
  Values values;
  // In manifest order. Only those in `values` are part of a key.
  std::vector<double> scalars;

  // "gemm m=4096 n=4096 k=4096 dtype=bf16": dimensions and dtypes, and what differs from defaults.
  [[nodiscard]] std::string describe() const;
  // The problem as the cache keys it exactly: canonical JSON of values, without dimensions that no
  // tensor has, optional leading dimensions of 1, packed strides, scalars that are as by default, and
  // base_aligned where it follows from aligned. make_problem() reads it back.
  [[nodiscard]] std::string key() const;
  // The same without strides, and with the operator's tuning-key expressions applied: problems with
  // one key share a winner.
  [[nodiscard]] std::string tuning_key() const;
  // The problem that is tuned for all of this one's key: the one whose values are what the tuning-key
  // expressions make of them, for buckets that round up the largest, so that no other has more work than
  // the winner was found for. This problem itself where there is no such problem with the same key, and
  // where it would move much more memory: more than 2 GiB and 1.5 times as much.
  [[nodiscard]] Problem representative() const;
  [[nodiscard]] double flops() const;  // 0 when the manifest has none
  [[nodiscard]] double bytes() const;
  // Largest ‖out − ref‖ / ‖ref‖ of an output of this type that verifies; 1e-5 when the manifest is silent.
  [[nodiscard]] double tolerance(DataType output) const;
  // In elements, outermost first, of full rank also where an optional leading dimension is missing.
  [[nodiscard]] std::vector<std::int64_t> shape_of(const TensorSpec& tensor) const;
  [[nodiscard]] std::vector<std::int64_t> strides_of(const TensorSpec& tensor) const;
  [[nodiscard]] DataType dtype_of(const TensorSpec& tensor) const;
  [[nodiscard]] bool has(const TensorSpec& tensor) const;
  // True when every output that is present has no elements: there is nothing to launch.
  [[nodiscard]] bool has_no_work() const;
};

// From names and values as a person gives them; what is left out takes its default, optional
// tensors are absent unless has_<tensor> (or bias=1 for a tensor called bias) says so. Optional leading
// dimensions are 1 and strides packed unless given. `aligned` says whether the tensors' bases are, as
// does base_aligned where strides alone make a problem unaligned. Throws Error(invalid_argument) for
// unknown names, missing dimensions, values of the wrong kind or not allowed, strides that outputs
// cannot have, and problems the operator's `requires` rejects.
Problem make_problem(std::shared_ptr<const OperatorManifest> op, const Values& given);

// From tensors and scalars, in the order that Operator::launch takes them, and options. No scalars, and
// a NaN among them, stand for defaults. Throws Error(invalid_argument) for shapes that do not unify, wrong
// data types, strides that the manifest does not allow, outputs whose elements overlap, missing tensors;
// names the tensor, what was given and what was expected.
Problem problem_of(std::shared_ptr<const OperatorManifest> op, std::span<const Tensor> tensors,
                   const Values& options, std::span<const double> scalars = {});

// Throws Error(invalid_argument) for a number that the scalar cannot be: one that is not finite, beyond its
// limits, or no integer where it is one.
void check_scalar(const OperatorManifest& op, const ScalarSpec& scalar, double number);

// What the scalars of such a problem are when nobody gives them, in manifest order.
std::vector<double> default_scalars(const Problem& problem);

// Every option of the operator: the given ones, else their defaults. Throws Error(invalid_argument)
// for unknown options and values that are not allowed.
Values complete_options(const OperatorManifest& op, const Values& given);

// What an operator's calls have in common.
struct Bound {
  Values options;               // complete
  std::vector<double> scalars;  // in manifest order; NaN for those that are not bound
};
// From options and scalars by name. Throws Error(invalid_argument) for other names, and for values that
// are not allowed or no numbers, a NaN being none.
Bound bind_values(const OperatorManifest& op, const Values& given);

}  // namespace cudadent
