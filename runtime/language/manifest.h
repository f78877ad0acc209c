// Operators and kernel templates as their manifests describe them. Immutable once loaded.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/language/expression.h"

namespace cudadent {

inline constexpr std::size_t max_tensors = 16;  // of an operator
inline constexpr std::size_t max_scalars = 16;  // of an operator

// A dimension of a tensor: a symbol that unifies, a constant, or what follows from symbols.
struct DimensionSpec {
  // An extent that tells a symbol's: factor · symbol + offset, as in "batch + 1".
  struct Binding {
    std::string symbol;
    std::int64_t factor = 1, offset = 0;
  };

  std::string symbol;  // empty for the others
  std::int64_t constant = 0;
  // Of a leading dimension, written "batch?": a tensor without it is shared along it.
  bool optional = false;
  std::optional<Expression> derived = {};  // of dimensions and options; of inputs only
  std::optional<Binding> binds = {};       // of derived ones that are linear in their only name

  // As the manifest has it: "m", "batch?", "3", "ceil_div(k, 128)".
  [[nodiscard]] std::string text() const;
  // Throws Error(invalid_manifest) when an expression's value is no extent.
  [[nodiscard]] std::int64_t extent(const Values& values) const;
  // The symbol that an extent binds; empty when it binds none.
  [[nodiscard]] const std::string& bound_symbol() const noexcept {
    return binds ? binds->symbol : symbol;
  }
};
using ShapeSpec = std::vector<DimensionSpec>;
// Of each dimension the name that its stride binds, or "" where the stride is 1.
using StrideSpec = std::vector<std::string>;

// One T, or one for each value of an option, or of whether an optional tensor is there, or of several
// of these, one inside the other:
// "shape": {"layout_b": {"nk": […], "kn": {"has_bias": {"false": […], "true": […]}}}}.
template <class T>
struct Alternatives {
  struct Choice {
    Values when;  // options and has_<tensor>; empty when there is only this
    T then;
  };
  std::vector<Choice> choices;

  // `values` has every option; of tensors that it does not mention there is none. Throws
  // Error(internal) when no choice is for these values.
  [[nodiscard]] const T& at(const Values& values) const;
};

struct TensorSpec {
  std::string name;
  std::string doc;
  Alternatives<ShapeSpec> shapes;
  Alternatives<StrideSpec> strides;  // without choices: the tensor must be contiguous
  std::string dtype;                 // a dtype symbol, or a data type's name
  bool output = false;
  bool optional = false;
  bool any_alignment = false;  // `aligned` and `base_aligned` are not about it
  // Of an output: the inputs that it may be itself, element by element.
  std::vector<std::string> in_place = {};

  [[nodiscard]] const ShapeSpec& shape_for(const Values& values) const { return shapes.at(values); }
  [[nodiscard]] bool has_strides() const noexcept { return !strides.choices.empty(); }
};

struct DataTypeSpec {
  std::string symbol;
  std::vector<std::string> values;           // allowed
  std::optional<Expression> otherwise = {};  // of earlier symbols: the type when nothing says
};

struct OptionSpec {
  std::string name;
  std::vector<Value> values;  // the first is the default
};

// A number that a call gives by name. It arrives at launch as a float and is no part of the problem, or
// it is a value of the problem, as a dimension is.
struct ScalarSpec {
  std::string name;
  // Over dimensions, data types, options, which tensors are there, and earlier scalars of the problem.
  Expression otherwise;
  bool integer = false;
  bool in_problem = false;
  // What callers may give. A float has to be one in 32 bits.
  double least = std::numeric_limits<float>::lowest(), most = std::numeric_limits<float>::max();
};

// What a tuning run fills an input with: a rule and its arguments, expressions over the problem.
struct InputSpec {
  enum class Rule : std::uint8_t { normal, uniform, cumulative, permutation };
  Rule rule = Rule::normal;
  std::vector<Expression> arguments;
};

// Where the tensors of a call belong that gives fewer of them than the manifest has: outputs that are
// always written and close the manifest's list close the call's too, and what is left out are the
// optional tensors right before them. Where those are too few, it is the end of the list.
struct CallOrder {
  std::size_t tensors = 0;          // of the manifest
  std::size_t closing_outputs = 0;  // always written, at the end of the list
  std::size_t omissible = 0;        // optional ones right before those

