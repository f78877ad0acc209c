#include "runtime/language/manifest.h"

#include <doctest/doctest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/language/value.h"
#include "tests/support/errors.h"

namespace cudadent {
namespace {

using nlohmann::ordered_json;
using tests::mentions;

constexpr const char* good_operator = R"manifest({
  // Comments are allowed.
  "op": "gemm",
  "doc": "c = a b",
  "dtypes": {
    "dtype": { "values": ["bf16", "f32"] },
    "out_dtype": { "values": ["bf16", "f32"], "default": "dtype" } },
  "options": { "layout_b": ["nk", "kn"], "fast": [true, false] },
  "tensors": {
    "a": { "shape": ["m", "k"], "dtype": "dtype" },
    "b": { "shape": {"layout_b": {"nk": ["n", "k"], "kn": ["k", "n"]}}, "dtype": "dtype" },
    "bias": { "shape": ["n"], "dtype": "f32", "optional": true },
    "c": { "shape": ["m", "n"], "dtype": "out_dtype", "role": "output" } },
  "scalars": { "alpha": {"default": 1.5} },
  "requires": ["k % 2 == 0 or not fast"],
  "tuning_key": { "m": "pow2_ceil(m)" },
  "flops": "2*m*n*k",
  "bytes": "m*k*size(dtype)",
  "inputs": { "a": "normal(0, 1)", "b": "uniform(-1, 1)" },
  "tolerance": { "bf16": 0.01 } })manifest";

constexpr const char* good_template = R"manifest({
  "template": "tiled",
  "backend": "cuda",
  "doc": "tiles",
  "requires": ["device.sm >= 80"],
  "compile_time": ["n", "dtype"],
  "parameters": { "BM": [64, 128], "ORDER": ["rows", "columns"] },
  "default": { "BM": "128 if m > 64 else 64", "ORDER": "columns" },
  "let": { "smem": "BM*k*size(dtype)", "twice": "2*smem" },
  "constraints": ["smem <= device.max_shared_memory"],
  "prior": "BM",
  "tensor_maps": {
    "a_map": { "tensor": "a", "dims": ["k", "m"], "box": [64, "BM"], "swizzle": 128 } },
  "workspace": { "partials": {"bytes": "4*m*n", "zero": true, "when": "BM > 64"} },
  "launches": [
    {
      "entry": "gemm",
      "grid": ["ceil_div(m, BM)"],
      "block": [128],
      "shared_memory": "smem",
      "args": ["a_map", "b", "c", "partials", "alpha", "m", {"value": "k", "type": "i64"}, 3] }],
  "compile_options": ["-O3"] })manifest";

// A manifest with one thing changed: the value at a JSON pointer, or that removed.
std::string changed(const char* text, const char* pointer, const char* value) {
  auto json = ordered_json::parse(text, nullptr, true, true);
  const ordered_json::json_pointer at(pointer);
  if (value == nullptr)
    json.at(at.parent_pointer()).erase(at.back());
  else
    json[at] = ordered_json::parse(value);
  return json.dump();
}

std::string operator_error(const std::string& text) {
  const auto error = tests::error_of([&] { parse_operator(text, "gemm/op.json"); });
  if (!error) return "no error";
  CHECK(error->code() == ErrorCode::invalid_manifest);
  return error->what();
}
std::string operator_error(const char* pointer, const char* value) {
  return operator_error(changed(good_operator, pointer, value));
}

std::string template_error(const std::string& text) {
  const auto op = parse_operator(good_operator, "gemm/op.json");
  const auto error = tests::error_of([&] { parse_template(text, "gemm/tiled.json", op); });
  if (!error) return "no error";
  CHECK(error->code() == ErrorCode::invalid_manifest);
  return error->what();
}
std::string template_error(const char* pointer, const char* value) {
  return template_error(changed(good_template, pointer, value));
}

