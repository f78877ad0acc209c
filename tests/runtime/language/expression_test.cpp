#include "runtime/language/expression.h"

#include <doctest/doctest.h>

#include <limits>

#include "runtime/language/value.h"

namespace {

using namespace cudadent;

const Values names{{"a", std::int64_t{7}},
                   {"b", std::int64_t{-2}},
                   {"zero", std::int64_t{0}},
                   {"x", 2.5},
                   {"yes", true},
                   {"dtype", std::string("bf16")},
                   {"device.sm", std::int64_t{90}}};

// The result as an expression would write it, which tells 1, 1.0 and True apart.
std::string result_of(const char* text) {
  return to_literal(Expression::parse(text).evaluate(Scope(names)));
}

std::string message_of(const char* text) {
  try {
    return "no error but " + result_of(text);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_manifest);
    return error.what();
  }
}

bool mentions(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE(text);
  return found;
}

std::string list_of(const char* text) {
  std::string result;
  for (const Value& value : Expression::parse_list(text)) result += to_literal(value) + " ";
  return result;
}

TEST_CASE("integers stay integers, / gives a float, // and % floor") {
  CHECK(result_of("1 + 2*3 - 4") == "3");
  CHECK(result_of("(1 + 2)*3") == "9");
  CHECK(result_of("a // 2") == "3");
  CHECK(result_of("-a // 2") == "-4");
  CHECK(result_of("a // b") == "-4");
  CHECK(result_of("-a % 3") == "2");
  CHECK(result_of("a % -3") == "-2");
  CHECK(result_of("-6 % 3") == "0");
  CHECK(std::get<double>(Expression::parse("a / 2").evaluate(Scope(names))) == 3.5);
  CHECK(std::get<double>(Expression::parse("6 / 2").evaluate(Scope(names))) == 3.0);
  CHECK(std::get<double>(Expression::parse("-7.5 // 2").evaluate(Scope(names))) == -4.0);
  CHECK(std::get<double>(Expression::parse("-7.5 % 2").evaluate(Scope(names))) == 0.5);
  CHECK(result_of("0x10 + 1") == "17");
  CHECK(result_of("True + True") == "2");
  CHECK(result_of("-yes") == "-1");
}

TEST_CASE("powers bind to the right and tighter than a sign") {
  CHECK(result_of("2**3**2") == "512");
  CHECK(result_of("-2**2") == "-4");
  CHECK(result_of("(-2)**2") == "4");
  CHECK(result_of("0**0") == "1");
  CHECK(std::get<double>(Expression::parse("2**-1").evaluate(Scope(names))) == 0.5);
  CHECK(mentions(message_of("0**-1"), "division by zero"));
  CHECK(mentions(message_of("(-2)**0.5"), "'**'"));
}

TEST_CASE("comparisons chain, and evaluate across kinds of numbers") {
  CHECK(result_of("1 < 2 < 3") == "True");
  CHECK(result_of("1 < 3 < 2") == "False");
  CHECK(result_of("3 > 2 >= 2 == 2") == "True");
  CHECK(result_of("1 == 1.0") == "True");
  CHECK(result_of("True == 1") == "True");
  CHECK(result_of("9007199254740993 == 9007199254740992.0") == "False");
  CHECK(result_of("'a' < 'b'") == "True");
  CHECK(result_of("'a' == 1") == "False");
  CHECK(result_of("'a' != 1") == "True");
  CHECK(result_of("2 > 1 / zero if False else 5") == "5");
  CHECK(result_of("2 < 1 < 1 // zero") == "False");
  CHECK(result_of("1 < 2 in (2, 3)") == "True");
  CHECK(mentions(message_of("'a' < 1"), "'<'"));
}

TEST_CASE("and, or and the conditional return operands and skip what they do not need") {
  CHECK(result_of("0 or 'x'") == "'x'");
  CHECK(result_of("3 and 4") == "4");
  CHECK(result_of("'' and 4") == "''");
  CHECK(result_of("yes or 1 // zero") == "True");
  CHECK(result_of("zero and missing") == "0");
  CHECK(result_of("1 if zero == 0 else 1 // zero") == "1");
  CHECK(result_of("1 if 0 else 2 if 0 else 3") == "3");
  CHECK(result_of("not a == 7") == "False");
  CHECK(result_of("not not 3") == "True");
  CHECK(result_of("1 or 0 and 0") == "1");
}

