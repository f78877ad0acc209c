#include "runtime/operators/problem.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/language/value.h"
#include "tests/support/errors.h"

namespace cudadent {
namespace {

using tests::fails;

const auto op = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
  "op": "gemm",
  "dtypes": {
    "dtype": { "values": ["bf16", "f32"] },
    "out_dtype": { "values": ["bf16", "f32"], "default": "dtype" } },
  "options": { "layout_b": ["nk", "kn"], "fast": [false, true] },
  "tensors": {
    "a": { "shape": ["m", "k"], "dtype": "dtype" },
    "b": { "shape": {"layout_b": {"nk": ["n", "k"], "kn": ["k", "n"]}}, "dtype": "dtype" },
    "bias": { "shape": ["n"], "dtype": "f32", "optional": true },
    "scale": { "shape": [2], "dtype": "f32", "optional": true },
    "c": { "shape": ["m", "n"], "dtype": "out_dtype", "role": "output" } },
  "scalars": { "alpha": {"default": 1.5} },
  "requires": ["k % 2 == 0 or not fast"],
  "tuning_key": { "m": "pow2_ceil(m)" },
  "flops": "2*m*n*k",
  "bytes": "m*k*size(dtype)" })manifest",
                                                                        "op.json"));

Values values(Values more = {}) {
  more.insert({{"m", std::int64_t{5}},
               {"n", std::int64_t{3}},
               {"k", std::int64_t{4}},
               {"dtype", std::string("f32")}});
  return more;
}

bool refused(std::initializer_list<std::string_view> parts, const Values& given) {
  return fails(ErrorCode::invalid_argument, parts, [&] { make_problem(op, given); });
}

alignas(16) std::array<float, 64> memory{};

// a [5, 4], b [3, 4], no bias, no scale, c [5, 3].
std::vector<Tensor> tensors() {
  return {Tensor(memory.data(), DataType::f32, {5, 4}),
          Tensor(memory.data(), DataType::f32, {3, 4}), Tensor(), Tensor(),
          Tensor(memory.data(), DataType::f32, {5, 3})};
}

bool refused(std::initializer_list<std::string_view> parts, const std::vector<Tensor>& given,
             const Values& options = {}) {
  return fails(ErrorCode::invalid_argument, parts, [&] { problem_of(op, given, options); });
}

TEST_CASE("a problem from names and values") {
  const Problem problem = make_problem(op, values({{"bias", true}, {"alpha", std::int64_t{2}}}));
  CHECK(problem.describe() == "gemm m=5 k=4 n=3 dtype=f32 bias=true alpha=2");
  CHECK(problem.values.at("out_dtype") == Value(std::string("f32")));
  CHECK(problem.values.at("layout_b") == Value(std::string("nk")));
  CHECK(problem.values.at("has_bias") == Value(true));
  CHECK(problem.values.at("has_scale") == Value(false));
  CHECK(problem.values.at("aligned") == Value(true));
  CHECK(problem.scalars == std::vector<double>{2.0});
  CHECK(problem.flops() == 120);
  CHECK(problem.bytes() == 80);
  CHECK(problem.shape_of(op->tensors[1]) == std::vector<std::int64_t>{3, 4});
  CHECK(problem.dtype_of(op->tensors[4]) == DataType::f32);
  CHECK(problem.has(op->tensors[2]));
  CHECK(!problem.has(op->tensors[3]));
  CHECK(!problem.has_no_work());
}

TEST_CASE("descriptions name what differs from the defaults") {
  CHECK(make_problem(op, values({{"layout_b", std::string("kn")},
                                 {"aligned", false},
                                 {"out_dtype", std::string("bf16")},
                                 {"has_scale", true}}))
            .describe() ==
        "gemm m=5 k=4 n=3 dtype=f32 out_dtype=bf16 layout_b=kn scale=true aligned=false");
}

// Rows of many sequences one behind the other; `window` is part of the problem, `scale` is not.
const auto packed = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
  "op": "packed",
  "tensors": {
    "x": { "shape": { "has_starts": { "true": ["rows", "columns"],
                                      "false": ["batch", "length", "columns"] } }, "dtype": "f32" },
    "starts": { "shape": ["batch + 1"], "dtype": "i32", "optional": true },
    "y": { "shape": ["batch", "columns"], "dtype": "f32", "role": "output" } },
  "scalars": {
    "scale": { "default": "1 / columns**0.5" },
    "window": { "default": -1, "dtype": "i32", "in_problem": true },
    "longest": { "default": "2*ceil_div(rows, max(1, batch))", "dtype": "i32", "in_problem": true },
    "cap": { "default": 0, "in_problem": true } },
  "tuning_key": { "window": "pow2_ceil(window) if window > 0 else -1", "rows": "pow2_ceil(rows)" },
  "requires": ["window != 0"],
  "flops": "rows*columns*abs(window)" })manifest",
                                                                            "op.json"));