TEST_CASE("an operator's manifest") {
  const auto op = parse_operator(good_operator, "gemm/op.json");
  CHECK(op.name == "gemm");
  CHECK(op.origin == "gemm/op.json");
  CHECK(op.dimensions == std::vector<std::string>{"m", "k", "n"});
  CHECK(op.dtypes.at(1).otherwise->text() == "dtype");
  CHECK(op.options.at(0).values.front() == Value(std::string("nk")));
  CHECK(op.tensor_index("bias") == 2);
  CHECK(!op.tensor_index("d"));
  CHECK(op.tensors.at(2).optional);
  CHECK(op.tensors.at(3).output);
  CHECK(op.tensors.at(1).shape_for({{"layout_b", std::string("kn")}}).at(0).symbol == "k");
  CHECK(op.scalars.at(0).otherwise.text() == "1.5");
  CHECK(!op.scalars.at(0).in_problem);
  CHECK(op.tuning_key.at(0).first == "m");
  CHECK(op.inputs.at("b").rule == InputSpec::Rule::uniform);
  CHECK(op.inputs.at("b").arguments.at(0).text() == "-1");
  CHECK(op.reference == "reference");
  CHECK(op.hash != parse_operator(changed(good_operator, "/flops", R"("m*n")"), "").hash);
  CHECK(op.hash == parse_operator(changed(good_operator, "/doc", R"("other")"), "").hash);
}

TEST_CASE("what calls are refused is no part of an operator's hash") {
  const auto op = parse_operator(good_operator, "");
  const auto with = [](const char* pointer, const char* value) {
    return parse_operator(changed(good_operator, pointer, value), "");
  };
  CHECK(op.tensors.at(3).in_place.empty());
  const auto in_place = with("/tensors/c", R"({ "shape": ["m", "n"], "dtype": "dtype",
                                               "role": "output", "in_place": ["a", "b"] })");
  CHECK(in_place.tensors.at(3).in_place == std::vector<std::string>{"a", "b"});
  CHECK(in_place.hash == with("/tensors/c", R"({ "shape": ["m", "n"], "dtype": "dtype",
                                                "role": "output" })")
                             .hash);
  CHECK(op.scalars.at(0).least == std::numeric_limits<float>::lowest());
  const auto limited = with("/scalars/alpha", R"({"default": 1.5, "least": 0, "most": 2.5})");
  CHECK(limited.scalars.at(0).least == 0);
  CHECK(limited.scalars.at(0).most == 2.5);
  CHECK(limited.hash == op.hash);
}

TEST_CASE("a prior has names of its own, which are no part of the template") {
  const auto op = parse_operator(good_operator, "gemm/op.json");
  const auto with_prior = [&](const char* prior) {
    return parse_template(changed(good_template, "/prior", prior), "", op);
  };
  const auto kernel = with_prior(
      R"({"let": {"more": "smem + 1", "doubled": "2*more"}, "seconds": "more*doubled"})");
  CHECK(kernel.prior->let.size() == 2);
  CHECK(kernel.prior->let.at(1).first == "doubled");
  CHECK(kernel.prior->seconds.text() == "more*doubled");
  CHECK(kernel.let.size() == 2);
  CHECK(kernel.hash == with_prior(R"("BM")").hash);
  CHECK(kernel.hash == parse_template(changed(good_template, "/prior", nullptr), "", op).hash);
}

// Of expressions, however they are written.
TEST_CASE("expressions as lines, choices as tables, words without quotes") {
  const auto op = parse_operator(good_operator, "gemm/op.json");
  const auto let_of = [&](const char* value) {
    const auto kernel = parse_template(changed(good_template, "/let/twice", value), "", op);
    return std::pair(kernel.let.at(1).second.text(), kernel.hash);
  };
  const auto plain = let_of(R"("BM + 2*smem")");
  CHECK(let_of(R"(["BM", "  + 2*smem"])").second == plain.second);
  CHECK(let_of(R"(["BM", "  + 2*smem"])").first == "BM   + 2*smem");
  CHECK(let_of(R"json("(BM+(2 * smem))")json").second == plain.second);
  CHECK(let_of(R"("BM + smem*2")").second != plain.second);

  const auto chain = let_of(R"("1 if ORDER == 'rows' else 2.5 if BM > 64 else 3*smem")");
  const auto table = let_of(R"({"choose": [["ORDER == rows", 1], [["BM", "> 64"], 2.5]],
                                "default": "3*smem"})");
  CHECK(table.first == "1 if ORDER == rows else 2.5 if BM > 64 else 3*smem");
  CHECK(table.second == chain.second);
  const auto nested = let_of(R"({"choose": [["m > 1 if BM == 64 else True",
                                             {"choose": [["n > 1", "BM"]], "default": false}]],
                                 "default": {"choose": [["k > 1", 4]], "default": "5"}})");
  CHECK(nested.first ==
        "(BM if n > 1 else False) if (m > 1 if BM == 64 else True) else 4 if k > 1 else 5");
  CHECK(let_of(R"("2 if dtype == bf16 else 1")").second ==
        let_of(R"("2 if dtype == 'bf16' else 1")").second);
}