TEST_CASE("membership in tuples, lists and text") {
  CHECK(result_of("dtype in ('bf16', \"f16\")") == "True");
  CHECK(result_of("dtype not in ['f32']") == "True");
  CHECK(result_of("a in (1, a, 3)") == "True");
  CHECK(result_of("a in (7,)") == "True");
  CHECK(result_of("a in ()") == "False");
  CHECK(result_of("'f1' in dtype") == "True");
  CHECK(result_of("dtype in ('bf16')") == "True");
  CHECK(result_of("not a in (1, 2)") == "True");
  CHECK(result_of("a in (1, ')', \"(\")") == "False");
  CHECK(mentions(message_of("a in (1, 1 // zero)"), "division by zero"));
  CHECK(mentions(message_of("a in 7"), "'in'"));
}

TEST_CASE("functions") {
  CHECK(result_of("min(3, 1, 2)") == "1");
  CHECK(result_of("max(2, 2.5)") == "2.5");
  CHECK(result_of("max(4)") == "4");
  CHECK(result_of("abs(b)") == "2");
  CHECK(result_of("ceil_div(7, 2)") == "4");
  CHECK(result_of("ceil_div(-7, 2)") == "-3");
  CHECK(result_of("round_up(65, 64)") == "128");
  CHECK(result_of("round_up(64, 64)") == "64");
  CHECK(result_of("pow2_ceil(65)") == "128");
  CHECK(result_of("pow2_ceil(64)") == "64");
  CHECK(result_of("pow2_ceil(0)") == "1");
  CHECK(result_of("gcd(16, 2000, 24)") == "8");
  CHECK(result_of("gcd(16, 0)") == "16");
  CHECK(result_of("gcd(-6, 4)") == "2");
  CHECK(result_of("128 // size(dtype)") == "64");
  CHECK(mentions(message_of("gcd(1, 2.5)"), "gcd() needs integers"));
  CHECK(mentions(message_of("size('f17')"), "size()"));
  CHECK(mentions(message_of("ceil_div(1, zero)"), "division by zero"));
  CHECK(mentions(message_of("min()"), "min() takes 1 or more arguments, not 0"));
  CHECK(mentions(message_of("ceil_div(1)"), "ceil_div() takes 2 arguments, not 1"));
  CHECK(mentions(message_of("sqrt(2)"), "unknown function 'sqrt'"));
}

TEST_CASE("what does not fit 64 bits is an error") {
  CHECK(result_of("9223372036854775807") == "9223372036854775807");
  CHECK(mentions(message_of("9223372036854775808"), "64 bits"));
  CHECK(mentions(message_of("9223372036854775807 + 1"), "out of range"));
  CHECK(mentions(message_of("-9223372036854775807 - 2"), "out of range"));
  CHECK(mentions(message_of("(-9223372036854775807 - 1) // -1"), "out of range"));
  CHECK(result_of("(-9223372036854775807 - 1) % -1") == "0");
  CHECK(result_of("2**62") == "4611686018427387904");
  CHECK(mentions(message_of("2**63"), "out of range"));
  CHECK(result_of("(-2)**63") == "-9223372036854775808");
  CHECK(mentions(message_of("pow2_ceil(2**62 + 1)"), "out of range"));
  CHECK(mentions(message_of("gcd(-9223372036854775807 - 1)"), "out of range"));
}

TEST_CASE("errors name the expression, the cause and the values") {
  const std::string unknown = message_of("a % (64*CONSUMER)");
  CHECK(mentions(unknown, "expression 'a % (64*CONSUMER)': unknown name 'CONSUMER'; known: a, b"));
  CHECK(mentions(unknown, "device.sm"));
  CHECK(mentions(message_of("a // zero"), "division by zero, where a = 7, zero = 0"));
  CHECK(mentions(message_of("dtype + 1"), "'+'"));
}

