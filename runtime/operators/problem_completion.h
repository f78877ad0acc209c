// What problems are completed with, however they are given: for the files of problem.h.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/operators/problem.h"

namespace cudadent {

// Throws Error(invalid_argument) that begins with the operator's name.
[[noreturn]] void reject(const OperatorManifest& op, const std::string& reason);
std::string shape_text(std::span<const std::int64_t> shape);  // "[2, 3]"

// Words are refused: "no" would count as true.
bool flag_of(const OperatorManifest& op, const std::string& name, const Value& value);

// A dtype symbol's value when nothing gives it; nothing when it has no default. `values` holds the
// symbols before it.
std::optional<std::string> default_dtype(const OperatorManifest& op, const DataTypeSpec& spec,
                                         const Values& values);

// The dimensions in the shapes of the tensors that are there.
std::set<std::string> bound_dimensions(const Problem& problem);
// Gives the dimensions that nothing bound their values.
void complete_dimensions(Problem& problem);
// Binds the names of strides to what is given by name, else as if the tensor were packed.
void complete_strides(Problem& problem, const Values& given);
bool rows_are_aligned(const Problem& problem);

// In manifest order; NaN for those that are not given.
std::vector<double> scalars_by_name(const OperatorManifest& op, const Values& given);
// Gives the scalars their values; where `given` has none, or a NaN, it is the default.
void take_scalars(Problem& problem, std::span<const double> given);
// `aligned` is about bases. Where rows are not aligned it is false whatever they are, and base_aligned
// says it.
void take_alignment(Problem& problem, const Values& given);
// The operator's own requirements, once all else is there.
void check_requires(const Problem& problem);

}  // namespace cudadent