TEST_CASE("what is wrong in lines, tables and words") {
  const auto error = [](const char* value) { return template_error("/let/twice", value); };
  CHECK(mentions(error(R"(["BM +", "smem +"])"), {"let.twice", "BM + smem +", "at the end"}));
  CHECK(mentions(error(R"(["BM", 1])"), {"let.twice[1]", "expected a string"}));
  CHECK(mentions(error("[]"), {"let.twice", "empty list"}));
  CHECK(mentions(error("{}"), {"let.twice", "\"choose\""}));
  CHECK(mentions(error(R"({"choose": [["BM > 1", 2]]})"), {"let.twice", "\"default\""}));
  CHECK(mentions(error(R"({"choose": [], "default": 1})"), {"let.twice.choose", "one row"}));
  CHECK(mentions(error(R"({"choose": ["BM > 1", 2], "default": 1})"),
                 {"let.twice.choose[0]", "[condition, value]", "BM > 1"}));
  CHECK(mentions(error(R"({"choose": [["BM >", 2]], "default": 1})"),
                 {"let.twice.choose[0][0]", "BM >"}));
  CHECK(mentions(error(R"({"choose": [["BM > 1", "late"]], "default": 1})"),
                 {"let.twice", "'late'"}));
  CHECK(mentions(error(R"({"choose": [["BM > 1", 2]], "default": 1, "otherwise": 3})"),
                 {"let.twice", "otherwise"}));
  CHECK(mentions(error(R"("1 if ORDER == row else 2")"), {"let.twice", "unknown name 'row'"}));
  // A word that a name hides would be a wrong answer rather than an error.
  CHECK(mentions(template_error("/parameters/ORDER", R"(["k", "columns"])"),
                 {"\"k\"", "word", "Rename"}));
  CHECK(mentions(operator_error("/options/act", R"(["none", "m"])"), {"\"m\"", "word", "Rename"}));
}

TEST_CASE("whatever a manifest says is in its hash, but what is for people and the prior") {
  const auto op = parse_operator(good_operator, "");
  const auto other = [](const ordered_json& value) -> ordered_json {
    if (value.is_boolean()) return !value.get<bool>();
    if (value.is_number()) return value.get<int>() + 1;
    return value.get<std::string>() + " + 1";
  };
  // The hash with each value of a manifest changed in turn: of those that are still one.
  const auto hashes = [&](const char* text, auto hash_of) {
    std::map<std::string, std::string> result;
    const auto flat = ordered_json::parse(text, nullptr, true, true).flatten();
    for (const auto& [pointer, value] : flat.items()) {
      if (value.is_null() || value.is_structured()) continue;
      try {
        result[pointer] = hash_of(changed(text, pointer.c_str(), other(value).dump().c_str()));
      } catch (const Error&) {
      }
    }
    return result;
  };
  const auto of_template = hashes(
      good_template, [&](const std::string& text) { return parse_template(text, "", op).hash; });
  const auto of_operator =
      hashes(good_operator, [](const std::string& text) { return parse_operator(text, "").hash; });
  const auto is_said = [](const std::string& pointer) {
    return pointer.find("/doc") == std::string::npos && pointer.find("/prior") != 0;
  };
  CHECK(of_template.size() >= 25);
  CHECK(of_operator.size() > 15);
  for (const auto& [pointer, hash] : of_template) {
    CAPTURE(pointer);
    CHECK((hash != parse_template(good_template, "", op).hash) == is_said(pointer));
  }
  for (const auto& [pointer, hash] : of_operator) {
    CAPTURE(pointer);
    CHECK((hash != op.hash) == is_said(pointer));
  }
}