TEST_CASE("text that is not an expression") {
  CHECK(mentions(message_of(""), "expected a value at the end"));
  CHECK(mentions(message_of("a +"), "expected a value at the end"));
  CHECK(mentions(message_of("(a"), "expected ')'"));
  CHECK(mentions(message_of("a b"), "at column 3, 'b'"));
  CHECK(mentions(message_of("1 if 2"), "expected 'else'"));
  CHECK(mentions(message_of("'abc"), "does not end"));
  CHECK(mentions(message_of("a << 2"), "at column 3"));
  CHECK(mentions(message_of("a is 2"), "at column 3"));
  CHECK(mentions(message_of("(1, 2)"), "expected ')'"));
  CHECK(mentions(message_of("1 in (1, 2) == 3"), "a list is not comparable"));
  CHECK(mentions(message_of("2a"), "after a number"));
  CHECK(mentions(message_of("007"), "begin with 0"));
  CHECK(mentions(message_of("a = 2"), "at column 3"));
  CHECK(mentions(message_of("a.__class__()"), "unknown function"));
}

TEST_CASE("no text overflows the stack") {
  const auto repeated = [](const char* part, int count) {
    std::string result;
    for (int i = 0; i < count; ++i) result += part;
    return result;
  };
  for (const char* part : {"(", "-", "not ", "1 if 1 else ", "2**", "1+(", "min(", "a in (1, "}) {
    CHECK(mentions(message_of(repeated(part, 100'000).c_str()), "nested too deeply"));
  }
  CHECK(mentions(message_of((repeated("1+", 100'000) + "1").c_str()), "nested too deeply"));
  CHECK(result_of((repeated("(", 100) + "1" + repeated(")", 100)).c_str()) == "1");
  CHECK(result_of((repeated("1+", 500) + "1").c_str()) == "501");
  CHECK(result_of((repeated("1 and ", 5000) + "2").c_str()) == "2");
  CHECK_THROWS_AS(Expression::parse_list(repeated("[", 100'000)), Error);
}

TEST_CASE("names are listed once, in order of appearance, and values follow them") {
  const Expression expression = Expression::parse("BN*BM + BN*device.sm");
  CHECK(expression.names() == std::vector<std::string>{"BN", "BM", "device.sm"});
  const Value bn = std::int64_t{2}, bm = std::int64_t{3}, sm = std::int64_t{90};
  const std::vector<const Value*> values{&bn, &bm, &sm};
  CHECK(std::get<std::int64_t>(expression.evaluate(values)) == 186);
  const std::vector<Operand> operands{Operand::of(bn), Operand::of(bm), Operand::of(sm)};
  CHECK(expression.evaluate(operands).integer == 186);
}

TEST_CASE("an inner scope hides an outer one") {
  const Values inner{{"a", std::int64_t{1}}};
  const Scope scope = Scope(names).with(inner);
  CHECK(std::get<std::int64_t>(Expression::parse("a + b").evaluate(scope)) == -1);
  CHECK(scope.names().size() == names.size());
}

TEST_CASE("a constant expression evaluates to itself") {
  const Expression expression = Expression::constant(std::string("it's"));
  CHECK(std::get<std::string>(expression.evaluate(Scope())) == "it's");
  CHECK(expression.names().empty());
}

TEST_CASE("lists as tuning-space files write them") {
  CHECK(list_of("[1, 2, 4]") == "1 2 4 ");
  CHECK(list_of("(1, 2)") == "1 2 ");
  CHECK(list_of("[]") == "");
  CHECK(list_of("[16*2, 'x', 0.5, True]") == "32 'x' 0.5 True ");
  CHECK(list_of("64") == "64 ");
  CHECK(list_of("(1 + 2)*3") == "9 ");
  CHECK(list_of("list(range(32, 128+1, 32))") == "32 64 96 128 ");
  CHECK(list_of("range(3)") == "0 1 2 ");
  CHECK(list_of("list(range(3, 0, -1))") == "3 2 1 ");
  CHECK(list_of("[1, 2] + list(range(4, 7))") == "1 2 4 5 6 ");
  CHECK(list_of("[2**i for i in range(0, 6)]") == "1 2 4 8 16 32 ");
  CHECK(list_of("[1] + [2*i for i in range(1,4)]") == "1 2 4 6 ");
  CHECK(list_of("[i for i in range(1, 13) if 12 % i == 0]") == "1 2 3 4 6 12 ");
  CHECK_THROWS_AS(Expression::parse_list("[1, 2"), Error);
  CHECK_THROWS_AS(Expression::parse_list("[n]"), Error);
  CHECK_THROWS_AS(Expression::parse_list("range(0, 10, 0)"), Error);
  CHECK_THROWS_AS(Expression::parse_list("range(1000000000)"), Error);
}

}  // namespace