Values packed_values(Values more = {}) {
  more.insert({{"rows", std::int64_t{20}},
               {"batch", std::int64_t{3}},
               {"columns", std::int64_t{4}},
               {"starts", true}});
  return more;
}

TEST_CASE("scalars of the problem are values like dimensions") {
  const Problem silent = make_problem(packed, packed_values());
  CHECK(silent.values.at("window") == Value(std::int64_t{-1}));
  CHECK(silent.values.at("longest") == Value(std::int64_t{14}));
  CHECK(silent.values.at("cap") == Value(0.0));
  CHECK(!silent.values.contains("scale"));
  CHECK(silent.scalars == std::vector<double>{0.5, -1, 14, 0});
  CHECK(silent.describe() == "packed rows=20 columns=4 batch=3 starts=true");

  const Values given{{"window", std::int64_t{9}}, {"cap", 2.5}, {"scale", 2.0}};
  const Problem near = make_problem(packed, packed_values(given));
  CHECK(near.flops() == 20 * 4 * 9);
  CHECK(near.describe() == "packed rows=20 columns=4 batch=3 starts=true scale=2 window=9 cap=2.5");
  CHECK(near.key() != silent.key());
  CHECK(near.tuning_key() ==
        make_problem(packed, packed_values({{"window", std::int64_t{16}}, {"cap", 2.5}}))
            .tuning_key());
  CHECK(near.representative().values.at("window") == Value(std::int64_t{16}));
  CHECK(near.representative().scalars == std::vector<double>{2, 16, 22, 2.5});
  CHECK(make_problem(packed, values_from_json(nlohmann::json::parse(near.key()))).key() ==
        near.key());
  // What is said as it would be anyhow makes no difference.
  CHECK(make_problem(packed, packed_values({{"window", std::int64_t{-1}}})).key() == silent.key());

  CHECK(fails(ErrorCode::invalid_argument, {"packed", "window=2.5 is not an integer"},
              [] { make_problem(packed, packed_values({{"window", 2.5}})); }));
  CHECK(fails(ErrorCode::invalid_argument, {"packed", "cap=inf is not a finite number"},
              [] { make_problem(packed, packed_values({{"cap", HUGE_VAL}})); }));
  CHECK(fails(ErrorCode::invalid_argument, {"packed", "window=0", "'window != 0'"},
              [] { make_problem(packed, packed_values({{"window", std::int64_t{0}}})); }));
}

TEST_CASE("shapes by presence, and dimensions bound by what is linear in them") {
  const Tensor x(memory.data(), DataType::f32, {6, 4}), y(memory.data(), DataType::f32, {3, 4});
  const Tensor starts(memory.data(), DataType::i32, {4});
  const std::vector<Tensor> given{x, starts, y};
  const Problem problem = problem_of(packed, given, {});
  CHECK(problem.values.at("batch") == Value(std::int64_t{3}));
  CHECK(problem.values.at("rows") == Value(std::int64_t{6}));
  CHECK(problem.values.at("length") == Value(std::int64_t{0}));
  CHECK(problem.shape_of(packed->tensors[1]) == std::vector<std::int64_t>{4});
  const std::vector<Tensor> equal{Tensor(memory.data(), DataType::f32, {3, 2, 4}), Tensor(), y};
  CHECK(problem_of(packed, equal, {}).values.at("length") == Value(std::int64_t{2}));

  const std::array<double, 4> scalars{NAN, 5, NAN, NAN};
  CHECK(problem_of(packed, given, {}, scalars).values.at("window") == Value(std::int64_t{5}));
  CHECK(problem_of(packed, given, {}, scalars).scalars == std::vector<double>{0.5, 5, 4, 0});

  const auto refuses = [&](std::initializer_list<std::string_view> parts, const Tensor& other) {
    const std::vector<Tensor> all{x, other, y};
    return fails(ErrorCode::invalid_argument, parts, [&] { problem_of(packed, all, {}); });
  };
  CHECK(refuses({"starts has shape [0]", "batch + 1 cannot be 0"},
                Tensor(memory.data(), DataType::i32, {0})));
  CHECK(refuses({"y has shape [3, 4]", "batch = 4 from starts [5]"},
                Tensor(memory.data(), DataType::i32, {5})));
}