TEST_CASE("a template's manifest") {
  const auto op = parse_operator(good_operator, "gemm/op.json");
  const auto kernel = parse_template(good_template, "gemm/tiled.json", op);
  const auto hash_with = [&](const char* pointer, const char* value) {
    return parse_template(changed(good_template, pointer, value), "", op).hash;
  };
  CHECK(kernel.hash == hash_with("/prior", R"("2*BM")"));
  CHECK(kernel.hash == hash_with("/doc", R"("other")"));
  CHECK(kernel.hash != hash_with("/launches/0/grid", R"(["n"])"));
  CHECK(kernel.name == "tiled");
  CHECK(kernel.op == "gemm");
  CHECK(kernel.source_file == "tiled.cu");
  CHECK(kernel.parameters.at(0).values.size() == 2);
  CHECK(kernel.default_order == std::vector<std::string>{"BM", "ORDER"});
  CHECK(kernel.let.at(1).first == "twice");
  CHECK(kernel.workspaces.at(0).zeroed == Zeroed::every_launch);
  CHECK(kernel.tensor_maps.at(0).tensor.text() == "a");
  CHECK(kernel.launches.at(0).arguments.at(3).name == "partials");
  CHECK(kernel.launches.at(0).arguments.at(6).type == "i64");
  CHECK(kernel.compile_options == std::vector<std::string>{"-O3"});
}

TEST_CASE("what is no manifest at all") {
  CHECK(mentions(operator_error("{"), {"gemm/op.json", "not JSON", "line 1"}));
  CHECK(mentions(operator_error("[]"), {"gemm/op.json", "manifest", "expected an object"}));
  CHECK(mentions(operator_error(""), {"gemm/op.json", "not JSON"}));
}

TEST_CASE("an operator's manifest says what is wrong where") {
  CHECK(mentions(operator_error("/colour", "1"),
                 {"gemm/op.json", "unknown field \"colour\"", "tensors"}));
  CHECK(mentions(operator_error("/op", nullptr), {"gemm/op.json", "\"op\" is missing"}));
  CHECK(mentions(operator_error("/op", "3"), {"op: expected a string, found 3"}));
  CHECK(mentions(operator_error("/op", R"("my-op")"), {"op: \"my-op\" cannot be a name"}));
  CHECK(mentions(operator_error("/tensors", nullptr), {"\"tensors\" is missing"}));
  CHECK(mentions(operator_error("/tensors", "[]"), {"tensors", "expected an object"}));
  CHECK(mentions(operator_error("/tensors/c/role", nullptr), {"tensors", "output"}));
  CHECK(mentions(operator_error("/tensors/c/role", R"("out")"), {"tensors.c.role", "\"out\""}));
  CHECK(mentions(operator_error("/tensors/a/shap", "[]"), {"tensors.a", "unknown field \"shap\""}));
  CHECK(mentions(operator_error("/tensors/a/dtype", R"("f33")"), {"tensors.a.dtype", "\"f33\""}));
  CHECK(mentions(operator_error("/tensors/a/in_place", R"(["b"])"),
                 {"tensors.a.in_place", "only an output"}));
  CHECK(mentions(operator_error("/tensors/c/in_place", R"(["d"])"), {"\"d\" is not an input"}));
  CHECK(mentions(operator_error("/tensors/c/in_place", R"(["c"])"), {"\"c\" is not an input"}));
  CHECK(
      mentions(operator_error("/tensors/c/in_place", R"(["a"])"), {"a is dtype, c is out_dtype"}));
  CHECK(mentions(operator_error("/scalars/alpha/least", R"("0")"),
                 {"scalars.alpha.least", "expected a number"}));
  CHECK(mentions(operator_error("/scalars/alpha", R"({"default": 1, "least": 3, "most": 2})"),
                 {"scalars.alpha", "no number is from 3 to 2"}));
  CHECK(mentions(operator_error("/tensors/bias/optional", "1"),
                 {"tensors.bias.optional", "true or false", "1"}));
  CHECK(mentions(operator_error("/tensors/a/shape", "3"), {"tensors.a.shape", "array"}));
  CHECK(mentions(operator_error("/tensors/a/shape/1", "-4"), {"tensors.a.shape[1]", "number"}));
  CHECK(mentions(operator_error("/tensors/a/shape/1", R"("2k")"), {"tensors.a.shape[1]", "2k"}));
  CHECK(mentions(operator_error("/tensors/a/shape", "[1,1,1,1,1,1,1]"),
                 {"tensors.a.shape", "at most 6"}));
  CHECK(mentions(operator_error("/tensors/b/shape/layout_b/kn", nullptr),
                 {"tensors.b.shape.layout_b", "no shape for layout_b=kn"}));
  CHECK(mentions(operator_error("/tensors/b/shape/layout_b/nn", R"(["n"])"),
                 {"tensors.b.shape.layout_b.nn", "not a value of layout_b"}));
  CHECK(mentions(operator_error("/tensors/b/shape", R"({ "layout": { "nk": [] } })"),
                 {"tensors.b.shape", "\"layout\" is neither an option nor has_"}));
  CHECK(mentions(operator_error("/dtypes/dtype/values", "[]"), {"dtypes.dtype", "no values"}));
  CHECK(mentions(operator_error("/dtypes/dtype/values/0", R"("half")"),
                 {"dtypes.dtype", "\"half\""}));
  CHECK(mentions(operator_error("/dtypes/out_dtype/default", R"("other")"),
                 {"dtypes.out_dtype.default", "\"other\""}));
  CHECK(mentions(operator_error("/options/fast", "[]"), {"options.fast", "no values"}));
  CHECK(mentions(operator_error("/options/fast", "true"), {"options.fast", "array"}));
  CHECK(mentions(operator_error("/options/fast/0", "null"), {"options.fast[0]", "null"}));
  CHECK(mentions(operator_error("/options/layout_b", R"(["nk", "kn", "nk"])"),
                 {"options.layout_b[2]", "stands twice"}));
  CHECK(mentions(operator_error("/options/layout_b", R"(["nk", "kn", 3])"),
                 {"options.layout_b", "words"}));
  CHECK(mentions(operator_error("/scalars/alpha", "{}"),
                 {"scalars.alpha", "\"default\" is missing"}));
  CHECK(
      mentions(operator_error("/scalars/alpha/dtype", R"("f64")"), {"scalars.alpha.dtype", "f32"}));
  CHECK(mentions(operator_error("/inputs/a", R"manifest("normal(0)")manifest"),
                 {"inputs.a", "normal(0)"}));
  CHECK(mentions(operator_error("/inputs/a", R"manifest("normal(0, x)")manifest"),
                 {"inputs.a", "unknown name 'x'"}));
  CHECK(mentions(operator_error("/inputs/a", R"manifest("permutation(m)")manifest"),
                 {"inputs.a", "a is dtype", "i32"}));
  CHECK(mentions(operator_error("/inputs/c", R"manifest("normal(0, 1)")manifest"),
                 {"inputs.c", "not an input"}));
  CHECK(mentions(operator_error("/tolerance/f33", "1"), {"tolerance.f33", "unknown data type"}));
  CHECK(mentions(operator_error("/tolerance/bf16", "[1]"),
                 {"tolerance.bf16[0]", "expected a string"}));
}

