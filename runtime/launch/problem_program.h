// What problem_of() finds out about tensors, compiled for calls that differ in extents, strides, addresses and
// scalars only: numbers in, numbers out, without text and without allocating.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/language/expression_graph.h"
#include "runtime/operators/problem.h"

namespace cudadent {

// Which tensors a call has, with what data types and how many dimensions: a word for each in the order of the
// call, −1 for one that is left out.
std::int64_t signature_word(const Tensor& tensor) noexcept;

// The integer that a number is, as as_integer() has it; nothing where it is none.
std::optional<std::int64_t> whole_number(const Operand& operand) noexcept;

class ProblemProgram {
 public:
  using NodeIndex = ExpressionGraph::NodeIndex;

  // `problem` is that of some call of the kind, with these tensors, which is what tells the kind; `bound` are the
  // operator's scalars as bound, NaN for those that are not.
  ProblemProgram(const Problem& problem, std::span<const Tensor> tensors,
                 std::span<const double> bound);
  ProblemProgram(const ProblemProgram&) = delete;
  ProblemProgram& operator=(const ProblemProgram&) = delete;

  // What a call's evaluation leaves behind.
  struct Result {
    bool rows_aligned =
        true;  // wherever tensors start: a tuning key may tell where `aligned` does not
    std::vector<Operand> values;                // by node
    std::array<double, max_scalars> scalars{};  // in manifest order, complete
    std::vector<std::int64_t> key;  // of the bucket: equal only for problems of one tuning key
    std::uint64_t hash = 0;         // of the key
    std::array<const Tensor*, max_tensors> tensors{};  // in manifest order
  };
  [[nodiscard]] Result make_result() const;

  // Whether a call is of this kind.
  [[nodiscard]] bool is_for(std::span<const Tensor> tensors) const noexcept;

  enum class Outcome : std::uint8_t {
    regular,
    no_work,    // every output is empty
    irregular,  // something that problem_of() refuses, or that does not fit these numbers
  };
  // Of a call that is_for() is true of, whose scalars are none or all (NaN: not given), and whose tensors without
  // strides in the manifest are packed.
  Outcome evaluate(std::span<const Tensor> tensors, std::span<const double> scalars,
                   Result& result) const noexcept;

  // A value of the problem that differs between calls, where the bucket's key does not say it exactly.
  struct Variable {
    std::string name;
    NodeIndex node = 0;
  };
  [[nodiscard]] const std::vector<Variable>& variables() const noexcept { return variables_; }
  // All values of the problem that are no variables are the same for all of a bucket.
  [[nodiscard]] bool is_variable(std::string_view name) const noexcept;

 private:
  // How one extent is read.
  struct Extent {
    enum class Rule : std::uint8_t {
      binds,    // factor · value + offset: the first that says the value
      repeats,  // the value must be as another has said
      constant,
      derived,  // as an expression says
    };
    Rule rule = Rule::constant;
    NodeIndex node = 0;  // of the value, or of the expression
    std::int64_t factor = 1, offset = 0;
    std::int64_t constant = 0;
  };
  struct TensorProgram {
    std::size_t place = 0;  // in the manifest
    bool any_alignment = false, output = false, has_strides = false;
    std::size_t missing = 0;  // leading dimensions that it lacks
    std::int64_t element_size = 0;
    std::vector<Extent> extents;                    // of its own dimensions
    std::optional<NodeIndex> missing_extent;        // of the dimension that it lacks
    std::vector<std::optional<NodeIndex>> strides;  // of all dimensions; nothing where it is 1
  };
  struct ScalarProgram {
    NodeIndex otherwise = 0;
    ExpressionProgram::Range default_steps;
    double bound = 0;  // NaN: not bound
    bool integer = false, in_problem = false;
    double least = 0, most = 0;
    NodeIndex node = 0;              // of one in the problem
    std::optional<NodeIndex> tuned;  // what the tuning key has in its place
  };

  NodeIndex add_variable(const std::string& name);
  TensorProgram compile_tensor(const Problem& problem, std::size_t place, const Tensor& tensor);
  Extent compile_extent(const DimensionSpec& dimension);
  void compile_derived(const Problem& problem);
  void compile_scalars(std::span<const double> bound);
  void compile_rest();
  [[nodiscard]] bool read_extents(Result& result) const noexcept;
  [[nodiscard]] bool read_scalars(std::span<const double> given, Result& result) const noexcept;
  [[nodiscard]] bool read_layouts(Result& result, bool& no_work) const noexcept;
  [[nodiscard]] bool write_key(Result& result) const noexcept;

  std::shared_ptr<const OperatorManifest> op_;
  Values known_;  // the problem's data types, options, and which tensors there are
  std::vector<std::int64_t> signature_;
  CallOrder order_;
  ExpressionGraph graph_;  // empty once all is compiled
  ExpressionProgram program_;
  std::vector<Operand> constants_;  // by node
  ExpressionProgram::Range derived_steps_, last_steps_;
  std::vector<TensorProgram> tensors_;  // that are there, in manifest order
  std::vector<ScalarProgram> scalars_;
  std::vector<NodeIndex> requires_;
  std::vector<NodeIndex> key_;  // whose operands are in it, beside scalars and alignment
  NodeIndex aligned_ = 0, base_aligned_ = 0;
  std::vector<Variable> variables_;
};

}  // namespace cudadent