TEST_CASE("options and scalars of an operator are bound by name") {
  const Bound bound = bind_values(*packed, {{"window", std::int64_t{7}}});
  CHECK(bound.scalars[1] == 7);
  CHECK(std::isnan(bound.scalars[0]));
  CHECK(fails(ErrorCode::invalid_argument, {"unknown option \"rows\"", "window"},
              [] { bind_values(*packed, {{"rows", std::int64_t{7}}}); }));
}

TEST_CASE("a number that a scalar cannot be is refused, not taken for the default") {
  for (const double number : {double{NAN}, double{INFINITY}, -double{INFINITY}, 1e39}) {
    CAPTURE(number);
    CHECK(fails(ErrorCode::invalid_argument, {"alpha="},
                [&] { make_problem(op, values({{"alpha", number}})); }));
    CHECK(fails(ErrorCode::invalid_argument, {"alpha="},
                [&] { bind_values(*op, {{"alpha", number}}); }));
    CHECK(fails(ErrorCode::invalid_argument, {"window="},
                [&] { bind_values(*packed, {{"window", number}}); }));
  }
  CHECK(fails(ErrorCode::invalid_argument, {"window=2.5 is not an integer"},
              [] { bind_values(*packed, {{"window", 2.5}}); }));
  CHECK(make_problem(op, values({{"alpha", 3e38}})).scalars[0] == 3e38);
}

TEST_CASE("keys tell problems apart, tuning keys tell those apart that share no winner") {
  const Problem five = make_problem(op, values());
  const Problem six = make_problem(op, values({{"m", std::int64_t{6}}}));
  const Problem nine = make_problem(op, values({{"m", std::int64_t{9}}}));
  const Problem louder = make_problem(op, values({{"alpha", 3.0}}));
  CHECK(five.key() != six.key());
  CHECK(five.tuning_key() == six.tuning_key());
  CHECK(five.tuning_key() != nine.tuning_key());
  CHECK(five.key() == louder.key());  // run-time scalars are no part of a problem
  CHECK(five.key() != make_problem(op, values({{"aligned", false}})).key());
  CHECK(five.key() != make_problem(op, values({{"bias", true}})).key());
}