TEST_CASE("dimensions that follow from others") {
  const auto with = [](const char* tensor, const char* shape) {
    return operator_error((std::string("/tensors/") + tensor + "/shape").c_str(), shape);
  };
  CHECK(with("bias", R"shape(["ceil_div(n, 4) + m"])shape") == "no error");
  CHECK(mentions(with("bias", R"shape(["ceil_div(q, 4)"])shape"), {"tensors.bias.shape", "'q'"}));
  // An option is no dimension, though its value could follow from the shape.
  const auto grouped = changed(good_operator, "/options/group", "[1, 2]");
  CHECK(operator_error(changed(grouped.c_str(), "/tensors/bias/shape", R"(["2*group"])")) ==
        "no error");
  CHECK(mentions(with("bias", R"shape(["ceil_div(n, 4"])shape"), {"tensors.bias.shape[0]"}));
  CHECK(mentions(with("c", R"shape(["m", "2*n"])shape"),
                 {"tensors.c.shape", "an output's dimension"}));
}

TEST_CASE("strides and dimensions that may be missing") {
  const auto with = [](const char* a) {
    return operator_error(changed(good_operator, "/tensors/a", a));
  };
  CHECK(with(R"({ "shape": ["batch?", "m", "k"], "strides": ["batch_stride", "row_stride", 1],
                  "dtype": "dtype" })") == "no error");
  CHECK(mentions(with(R"({ "shape": ["batch?", "m", "k"], "dtype": "dtype" })"),
                 {"tensors.a.shape", "needs a name for its stride", "batch_stride_a"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k?"], "dtype": "dtype" })"),
                 {"tensors.a.shape[1]", "only the first dimension"}));
  CHECK(mentions(with(R"({ "shape": ["m?"], "strides": [1], "dtype": "dtype" })"),
                 {"tensors.a.strides", "needs a name"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k"], "strides": ["rows"], "dtype": "dtype" })"),
                 {"tensors.a.strides", "1 strides for a shape of 2 dimensions"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k"], "strides": [1, "columns"], "dtype": "dtype" })"),
                 {"tensors.a.strides[0]", "only the last stride"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k"], "strides": ["rows", 2], "dtype": "dtype" })"),
                 {"tensors.a.strides[1]", "a stride is a name"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k"], "strides": ["rows", "rows"], "dtype": "dtype" })"),
                 {"tensors.a.strides[1]", "stands twice"}));
  CHECK(mentions(with(R"({ "shape": ["m", "k"], "strides": ["m", 1], "dtype": "dtype" })"),
                 {"\"m\" is used twice"}));
  CHECK(mentions(
      operator_error(changed(changed(good_operator, "/tensors/a/strides", R"(["rows", 1])").c_str(),
                             "/tensors/c/strides", R"(["rows", 1])")),
      {"tensors.c.strides", "\"rows\" is another tensor's stride"}));

  const auto op = parse_operator(changed(good_operator, "/tensors/b", R"({
        "shape": { "layout_b": { "nk": ["batch?", "n", "k"], "kn": ["batch?", "k", "n"] } },
        "strides": { "layout_b": { "nk": ["batch_stride", "rows", 1],
                                   "kn": ["batch_stride", "columns", 1] } },
        "dtype": "dtype" })"),
                                 "gemm/op.json");
  CHECK(op.optional_dimensions == std::vector<std::string>{"batch"});
  CHECK(op.strides == std::vector<std::string>{"batch_stride", "rows", "columns"});
  CHECK(op.tensors[1].strides.at({{"layout_b", std::string("kn")}}) ==
        StrideSpec{"batch_stride", "columns", ""});
  CHECK(op.tensors[1].shape_for({{"layout_b", std::string("kn")}}).front().optional);
  CHECK(!op.tensors[0].has_strides());
}

