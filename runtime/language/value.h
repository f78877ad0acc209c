// Helpers for Value and Values: text, JSON and numeric views of them.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>

namespace cudadent {

// Words that stand for themselves in an expression: bf16 is 'bf16' where it is one of them.
using Words = std::set<std::string, std::less<>>;
// The names of all data types: words of every manifest.
const Words& data_type_words();

// As people write it: 64, 0.5, true, bf16.
std::string to_text(const Value& value);
// As an expression would write it: strings in quotes. Distinguishes 1 from 1.0 and '1'.
std::string to_literal(const Value& value);
// "BM=128 BN=256", in name order.
std::string to_text(const Values& values);
// Reads 64, 0.5, true/false, else a string.
Value parse_value(std::string_view text);

nlohmann::json to_json(const Value& value);
nlohmann::json to_json(const Values& values);
// Throw Error(invalid_argument) for JSON that is not a scalar (an object of scalars).
Value value_from_json(const nlohmann::json& json);
Values values_from_json(const nlohmann::json& json);

// Python's truth: zero, "" and false are false.
bool is_true(const Value& value) noexcept;
bool is_number(const Value& value) noexcept;
// Numeric views; throw Error(invalid_argument) naming `what` when the value is something else.
// A float with an integral value is an integer, as is a bool.
std::int64_t as_integer(const Value& value, std::string_view what);
double as_real(const Value& value, std::string_view what);
const std::string& as_string(const Value& value, std::string_view what);

}  // namespace cudadent
