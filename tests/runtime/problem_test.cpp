#include "runtime/problem.h"

#include <doctest/doctest.h>

#include <array>

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
  CHECK(problem.describe() == "gemm m=5 k=4 n=3 dtype=f32 bias=true");
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

TEST_CASE("a tensor has at most six dimensions") {
  CHECK(fails(ErrorCode::invalid_argument, {"more than 6"},
              [] { Tensor(nullptr, DataType::f32, {1, 1, 1, 1, 1, 1, 1}); }));
}

}  // namespace
}  // namespace cudadent