TEST_CASE("a data type's default may be an expression of the symbols before it") {
  const auto with = [](const char* value) {
    return operator_error("/dtypes/out_dtype/default", value);
  };
  CHECK(with(R"("dtype if size(dtype) > 1 else 'bf16'")") == "no error");
  CHECK(with(R"("f32")") == "no error");
  CHECK(mentions(with(R"("out_dtype")"), {"dtypes.out_dtype.default", "earlier symbol"}));
  CHECK(mentions(with(R"("m")"), {"dtypes.out_dtype.default", "\"m\""}));
  CHECK(mentions(with(R"("dtype if")"), {"dtypes.out_dtype.default", "dtype if"}));
}

TEST_CASE("shapes by several options, and by which optional tensors are there") {
  const auto with = [](const char* shape) {
    return changed(good_operator, "/tensors/b/shape", shape);
  };
  const auto op = parse_operator(with(R"({ "layout_b": {
      "nk": { "has_bias": { "true": ["n", "k"], "false": ["n", "k", 1] } },
      "kn": ["k", "n"] } })"),
                                 "gemm/op.json");
  const Values nk{{"layout_b", std::string("nk")}}, kn{{"layout_b", std::string("kn")}};
  CHECK(op.tensors[1].shape_for(nk).size() == 3);  // without a word of bias there is none
  CHECK(op.tensors[1].shape_for({{"layout_b", std::string("nk")}, {"has_bias", true}}).size() == 2);
  CHECK(op.tensors[1].shape_for(kn).at(0).symbol == "k");
  CHECK(mentions(operator_error(with(R"({ "has_a": { "true": ["n"], "false": ["n"] } })")),
                 {"tensors.b.shape", "\"has_a\" is neither"}));
  CHECK(mentions(operator_error(with(R"({ "has_bias": { "true": ["n"] } })")),
                 {"tensors.b.shape.has_bias", "no shape for has_bias=false"}));
  CHECK(mentions(operator_error(with(R"({ "has_bias": { "true": ["n"],
                     "false": { "has_bias": { "true": ["n"], "false": ["n"] } } } })")),
                 {"tensors.b.shape.has_bias.false", "decided already"}));
}

TEST_CASE("scalars that are values of the problem") {
  const auto with = [](const char* scalar) {
    return changed(good_operator, "/scalars/window", scalar);
  };
  const auto op = parse_operator(
      with(R"({ "default": "2*m", "dtype": "i32", "in_problem": true })"), "gemm/op.json");
  CHECK(op.scalars.at(1).integer);
  CHECK(op.scalars.at(1).in_problem);
  CHECK(operator_error(changed(with(R"({ "default": 1, "in_problem": true })").c_str(), "/flops",
                               R"("m*window")")) == "no error");
  CHECK(mentions(operator_error(with(R"({ "default": 1, "dtype": "i32" })")),
                 {"scalars.window.dtype", "in_problem"}));
  CHECK(mentions(operator_error(with(R"({ "default": "alpha" })")),
                 {"scalars.window.default", "unknown name 'alpha'"}));
  CHECK(mentions(operator_error(with(R"({ "default": true })")),
                 {"scalars.window.default", "expected a number or an expression"}));
}