  // The manifest's index of the i-th tensor of a call that gives `count` of them, at most all.
  [[nodiscard]] std::size_t place(std::size_t i, std::size_t count) const noexcept {
    const std::size_t left_out = tensors - count;
    return left_out <= omissible && i + closing_outputs >= count ? i + left_out : i;
  }
};

struct OperatorManifest {
  std::string name;
  std::string doc;
  std::string origin;  // the file, for messages
  std::vector<DataTypeSpec> dtypes;
  std::vector<OptionSpec> options;
  std::vector<TensorSpec> tensors;
  std::vector<ScalarSpec> scalars;
  // Symbols, in order of first appearance.
  std::vector<std::string> dimensions;
  std::vector<std::string> optional_dimensions;  // those of them that are 1 when no tensor has them
  std::vector<std::string> strides;              // names, in order of first appearance
  std::vector<Expression> requires_;
  std::vector<std::pair<std::string, Expression>>
      tuning_key;  // overrides; others stand as they are
  std::optional<Expression> flops, bytes;
  std::map<std::string, InputSpec> inputs;
  std::string reference;
  // Largest ‖out − ref‖ / ‖ref‖ that verifies, by the output's data type's name.
  std::map<std::string, Expression> tolerance;
  std::string hash;  // manifest_hash.h

  [[nodiscard]] std::optional<std::size_t> tensor_index(std::string_view name) const;
  [[nodiscard]] std::optional<std::size_t> scalar_index(std::string_view name) const;
  [[nodiscard]] std::optional<std::size_t> dtype_index(std::string_view symbol) const;
  [[nodiscard]] CallOrder call_order() const noexcept;
  [[nodiscard]] bool is_dimension(std::string_view name) const;
  [[nodiscard]] bool is_optional_dimension(std::string_view name) const;
  [[nodiscard]] bool is_stride(std::string_view name) const;
};

struct ParameterSpec {
  std::string name;
  std::vector<Value> values;
};

struct ArgumentSpec {
  std::string name;                 // tensor, tensor map, workspace, scalar — or empty:
  std::optional<Expression> value;  // an integer or float expression
  std::string type;                 // "", "i32", "i64", "f32"
};

struct LaunchSpec {
  std::string entry;
  std::optional<Expression> when;
  std::vector<Expression> grid, block, cluster;  // one to three each; cluster may be empty
  std::optional<Expression> shared_memory;       // bytes
  std::vector<ArgumentSpec> arguments;
};

// Whether a kernel finds a workspace zeroed.
enum class Zeroed : std::uint8_t {
  no,
  every_launch,  // before each, by the device's copy engine
  kept,          // once; every launch leaves it as it found it
};

struct WorkspaceSpec {
  std::string name;
  Expression bytes;
  Zeroed zeroed = Zeroed::no;
  std::optional<Expression> when;
};

struct TensorMapSpec {
  std::string name;
  std::optional<Expression> when;          // absent: always
  Expression tensor;                       // the name of the tensor or workspace it describes
  std::vector<Expression> dimensions;      // elements, innermost first
  std::vector<Expression> strides;         // bytes, of all but the innermost; empty: packed
  std::vector<Expression> box;             // elements, innermost first
  std::optional<Expression> swizzle;       // bytes: 0, 32, 64, 128
  std::optional<Expression> l2_promotion;  // bytes: 0, 64, 128, 256
  std::string dtype;                       // empty: the tensor's
};

// The seconds that a configuration is predicted to take. No part of any hash, nor of a source.
struct PriorSpec {
  std::vector<std::pair<std::string, Expression>> let;  // its own, on top of the template's
  Expression seconds;
};

struct KernelTemplate {
  std::string name;
  std::string op;
  std::string backend;  // "cuda", "host"
  std::string doc;
  std::string origin;  // the manifest's file, for messages
  std::vector<Expression> requires_;
  std::vector<std::string> compile_time;  // problem values, and names of `let`
  std::vector<ParameterSpec> parameters;
  std::map<std::string, Expression> defaults;
  std::vector<std::string> default_order;  // as written: a later default may use an earlier one
  std::vector<std::pair<std::string, Expression>> let;
  std::vector<Expression> constraints;
  std::optional<PriorSpec> prior;
  std::vector<TensorMapSpec> tensor_maps;
  std::vector<WorkspaceSpec> workspaces;
  std::vector<LaunchSpec> launches;
  std::vector<std::string> compile_options;
  std::string source_file;    // beside the manifest
  std::string source;         // with shared includes expanded; the prelude goes in front of `body`
  std::string shared_source;  // types, always first
  std::string hash;           // of source, shared source and manifests, see manifest_hash.h

  // Null when there is none of this name.
  [[nodiscard]] const ParameterSpec* parameter(std::string_view name) const;
  [[nodiscard]] std::optional<std::size_t> workspace_index(std::string_view name) const;
};

// `text` is the manifest's JSON; `origin` names it in errors. Throws Error(invalid_manifest) that
// names file, field and reason.
OperatorManifest parse_operator(std::string_view text, const std::string& origin);
// Without source and shared_source, and their part of the hash: the template library adds them.
KernelTemplate parse_template(std::string_view text, const std::string& origin,
                              const OperatorManifest& op);

}  // namespace cudadent