TEST_CASE("what is tuned for a key: what its expressions make of the problem") {
  const Problem six = make_problem(op, values({{"m", std::int64_t{6}}}));
  CHECK(six.representative().values.at("m") == Value(std::int64_t{8}));
  CHECK(six.representative().tuning_key() == six.tuning_key());
  CHECK(six.representative().representative().key() == six.representative().key());
  // Unaligned stays unaligned, run-time scalars stay what they are.
  const Problem other = make_problem(op, values({{"m", std::int64_t{6}}, {"aligned", false}}));
  CHECK(other.representative().tuning_key() == other.tuning_key());
  CHECK(other.representative().scalars == other.scalars);
  // Twice the memory is too much, where it is much.
  const Problem large = make_problem(op, values({{"m", std::int64_t{1'100'000'000}}}));
  CHECK(large.representative().key() == large.key());
}

TEST_CASE("a number is a number, however it is written") {
  CHECK(make_problem(op, values({{"m", 5.0}})).key() == make_problem(op, values()).key());
  CHECK(make_problem(op, values({{"bias", std::int64_t{1}}})).key() ==
        make_problem(op, values({{"has_bias", true}})).key());
}

TEST_CASE("names and values that do not fit") {
  CHECK(refused({"gemm", "unknown name \"q\"", "known:", "alpha", "bias"}, values({{"q", true}})));
  CHECK(refused({"\"has_a\""}, values({{"has_a", true}})));
  CHECK(refused({"dimension m is missing", "m=…"}, {{"n", std::int64_t{1}}}));
  CHECK(refused({"m is 2.5, expected an integer"}, values({{"m", 2.5}})));
  CHECK(refused({"m is 'five'"}, values({{"m", std::string("five")}})));
  CHECK(refused({"m=-1 is negative"}, values({{"m", std::int64_t{-1}}})));
  CHECK(refused({"dtype=f16 is not supported", "bf16, f32"},
                values({{"dtype", std::string("f16")}})));
  CHECK(refused({"dtype=5"}, values({{"dtype", std::int64_t{5}}})));
  CHECK(
      refused({"layout_b=nn is not allowed", "nk, kn"}, values({{"layout_b", std::string("nn")}})));
  CHECK(refused({"alpha is 'x'"}, values({{"alpha", std::string("x")}})));
  CHECK(refused({"bias=no is neither true nor false"}, values({{"bias", std::string("no")}})));
  CHECK(refused({"aligned=no"}, values({{"aligned", std::string("no")}})));
  CHECK(refused({"k=3", "requirement 'k % 2 == 0 or not fast'"},
                values({{"k", std::int64_t{3}}, {"fast", true}})));
  Values untyped = values();
  untyped.erase("dtype");
  CHECK(refused({"dtype is missing", "bf16, f32"}, untyped));
}

TEST_CASE("options are completed and checked") {
  CHECK(complete_options(*op, {}) == Values{{"layout_b", std::string("nk")}, {"fast", false}});
  CHECK(fails(ErrorCode::invalid_argument, {"unknown option \"colour\"", "layout_b, fast"},
              [] { complete_options(*op, {{"colour", true}}); }));
  CHECK(fails(ErrorCode::invalid_argument, {"fast=maybe is not allowed", "false, true"},
              [] { complete_options(*op, {{"fast", std::string("maybe")}}); }));
}

TEST_CASE("tensors make the problem that names and values make") {
  CHECK(problem_of(op, tensors(), {}).key() == make_problem(op, values()).key());
  auto all = tensors();
  all[1] = Tensor(memory.data(), DataType::f32, {4, 3});
  all[2] = Tensor(memory.data(), DataType::f32, {3});
  all[3] = Tensor(memory.data(), DataType::f32, {2});
  all[4] = Tensor(memory.data(), DataType::bf16, {5, 3});
  CHECK(problem_of(op, all, {{"layout_b", std::string("kn")}}).describe() ==
        make_problem(op, values({{"layout_b", std::string("kn")},
                                 {"bias", true},
                                 {"scale", true},
                                 {"out_dtype", std::string("bf16")}}))
            .describe());
}

TEST_CASE("a call may end with its outputs and leave out what is optional before them") {
  const auto all = tensors();
  CHECK(problem_of(op, std::vector{all[0], all[1], all[4]}, {}).key() ==
        problem_of(op, all, {}).key());
  const Tensor bias(memory.data(), DataType::f32, {3});
  CHECK(problem_of(op, std::vector{all[0], all[1], bias, all[4]}, {}).describe() ==
        make_problem(op, values({{"bias", true}})).describe());
}

TEST_CASE("one tensor off a 16-byte boundary makes a problem unaligned") {
  auto given = tensors();
  given[1].data = memory.data() + 1;
  CHECK(problem_of(op, given, {}).values.at("aligned") == Value(false));
}

TEST_CASE("tensors that do not fit") {
  auto given = tensors();
  SUBCASE("shapes") {
    given[1] = Tensor(memory.data(), DataType::f32, {3, 5});
    CHECK(refused({"b has shape [3, 5], expected [n, k] with k = 4 from a [5, 4]"}, given));
  }
  SUBCASE("rank") {
    given[0] = Tensor(memory.data(), DataType::f32, {5});
    CHECK(refused({"a has shape [5], expected [m, k]"}, given));
  }
  SUBCASE("constant extents") {
    given[3] = Tensor(memory.data(), DataType::f32, {3});
    CHECK(refused({"scale has shape [3], expected [2]"}, given));
  }
  SUBCASE("data types") {
    given[0].dtype = DataType::f16;
    CHECK(refused({"a is f16, expected one of bf16, f32"}, given));
  }
  SUBCASE("data types that should be equal") {
    given[1].dtype = DataType::bf16;
    CHECK(refused({"b is bf16, but dtype is f32 in a"}, given));
  }
  SUBCASE("data types without a symbol") {
    given[2] = Tensor(memory.data(), DataType::bf16, {3});
    CHECK(refused({"bias is bf16, expected f32"}, given));
  }
  SUBCASE("strides") {
    given[0].strides = {1, 5};
    CHECK(refused({"a is not contiguous", "[5, 4]", "[1, 5]", "contiguous copy"}, given));
  }
  SUBCASE("missing ones") {
    given[1] = Tensor();
    CHECK(refused({"tensor b is missing"}, given));
    CHECK(refused({"tensor a is missing"}, std::vector<Tensor>{}));
    given = tensors();
    given.pop_back();
    CHECK(refused({"tensor c is missing"}, given));
  }
  SUBCASE("too many") {
    given.emplace_back();
    CHECK(refused({"6 tensors given, expected at most 5"}, given));
  }
  SUBCASE("devices") {
    given[4].device = 1;
    CHECK(refused({"c is on device 1, the other tensors on"}, given));
  }
  SUBCASE("what the operator requires") {
    given[0] = Tensor(memory.data(), DataType::f32, {5, 3});
    given[1] = Tensor(memory.data(), DataType::f32, {3, 3});
    CHECK(refused({"k=3", "requirement"}, given, {{"fast", true}}));
  }
}

TEST_CASE("strides of extents that are never stepped over do not matter") {
  auto given = tensors();
  given[0] = Tensor(memory.data(), DataType::f32, {1, 4});
  given[0].strides = {77, 1};
  given[4] = Tensor(memory.data(), DataType::f32, {1, 3});
  CHECK(problem_of(op, given, {}).describe() == "gemm m=1 k=4 n=3 dtype=f32");
}

TEST_CASE("problems without elements have no work") {
  CHECK(make_problem(op, values({{"m", std::int64_t{0}}})).has_no_work());
  CHECK(!make_problem(op, values({{"k", std::int64_t{0}}})).has_no_work());
}

// a and b may be shared by all of the batch, or lack it; x may be anything.
const auto strided = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
  "op": "matmul",
  "dtypes": { "dtype": { "values": ["f32"] } },
  "options": { "layout_a": ["mk", "km"] },
  "tensors": {
    "a": { "shape": {"layout_a": {"mk": ["batch?", "m", "k"], "km": ["batch?", "k", "m"]}},
           "strides": ["batch_stride_a", "row_stride_a", 1], "dtype": "dtype" },
    "b": { "shape": ["batch?", "n", "k"], "strides": ["batch_stride_b", "row_stride_b", 1],
           "dtype": "dtype" },
    "x": { "shape": ["m", "n"], "strides": ["x_rows", "x_columns"], "dtype": "dtype",
           "optional": true },
    "c": { "shape": ["batch?", "m", "n"], "strides": ["batch_stride_c", "row_stride_c", 1],
           "dtype": "dtype", "role": "output" } },
  "tuning_key": { "m": "pow2_ceil(m)", "batch": "pow2_ceil(batch)" },
  "flops": "2*batch*m*n*k" })manifest",
                                                                             "op.json"));

Problem matmul(Values given) {
  given.insert({{"m", std::int64_t{4}}, {"n", std::int64_t{8}}, {"k", std::int64_t{12}}});
  given.insert({"dtype", std::string("f32")});
  return make_problem(strided, given);
}

Tensor with_strides(Tensor tensor, std::initializer_list<std::int64_t> strides) {
  std::copy(strides.begin(), strides.end(), tensor.strides.begin());
  return tensor;
}
Tensor floats(std::initializer_list<std::int64_t> shape) {
  return {memory.data(), DataType::f32, shape};
}
// m=4, n=8, k=12
std::vector<Tensor> plain() { return {floats({4, 12}), floats({8, 12}), Tensor(), floats({4, 8})}; }
Values strides_of(const Problem& problem) {
  Values strides;
  for (const auto& name : problem.op->strides) strides[name] = problem.values.at(name);
  return strides;
}
Value number(std::int64_t value) { return value; }

TEST_CASE("strides are packed unless something is said, and then not in a key") {
  const Problem problem = matmul({});
  CHECK(problem.values.at("batch") == number(1));
  CHECK(strides_of(problem) == Values{{"batch_stride_a", number(48)},
                                      {"row_stride_a", number(12)},
                                      {"batch_stride_b", number(96)},
                                      {"row_stride_b", number(12)},
                                      {"x_rows", number(0)},  // absent
                                      {"x_columns", number(0)},
                                      {"batch_stride_c", number(32)},
                                      {"row_stride_c", number(8)}});
  CHECK(problem.describe() == "matmul m=4 k=12 n=8 dtype=f32");
  CHECK(problem.key() == R"({"aligned":true,"dtype":"f32","has_x":false,"k":12,)"
                         R"("layout_a":"mk","m":4,"n":8})");
  CHECK(problem_of(strided, plain(), {}).key() == problem.key());
  CHECK(problem.key() == matmul({{"batch", number(1)}, {"row_stride_a", number(12)}}).key());
  CHECK(problem.tuning_key() == problem.key());
}

TEST_CASE("strides that are not packed make another problem, with the same winner") {
  const Problem problem = matmul({{"batch", number(3)}, {"row_stride_c", number(12)}});
  CHECK(problem.describe() == "matmul batch=3 m=4 k=12 n=8 dtype=f32 row_stride_c=12");
  // The batch stride follows.
  CHECK(problem.values.at("batch_stride_c") == number(48));
  CHECK(problem.strides_of(strided->tensors[3]) == std::vector<std::int64_t>{48, 12, 1});
  CHECK(problem.key() != matmul({{"batch", number(3)}}).key());
  CHECK(problem.tuning_key() == matmul({{"batch", number(4)}}).tuning_key());
  CHECK(make_problem(strided, values_from_json(nlohmann::json::parse(problem.key()))).key() ==
        problem.key());
  // A tensor with such rows makes the same problem.
  std::vector<Tensor> given{floats({3, 4, 12}), floats({3, 8, 12}), Tensor(),
                            with_strides(floats({3, 4, 8}), {48, 12, 1})};
  CHECK(problem_of(strided, given, {}).key() == problem.key());
  given[3].strides = {100, 12, 1};
  CHECK(problem_of(strided, given, {}).describe() ==
        "matmul batch=3 m=4 k=12 n=8 dtype=f32 batch_stride_c=100 row_stride_c=12");
}

TEST_CASE("a tensor without the leading dimension is shared along it") {
  const std::vector<Tensor> given{floats({3, 4, 12}), floats({8, 12}), Tensor(), floats({3, 4, 8})};
  const Problem problem = problem_of(strided, given, {});
  CHECK(problem.describe() == "matmul batch=3 m=4 k=12 n=8 dtype=f32 batch_stride_b=0");
  CHECK(problem.shape_of(strided->tensors[1]) == std::vector<std::int64_t>{3, 8, 12});
  CHECK(problem.strides_of(strided->tensors[1]) == std::vector<std::int64_t>{0, 12, 1});
  CHECK(problem.key() == matmul({{"batch", number(3)}, {"batch_stride_b", number(0)}}).key());
  CHECK(problem.values.at("aligned") == Value(true));
  CHECK(problem.flops() == 2 * 3 * 4 * 8 * 12);
}

TEST_CASE("what is never stepped over makes no difference") {
  auto given = plain();
  for (Tensor& tensor : given)
    if (tensor.present())
      tensor =
          with_strides(floats({1, tensor.shape[0], tensor.shape[1]}), {-7, tensor.shape[1], 1});
  CHECK(problem_of(strided, given, {}).key() == matmul({}).key());
  const std::vector<Tensor> one_row{with_strides(floats({1, 12}), {77, 1}), floats({8, 12}),
                                    Tensor(), with_strides(floats({1, 8}), {0, 1})};
  CHECK(problem_of(strided, one_row, {}).key() == matmul({{"m", number(1)}}).key());
  const std::vector<Tensor> no_column{floats({4, 12}), with_strides(floats({0, 12}), {5, 3}),
                                      Tensor(), with_strides(floats({4, 0}), {0, 0})};
  CHECK(problem_of(strided, no_column, {}).key() == matmul({{"n", number(0)}}).key());
}

TEST_CASE("rows that start between multiples of 16 bytes are not aligned") {
  const auto aligned = [](const Problem& problem) { return is_true(problem.values.at("aligned")); };
  const auto bases = [](const Problem& problem) {
    return is_true(problem.values.at("base_aligned"));
  };
  CHECK(aligned(matmul({})));
  const Problem odd = matmul({{"k", number(13)}});
  CHECK(!aligned(odd));
  CHECK(bases(odd));
  CHECK(odd.describe() == "matmul m=4 k=13 n=8 dtype=f32");
  CHECK(make_problem(strided, values_from_json(nlohmann::json::parse(odd.key()))).key() ==
        odd.key());
  CHECK(aligned(
      matmul({{"k", number(13)}, {"row_stride_a", number(16)}, {"row_stride_b", number(20)}})));
  CHECK(!aligned(matmul({{"batch", number(2)}, {"batch_stride_a", number(49)}})));
  CHECK(aligned(matmul({{"batch_stride_a", number(49)}})));
  // Shared is as good as aligned.
  CHECK(aligned(matmul({{"batch", number(2)}, {"batch_stride_a", number(0)}})));
  // Elements that lie apart are not, whatever their rows.
  CHECK(!aligned(matmul({{"x", true}, {"x_rows", number(64)}, {"x_columns", number(4)}})));
  // What a base does is told apart from what rows do.
  const Problem shifted = matmul({{"aligned", false}});
  CHECK(!bases(shifted));
  CHECK(shifted.describe() == "matmul m=4 k=12 n=8 dtype=f32 aligned=false");
  const Problem both = matmul({{"k", number(13)}, {"base_aligned", false}});
  CHECK(both.describe() == "matmul m=4 k=13 n=8 dtype=f32 base_aligned=false");
  CHECK(both.key() != odd.key());
  CHECK(make_problem(strided, values_from_json(nlohmann::json::parse(both.key()))).key() ==
        both.key());
  auto given = plain();
  given[0].data = memory.data() + 1;
  CHECK(problem_of(strided, given, {}).key() == shifted.key());
}

// Factors for pairs of columns, read one by one.
const auto paired = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
  "op": "scale",
  "dtypes": { "dtype": { "values": ["f32"] } },
  "tensors": {
    "factors": { "shape": ["batch?", "ceil_div(n, 2)"], "strides": ["factor_batch", 1],
                 "dtype": "f32", "any_alignment": true },
    "x": { "shape": ["batch?", "n"], "strides": ["x_batch", 1], "dtype": "dtype" },
    "y": { "shape": ["batch?", "n"], "strides": ["y_batch", 1], "dtype": "dtype",
           "role": "output" } } })manifest",
                                                                            "op.json"));