TEST_CASE("expressions of an operator's manifest") {
  CHECK(mentions(operator_error("/flops", R"("2*q")"),
                 {"gemm/op.json", "flops", "2*q", "unknown name 'q'", "k, "}));
  CHECK(mentions(operator_error("/flops", R"("2*")"), {"flops", "2*"}));
  CHECK(mentions(operator_error("/requires/0", R"("device.sm > 1")"), {"requires", "device.sm"}));
  CHECK(mentions(operator_error("/requires", R"("k > 1")"), {"requires", "array"}));
  CHECK(mentions(operator_error("/tuning_key/q", "1"), {"tuning_key.q", "not a problem value"}));
  CHECK(mentions(operator_error("/tuning_key/m", R"("alpha")"), {"tuning_key.m", "'alpha'"}));
}

TEST_CASE("names of an operator's manifest stand for one thing each") {
  CHECK(mentions(operator_error("/scalars/m", R"({ "default": 1 })"), {"\"m\" is used twice"}));
  CHECK(mentions(operator_error("/options/a", "[1]"), {"\"a\" is used twice"}));
  CHECK(mentions(operator_error("/options/has_bias", "[1]"), {"\"has_bias\" is used twice"}));
  CHECK(mentions(operator_error("/options/aligned", "[1]"), {"\"aligned\" is used twice"}));
  CHECK(mentions(operator_error(R"({ "op": "gemm", "doc": "a", "doc": "b" })"),
                 {"gemm/op.json", "\"doc\" stands twice"}));
  for (const char* word : {"class", "constexpr", "nullptr", "requires", "throw", "and", "lambda",
                           "f32", "min", "size", "Block"}) {
    CAPTURE(word);
    const auto pointer = std::string("/options/") + word;
    CHECK(mentions(operator_error(pointer.c_str(), "[1]"),
                   {"options." + std::string(word), "cannot be a name"}));
  }
}

TEST_CASE("more tensors than a launch can take") {
  auto json = ordered_json::parse(good_operator, nullptr, true, true);
  for (int i = 0; i < 13; ++i)
    json["tensors"]["more" + std::to_string(i)] = {{"shape", {"m"}}, {"dtype", "f32"}};
  CHECK(mentions(operator_error(json.dump()), {"tensors", "at most 16"}));
}

