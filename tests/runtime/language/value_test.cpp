#include "runtime/language/value.h"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/support/errors.h"

namespace cudadent {
namespace {

using tests::fails;

constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

TEST_CASE("data types have names and sizes") {
  CHECK(size_of(DataType::bf16) == 2);
  CHECK(size_of(DataType::boolean) == 1);
  for (const auto* name : {"f64", "f32", "bf16", "f16", "i64", "i32", "i8", "u8", "bool"})
    CHECK(name_of(data_type_named(name).value()) == name);
  CHECK(!data_type_named("f33"));
  CHECK(!data_type_named(""));
}

TEST_CASE("values as people write them") {
  CHECK(to_text(Value(std::int64_t{64})) == "64");
  CHECK(to_text(Value(0.5)) == "0.5");
  CHECK(to_text(Value(true)) == "true");
  CHECK(to_text(Value(std::string("bf16"))) == "bf16");
  CHECK(to_text(Values{{"BN", std::int64_t{256}}, {"BM", std::int64_t{128}}}) == "BM=128 BN=256");
  CHECK(to_text(Values{}).empty());
}

TEST_CASE("literals tell kinds apart") {
  CHECK(to_literal(std::int64_t{1}) == "1");
  CHECK(to_literal(1.0) == "1.0");
  CHECK(to_literal(1e300) == "1e+300");
  CHECK(to_literal(std::string("1")) == "'1'");
  CHECK(to_literal(true) == "True");
}

TEST_CASE("words of a command line become values") {
  CHECK(parse_value("64") == Value(std::int64_t{64}));
  CHECK(parse_value("-3") == Value(std::int64_t{-3}));
  CHECK(parse_value("0.5") == Value(0.5));
  CHECK(parse_value("1e-6") == Value(1e-6));
  CHECK(parse_value("true") == Value(true));
  CHECK(parse_value("False") == Value(false));
  // Everything else is a word.
  for (const auto* word : {"bf16", "", "1x", "0x10", "nan", "inf", "infinity", "-inf", "1e999"})
    CHECK(parse_value(word) == Value(std::string(word)));
  CHECK(parse_value("9223372036854775807") == Value(largest));
  // Too large for an integer: a number still, which as_integer() refuses.
  CHECK(std::holds_alternative<double>(parse_value("9223372036854775808")));
}

TEST_CASE("values survive JSON") {
  const Values values{{"flag", false},
                      {"large", largest},
                      {"whole", 2.0},
                      {"real", 0.1},
                      {"word", std::string("a \"quoted\" word")}};
  CHECK(values_from_json(nlohmann::json::parse(to_json(values).dump())) == values);
}

TEST_CASE("JSON that is no value") {
  using nlohmann::json;
  constexpr auto code = ErrorCode::invalid_argument;
  CHECK(fails(code, {"[1]", "not a number"}, [] { value_from_json(json::parse("[1]")); }));
  CHECK(fails(code, {"null"}, [] { value_from_json(json()); }));
  CHECK(fails(code, {"3", "object"}, [] { values_from_json(json(3)); }));
  CHECK(fails(code, {"{}"}, [] { values_from_json(json::parse(R"({"a": {}})")); }));
  // Not −1.
  CHECK(fails(code, {"18446744073709551615"},
              [] { value_from_json(json::parse("18446744073709551615")); }));
}

TEST_CASE("truth is Python's") {
  for (const Value& value : {Value(true), Value(std::int64_t{-1}), Value(0.1), Value("no")})
    CHECK(is_true(value));
  for (const Value& value : {Value(false), Value(std::int64_t{0}), Value(0.0), Value("")})
    CHECK(!is_true(value));
}

TEST_CASE("numeric views") {
  CHECK(as_integer(4.0, "n") == 4);
  CHECK(as_integer(true, "n") == 1);
  CHECK(as_integer(-9223372036854775808.0 / 2, "n") ==
        std::numeric_limits<std::int64_t>::min() / 2);
  CHECK(as_real(std::int64_t{3}, "x") == 3.0);
  CHECK(as_string(std::string("a"), "word") == "a");
  constexpr auto code = ErrorCode::invalid_argument;
  CHECK(fails(code, {"n is 2.5", "integer"}, [] { as_integer(2.5, "n"); }));
  CHECK(fails(code, {"n is 1e+20", "integer"}, [] { as_integer(1e20, "n"); }));
  CHECK(
      fails(code, {"n is nan"}, [] { as_integer(std::numeric_limits<double>::quiet_NaN(), "n"); }));
  CHECK(fails(code, {"x is '1'", "a number"}, [] { as_real(std::string("1"), "x"); }));
  CHECK(fails(code, {"word is 1", "a string"}, [] { as_string(std::int64_t{1}, "word"); }));
}

TEST_CASE("everything that is named has one name") {
  CHECK(name_of(ErrorCode::cache_failed) == "cache_failed");
  CHECK(name_of(Provenance::defaulted) == "default");
  CHECK(name_of(TrialStatus::wrong_result) == "wrong_result");
  CHECK(!version().empty());
}

}  // namespace
}  // namespace cudadent