TEST_CASE("dimensions that follow from others are computed and checked") {
  const Problem problem =
      make_problem(paired, {{"n", number(5)}, {"batch", number(2)}, {"dtype", std::string("f32")}});
  CHECK(problem.describe() == "scale batch=2 n=5 dtype=f32");
  CHECK(problem.shape_of(paired->tensors[0]) == std::vector<std::int64_t>{2, 3});
  CHECK(problem.values.at("factor_batch") == number(3));
  // They are checked when all tensors are known, wherever they stand.
  const std::vector<Tensor> given{floats({2, 3}), floats({2, 5}), floats({2, 5})};
  CHECK(problem_of(paired, given, {}).key() == problem.key());
  CHECK(fails(ErrorCode::invalid_argument,
              {"factors has shape [2, 2], expected [batch?, ceil_div(n, 2)]", "ceil_div(n, 2) = 3"},
              [&] { problem_of(paired, std::vector{floats({2, 2}), given[1], given[2]}, {}); }));
}

TEST_CASE("tensors of any alignment do not count for that of the problem") {
  const auto aligned = [](std::vector<Tensor> given) {
    return is_true(problem_of(paired, given, {}).values.at("aligned"));
  };
  Tensor factors = floats({2, 2});  // rows of 8 bytes
  factors.data = reinterpret_cast<float*>(memory.data()) + 1;
  CHECK(aligned({factors, floats({2, 4}), floats({2, 4})}));
  Tensor x = floats({2, 4});
  x.data = factors.data;
  CHECK(!aligned({factors, x, floats({2, 4})}));
}

