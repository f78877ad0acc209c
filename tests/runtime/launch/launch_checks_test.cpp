#include "runtime/launch/launch_checks.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/language/manifest_operator.h"
#include "runtime/operators/template_library.h"
#include "tests/support/errors.h"

namespace cudadent {
namespace {

using namespace tests;

constexpr const char* manifest = R"manifest({
  "op": "mix",
  "tensors": {
    "x": { "shape": ["m", "n"], "strides": ["x_row", 1], "dtype": "f32" },
    "y": { "shape": ["m", "n"], "strides": ["y_row", 1], "dtype": "f32", "optional": true },
    "sum": { "shape": ["m", "n"], "strides": ["sum_row", 1], "dtype": "f32", "role": "output",
             "in_place": ["x"] },
    "norm": { "shape": ["m"], "dtype": "f32", "role": "output" } },
  "scalars": { "factor": {"default": 1, "least": 0, "most": 8},
               "kind": {"default": 0, "in_problem": true, "least": 1},
               "shift": {"default": 0} } })manifest";

alignas(16) std::array<float, 4096> memory{};

Tensor at(std::size_t offset, std::initializer_list<std::int64_t> shape, std::int64_t row = 0) {
  Tensor tensor(memory.data() + offset, DataType::f32, shape);
  if (row > 0) tensor.strides[0] = row;
  return tensor;
}

struct Checked {
  OperatorManifest op = parse_operator(manifest, "mix/op.json");
  LaunchChecks checks{op};

  bool pass(const std::vector<Tensor>& tensors, const std::vector<double>& scalars = {}) const {
    const bool passed = checks.pass(tensors, scalars);
    const auto error = error_of([&] { checks.check(op, tensors, scalars); });
    CHECK(passed == !error);
    return passed;
  }
  bool refuses(std::initializer_list<std::string_view> parts, const std::vector<Tensor>& tensors,
               const std::vector<double>& scalars = {}) const {
    return !checks.pass(tensors, scalars) &&
           fails(ErrorCode::invalid_argument, parts, [&] { checks.check(op, tensors, scalars); });
  }
};

TEST_CASE("outputs lie apart from all other tensors") {
  const Checked mix;
  const Tensor x = at(0, {4, 8}), y = at(32, {4, 8}), sum = at(64, {4, 8}), norm = at(96, {4});
  CHECK(mix.pass({x, y, sum, norm}));
  CHECK(mix.pass({x, Tensor(), sum, norm}));
  CHECK(mix.pass({x, sum, norm}));
  // Inputs may be the same.
  CHECK(mix.pass({x, x, sum, norm}));
  CHECK(mix.refuses({"mix: sum shares memory with y", "may only be x itself"}, {x, y, y, norm}));
  CHECK(mix.refuses({"norm shares memory with y", "meanwhile. Pass"}, {x, y, sum, at(60, {4})}));
  CHECK(mix.refuses({"sum shares memory with norm"}, {x, y, sum, at(95, {4})}));
  CHECK(mix.refuses({"sum shares memory with norm"}, {x, sum, at(64, {4})}));
  CHECK(mix.refuses({"norm shares memory with x"}, {x, sum, at(3, {4})}));
  // Not where one of them is empty.
  CHECK(mix.pass({at(0, {0, 8}), at(32, {0, 8}), at(32, {0, 8}), norm}));
}

TEST_CASE("an output may be an input where the manifest says so, element by element") {
  const Checked mix;
  const Tensor x = at(0, {4, 8}), y = at(32, {4, 8}), norm = at(96, {4});
  CHECK(mix.pass({x, y, x, norm}));
  CHECK(mix.pass({x, x, norm}));
  CHECK(mix.refuses({"sum shares memory with x", "with the same strides"},
                    {x, y, at(1, {4, 8}), norm}));
  CHECK(mix.refuses({"sum shares memory with x"}, {x, y, at(0, {4, 8}, 12), norm}));
  // The other input may not be it, then.
  CHECK(mix.refuses({"sum shares memory with y"}, {x, x, x, norm}));
  CHECK(mix.refuses({"sum shares memory with y"}, {x, at(8, {4, 8}), x, norm}));
}

TEST_CASE("an output may lie between an input's rows") {
  const Checked mix;
  CHECK(mix.pass({at(0, {4, 8}, 24), at(16, {4, 8}, 24), at(8, {4, 8}, 24), at(96, {4})}));
  CHECK(mix.refuses({"sum shares memory with y"},
                    {at(0, {4, 8}, 24), at(15, {4, 8}, 24), at(8, {4, 8}, 24), at(96, {4})}));
}

TEST_CASE("numbers that arrive at launch are finite and within their limits") {
  const Checked mix;
  const std::vector<Tensor> tensors{at(0, {4, 8}), at(64, {4, 8}), at(96, {4})};
  CHECK(mix.pass(tensors, {0, 5, -3}));
  CHECK(mix.pass(tensors, {8, 5, 3e38}));
  CHECK(mix.pass(tensors, {NAN, NAN, NAN}));
  // Of the problem: looked at with it.
  CHECK(mix.pass(tensors, {1, -5, 0}));
  CHECK(mix.refuses({"mix: factor=-0.5 is out of range, expected 0 to 8"}, tensors, {-0.5, 0, 0}));
  CHECK(mix.refuses({"factor=9 is out of range"}, tensors, {9, 0, 0}));
  CHECK(mix.refuses({"shift=inf is not a finite number"}, tensors, {1, 0, INFINITY}));
  CHECK(mix.refuses({"shift=-inf is not a finite number"}, tensors, {NAN, 0, -INFINITY}));
  CHECK(mix.refuses({"shift=1e+39 is out of range"}, tensors, {1, 0, 1e39}));
}

TEST_CASE("what the built-in operators may do in place") {
  TemplateLibrary library{{}};
  const auto in_place = [&](const char* op, const char* output) {
    const OperatorManifest& described = *library.find(op)->manifest;
    return described.tensors[*described.tensor_index(output)].in_place;
  };
  using Names = std::vector<std::string>;
  CHECK(in_place("gemm", "c") == Names{"residual"});
  CHECK(in_place("rms_norm", "y") == Names{"x", "residual"});
  CHECK(in_place("rms_norm", "residual_out") == Names{"x", "residual"});
  CHECK(in_place("attention", "out") == Names{"q"});
  CHECK(in_place("attention", "lse").empty());
}

}  // namespace
}  // namespace cudadent
