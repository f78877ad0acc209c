// What a cudadent.Operator knows: what keywords may name, and the runtimes' operators it is bound to.
#pragma once

#include <cudadent/cudadent.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/session.h"
#include "runtime/language/expression.h"
#include "runtime/language/manifest.h"
#include "runtime/operators/operator_info.h"

namespace cudadent::python {

inline constexpr std::size_t max_dtypes = 16;

// What a keyword may name.
struct Parameter {
  // wanted: return_lse=True makes the optional output lse.
  enum class Kind : std::uint8_t { tensor, wanted, option, scalar, dtype, stream };
  pybind11::object name;  // interned, so that comparing addresses nearly always suffices
  Kind kind = Kind::stream;
  std::size_t index = 0;  // in the operator's tensors, options, …
};

struct Option {
  std::vector<pybind11::object> values;
  std::size_t bound = 0;     // index of the value when a call does not say
  std::uint64_t weight = 1;  // of the index in the number of a combination of options
};

inline constexpr std::size_t no_symbol = SIZE_MAX;

// An extent: factor · a symbol's + offset, or the offset alone; below 0 where neither tells.
struct PlannedDimension {
  std::size_t symbol = no_symbol;
  std::int64_t factor = 0, offset = -1;
};

// How to make an output that a call leaves out, and what the tensors given tell of its shape.
struct OutputPlan {
  std::vector<PlannedDimension> dimensions;
  bool first_is_optional = false;  // a tensor may lack the first dimension
  std::optional<std::size_t> dtype_symbol;
  DataType dtype = DataType::f32;  // when there is no symbol
};

// An operator of one runtime with every option decided, and which of the tensors that shapes depend on
// are there.
struct Binding {
  std::shared_ptr<Session> session;
  std::int32_t device = host_memory;
  std::uint64_t combination = 0;
  std::uint32_t presence = 0;
  Operator op;
  Values decided;                 // options, and has_<tensor> of those tensors
  std::vector<OutputPlan> plans;  // of all tensors
  std::size_t symbol_count = 0;   // of dimensions
};

// What the Python object stands for.
struct Core {
  std::shared_ptr<Session> session;  // null: the default runtimes
  std::string name;
  std::shared_ptr<const OperatorManifest> manifest;
  OperatorInfo info;
  std::vector<Parameter> parameters;
  std::vector<Option> options;
  std::vector<std::optional<Expression>> dtype_defaults;  // of info.dtypes
  std::uint64_t combination = 0;                          // of the bound options
  std::vector<double> scalars;                            // bound or by default; NaN: a formula
  bool has_scalars = false;                               // some are bound
  std::vector<std::size_t> deciders;                      // tensors whose presence shapes depend on
  std::optional<std::size_t> sole_output;
  pybind11::object doc;
  std::uint64_t generation = 0;  // of the default runtimes that bindings belong to
  std::vector<std::shared_ptr<const Binding>> bindings;
};

// An operator with options bound. Without a session it is for the default runtimes. Throws Error:
// invalid_argument, invalid_manifest.
std::unique_ptr<Core> make_core(std::shared_ptr<Session> session, const std::string& name,
                                const Values& given);

// The operator for a combination of options and those of the deciding tensors that are there, a bit each:
// made when it is first asked for. Without a session `device` says whose default runtime.
std::shared_ptr<const Binding> find_binding(Core& core, std::int32_t device,
                                            std::uint64_t combination, std::uint32_t presence);

}  // namespace cudadent::python