TEST_CASE("strides that no tensor can have here") {
  const auto refuses = [](std::initializer_list<std::string_view> parts,
                          const std::vector<Tensor>& given) {
    return fails(ErrorCode::invalid_argument, parts, [&] { problem_of(strided, given, {}); });
  };
  auto given = plain();
  given[0] = with_strides(given[0], {-12, 1});
  CHECK(refuses({"a has a negative stride", "[4, 12]", "[-12, 1]", "expected [row_stride_a, 1]",
                 "contiguous copy"},
                given));
  given = plain();
  given[0] = with_strides(given[0], {1, 4});
  CHECK(
      refuses({"a is not contiguous in its last dimension", "[1, 4]", "[row_stride_a, 1]"}, given));
  given = plain();
  given[3] = with_strides(given[3], {7, 1});
  CHECK(refuses({"c has shape [1, 4, 8] and strides [28, 7, 1]", "share memory", "[32, 8, 1]"},
                given));
  given[3] = with_strides(given[3], {0, 1});
  CHECK(refuses({"c has shape", "share memory"}, given));
  given = plain();
  given[0] = with_strides(given[0], {0, 1});  // an input may repeat a row
  CHECK(problem_of(strided, given, {}).values.at("row_stride_a") == number(0));

  const auto refused_by_name = [](std::initializer_list<std::string_view> parts, Values named) {
    return fails(ErrorCode::invalid_argument, parts, [&] { matmul(std::move(named)); });
  };
  CHECK(refused_by_name({"row_stride_a=-1 cannot be a stride of a", "expected 0 to"},
                        {{"row_stride_a", number(-1)}}));
  CHECK(refused_by_name({"row_stride_a is 'x'"}, {{"row_stride_a", std::string("x")}}));
  CHECK(refused_by_name({"row_stride_a="}, {{"row_stride_a", number(std::int64_t{1} << 50)}}));
  CHECK(refused_by_name({"c has shape", "share memory"}, {{"row_stride_c", number(3)}}));
}