TEST_CASE("a template's manifest says what is wrong where") {
  CHECK(mentions(template_error("/colour", "1"), {"gemm/tiled.json", "unknown field \"colour\""}));
  CHECK(mentions(template_error("/template", nullptr), {"\"template\" is missing"}));
  CHECK(mentions(template_error("/backend", R"("metal")"), {"backend", "\"metal\""}));
  CHECK(mentions(template_error("/launches", nullptr), {"\"launches\" is missing"}));
  CHECK(mentions(template_error("/launches", "[]"), {"launches", "at least one"}));
  CHECK(mentions(template_error("/launches/0/grid", nullptr), {"launches[0]", "grid"}));
  CHECK(mentions(template_error("/launches/0/grid", "[1,1,1,1]"), {"launches[0].grid", "three"}));
  CHECK(mentions(template_error("/launches/0/args", nullptr), {"launches[0]", "\"args\""}));
  CHECK(mentions(template_error("/launches/0/args/0", R"("d")"),
                 {"launches[0].args[0]", "unknown name 'd'"}));
  CHECK(
      mentions(template_error("/launches/0/args/0", "[]"), {"launches[0].args[0]", "empty list"}));
  CHECK(
      mentions(template_error("/launches/0/args/6/type", R"("i16")"), {"args[6].type", "\"i16\""}));
  CHECK(mentions(template_error("/launches/0/args/6/typ", R"("i32")"),
                 {"args[6]", "unknown field \"typ\""}));
  CHECK(mentions(template_error("/launches/0/entry", R"("my gemm")"),
                 {"launches[0].entry", "my gemm"}));
  CHECK(mentions(template_error("/launches/0/blok", "[1]"), {"launches[0]", "\"blok\""}));
  CHECK(mentions(template_error("/compile_time/0", R"("q")"), {"compile_time", "\"q\""}));
  CHECK(mentions(template_error("/compile_time/0", R"("BM")"), {"compile_time", "\"BM\""}));
  CHECK(mentions(template_error("/compile_time/0", R"("device.sm")"),
                 {"compile_time", "\"device.sm\""}));
  CHECK(mentions(template_error("/parameters/BM", "[]"), {"parameters.BM", "no values"}));
  CHECK(mentions(template_error("/parameters/BM", "64"), {"parameters.BM", "array"}));
  CHECK(mentions(template_error("/parameters/BM", "[64, 64]"),
                 {"parameters.BM[1]", "64 stands twice"}));
  CHECK(mentions(template_error("/parameters/BM", R"([64, "all"])"), {"parameters.BM", "words"}));
  CHECK(mentions(template_error("/parameters/ORDER/0", R"("row-major")"),
                 {"parameters.ORDER[0]", "row-major"}));
  CHECK(mentions(template_error("/default/BN", "1"), {"default.BN", "not a parameter"}));
  CHECK(mentions(template_error("/default/BM", R"("ORDER")"), {"default.BM", "'ORDER'"}));
  CHECK(mentions(template_error("/let/late", R"("later")"), {"let.late", "'later'"}));
  CHECK(
      mentions(template_error("/constraints/0", R"("smem < limit")"), {"constraints", "'limit'"}));
  CHECK(mentions(template_error("/prior", R"("BM +")"), {"prior", "BM +"}));
  CHECK(mentions(template_error("/prior", R"({"let": {"part": "BM"}})"), {"prior", "\"seconds\""}));
  CHECK(mentions(template_error("/prior", R"({"let": {"part": "BM +"}, "seconds": "part"})"),
                 {"prior.let.part", "BM +"}));
  CHECK(
      mentions(template_error("/prior", R"({"let": {"a": "later", "later": "BM"}, "seconds": 1})"),
               {"prior.let.a", "'later'"}));
  CHECK(mentions(template_error("/prior", R"({"let": {"BM": "1"}, "seconds": "BM"})"),
                 {"prior.let.BM", "BM"}));
  CHECK(mentions(template_error("/constraints/0", R"("more < 2")"), {"constraints", "'more'"}));
  CHECK(mentions(template_error("/compile_options", R"("-O3")"), {"compile_options", "array"}));
}

TEST_CASE("workspaces and tensor maps") {
  CHECK(mentions(template_error("/workspace/partials/bytes", nullptr),
                 {"workspace.partials", "\"bytes\""}));
  CHECK(mentions(template_error("/workspace/partials/zero", "1"),
                 {"workspace.partials.zero", "true, false or \"kept\""}));
  CHECK(mentions(template_error("/tensor_maps/a_map/tensor", R"("d")"),
                 {"tensor_maps.a_map", "\"d\""}));
  CHECK(mentions(template_error("/tensor_maps/a_map/dims", "[]"),
                 {"tensor_maps.a_map.dims", "one to five"}));
  CHECK(mentions(template_error("/tensor_maps/a_map/box", "[1]"),
                 {"tensor_maps.a_map.box", "as many"}));
  CHECK(mentions(template_error("/tensor_maps/a_map/strides", "[1, 2]"),
                 {"tensor_maps.a_map.strides", "one stride"}));
  CHECK(mentions(template_error("/tensor_maps/a_map/tensor", R"("partials")"),
                 {"tensor_maps.a_map", "needs \"dtype\""}));
}

TEST_CASE("names of a template's manifest stand for one thing each") {
  CHECK(mentions(template_error("/parameters/k", "[1]"), {"\"k\" is used twice"}));
  CHECK(mentions(template_error("/parameters/a", "[1]"), {"\"a\" is used twice"}));
  CHECK(mentions(template_error("/let/BM", "1"), {"let.BM", "\"BM\" is used twice"}));
  CHECK(mentions(template_error("/let/alpha", "1"), {"let.alpha", "\"alpha\" is used twice"}));
  CHECK(mentions(template_error("/workspace/c", R"({ "bytes": 1 })"),
                 {"workspace", "\"c\" is used twice"}));
  CHECK(mentions(template_error("/parameters/for", "[1]"), {"parameters.for", "not a keyword"}));
}

}  // namespace
}  // namespace cudadent