TEST_CASE("leading dimensions that do not fit") {
  const auto refuses = [](std::initializer_list<std::string_view> parts,
                          const std::vector<Tensor>& given) {
    return fails(ErrorCode::invalid_argument, parts, [&] { problem_of(strided, given, {}); });
  };
  auto given = plain();
  given[0] = floats({3, 4, 12});
  CHECK(refuses({"c has shape [4, 8], expected [batch, m, n] with batch = 3 from a [3, 4, 12]"},
                given));
  given[1] = floats({2, 8, 12});
  CHECK(refuses({"b has shape [2, 8, 12], expected [batch?, n, k] with batch = 3 from a"}, given));
  given = plain();
  given[0] = floats({12});
  CHECK(refuses({"a has shape [12], expected [batch?, m, k]"}, given));
  given[0] = floats({1, 1, 4, 12});
  CHECK(refuses({"a has shape [1, 1, 4, 12]"}, given));
}

const auto scaled = std::make_shared<const OperatorManifest>(parse_operator(R"manifest({
  "op": "scaled",
  "dtypes": {
    "dtype": { "values": ["f32", "bf16", "e4m3"] },
    "out_dtype": { "values": ["f32", "bf16"], "default": "dtype if size(dtype) > 1 else 'bf16'" } },
  "options": { "scaling": ["tensor", "block"] },
  "tensors": {
    "a": { "shape": ["m", "k"], "dtype": "dtype" },
    "scale": { "shape": {"scaling": {"tensor": [1], "block": ["m", "blocks"]}}, "dtype": "f32",
               "optional": true },
    "c": { "shape": ["m", "k"], "dtype": "out_dtype", "role": "output" } },
  "requires": ["scaling == 'tensor' or not has_scale or blocks == ceil_div(k, 4)"] })manifest",
                                                                            "op.json"));

TEST_CASE("a dimension that no tensor has is 0, and in no key") {
  const Values common{{"m", number(2)}, {"k", number(5)}, {"dtype", std::string("f32")}};
  const auto with = [&](Values more) {
    more.insert(common.begin(), common.end());
    return make_problem(scaled, more);
  };
  CHECK(with({}).values.at("blocks") == number(0));
  CHECK(with({}).describe() == "scaled m=2 k=5 dtype=f32");
  CHECK(with({{"blocks", number(7)}}).key() == with({}).key());
  const Problem absent = with({{"scaling", std::string("block")}});
  CHECK(absent.values.at("blocks") == number(0));
  const Problem block =
      with({{"scaling", std::string("block")}, {"scale", true}, {"blocks", number(2)}});
  CHECK(block.describe() == "scaled m=2 k=5 blocks=2 dtype=f32 scaling=block scale=true");
  CHECK(fails(ErrorCode::invalid_argument, {"dimension blocks is missing"},
              [&] { with({{"scaling", std::string("block")}, {"scale", true}}); }));
  const std::vector<Tensor> given{floats({2, 5}), floats({2, 2}), floats({2, 5})};
  CHECK(problem_of(scaled, given, {{"scaling", std::string("block")}}).key() == block.key());
  const std::vector<Tensor> wrong{floats({2, 5}), floats({2, 1}), floats({2, 5})};
  CHECK(fails(ErrorCode::invalid_argument, {"blocks=1", "requirement"},
              [&] { problem_of(scaled, wrong, {{"scaling", std::string("block")}}); }));
  const std::vector<Tensor> plain_tensors{floats({2, 5}), Tensor(), floats({2, 5})};
  CHECK(problem_of(scaled, plain_tensors, {}).key() == with({}).key());
}

TEST_CASE("a data type by default may depend on another") {
  const auto out = [](const char* dtype) {
    const Problem problem =
        make_problem(scaled, {{"m", number(2)}, {"k", number(5)}, {"dtype", std::string(dtype)}});
    CHECK(problem.describe() == "scaled m=2 k=5 dtype=" + std::string(dtype));
    return to_text(problem.values.at("out_dtype"));
  };
  CHECK(out("f32") == "f32");
  CHECK(out("e4m3") == "bf16");
  CHECK(make_problem(scaled, {{"m", number(2)},
                              {"k", number(5)},
                              {"dtype", std::string("e4m3")},
                              {"out_dtype", std::string("f32")}})
            .describe() == "scaled m=2 k=5 dtype=e4m3 out_dtype=f32");
}

TEST_CASE("a tensor has at most six dimensions") {
  CHECK(fails(ErrorCode::invalid_argument, {"more than 6"},
              [] { Tensor(nullptr, DataType::f32, {1, 1, 1, 1, 1, 1, 1}); }));
}

}  // namespace
}  // namespace cudadent
