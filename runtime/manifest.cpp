#include "runtime/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/device.h"
#include "runtime/hash.h"
#include "runtime/linear.h"
#include "runtime/value.h"

namespace cudadent {

namespace {

using Json = nlohmann::ordered_json;  // manifests are read in the order they are written

// A place in a manifest: the JSON there, the file it is in and the way to it, so that every error
// names file, field and reason.
class Field {
 public:
  Field(const Json& json, const std::string& origin, std::string path)
      : json_(json), origin_(origin), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string& reason) const {
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("{}: {}: {}", origin_, path_.empty() ? "manifest" : path_, reason));
  }

  [[nodiscard]] const Json& json() const { return json_; }

  [[nodiscard]] bool has(const std::string& key) const { return json_.contains(key); }

  [[nodiscard]] Field at(const std::string& key) const {
    if (!json_.is_object()) fail("expected an object");
    if (!json_.contains(key)) fail(fmt::format("\"{}\" is missing", key));
    return {json_.at(key), origin_, path_.empty() ? key : path_ + "." + key};
  }

  void allow_keys(const std::set<std::string>& keys) const {
    if (!json_.is_object()) fail("expected an object");
    for (const auto& [key, value] : json_.items())
      if (!keys.contains(key))
        fail(fmt::format("unknown field \"{}\"; known: {}", key, fmt::join(keys, ", ")));
  }

  // Calls visit(key, field) for each member of an object.
  template <class Visit>
  void each_member(Visit visit) const {
    if (!json_.is_object()) fail("expected an object");
    for (const auto& [key, value] : json_.items()) visit(key, at(key));
  }

  template <class Visit>
  void each_element(Visit visit) const {
    if (!json_.is_array()) fail("expected an array");
    std::size_t i = 0;
    for (const auto& element : json_)
      visit(Field(element, origin_, fmt::format("{}[{}]", path_, i++)));
  }

  [[nodiscard]] std::string text() const {
    if (!json_.is_string()) fail(fmt::format("expected a string, found {}", json_.dump()));
    return json_.get<std::string>();
  }
  [[nodiscard]] std::string text_or(const std::string& key, const std::string& otherwise) const {
    return has(key) ? at(key).text() : otherwise;
  }

  [[nodiscard]] bool flag() const {
    if (!json_.is_boolean()) fail(fmt::format("expected true or false, found {}", json_.dump()));
    return json_.get<bool>();
  }
  [[nodiscard]] bool flag_or(const std::string& key, bool otherwise) const {
    return has(key) ? at(key).flag() : otherwise;
  }

  [[nodiscard]] Value scalar() const {
    try {
      return value_from_json(json_);
    } catch (const Error& error) {
      fail(error.what());
    }
  }

  // A string is an expression, anything else a constant.
  [[nodiscard]] Expression expression() const {
    if (!json_.is_string()) return Expression::constant(scalar());
    try {
      return Expression::parse(json_.get<std::string>());
    } catch (const Error& error) {
      fail(error.what());
    }
  }

  [[nodiscard]] std::vector<Expression> expressions() const {
    std::vector<Expression> all;
    each_element([&](const Field& element) { all.push_back(element.expression()); });
    return all;
  }

  [[nodiscard]] std::vector<std::string> texts() const {
    std::vector<std::string> all;
    each_element([&](const Field& element) { all.push_back(element.text()); });
    return all;
  }

 private:
  const Json& json_;
  const std::string& origin_;
  std::string path_;
};

Json parse_json(std::string_view text, const std::string& origin) {
  std::vector<std::set<std::string>> open;  // keys of the objects that the parser is in
  const auto check_key = [&](int, Json::parse_event_t event, const Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second)
      throw Error(
          ErrorCode::invalid_manifest,
          fmt::format("{}: the field {} stands twice in one object", origin, parsed.dump()));
    return true;
  };
  try {
    // Comments are allowed: manifests are written by people.
    return Json::parse(text, check_key, true, true);
  } catch (const Json::parse_error& error) {
    throw Error(ErrorCode::invalid_manifest, fmt::format("{}: not JSON: {}", origin, error.what()));
  }
}

// Names end up as identifiers in generated source, so they must be able to be one there.
void check_identifier(const Field& field, const std::string& name) {
  static const std::set<std::string> reserved{
      // C++'s
      "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break",
      "case", "catch", "char", "char16_t", "char32_t", "char8_t", "class", "co_await", "co_return",
      "co_yield", "compl", "concept", "const", "const_cast", "consteval", "constexpr", "constinit",
      "continue", "decltype", "default", "delete", "do", "double", "dynamic_cast", "else", "enum",
      "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if", "inline",
      "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
      "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast",
      "requires", "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast",
      "struct", "switch", "template", "this", "thread_local", "throw", "true", "try", "typedef",
      "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "wchar_t",
      "while", "xor", "xor_eq",
      // the expressions'
      "False", "None", "True", "in", "is", "lambda", "device"};
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) ||
      !std::all_of(name.begin(), name.end(), is_word) || reserved.contains(name))
    field.fail(fmt::format("\"{}\" cannot be a name: expected letters, digits and _, not a keyword",
                           name));
}

// The name of a constant in generated source: it must not hide what templates use.
void check_constant(const Field& field, const std::string& name) {
  static const std::set<std::string> used{
      // functions of expressions
      "abs", "ceil_div", "gcd", "max", "min", "pow2_ceil", "round_up", "size",
      // the shared types
      "Block", "bf16", "e4m3", "e5m2", "f16", "f32", "f64", "i16", "i32", "i64", "i8", "simd",
      "u16", "u32", "u64", "u8"};
  check_identifier(field, name);
  if (used.contains(name))
    field.fail(fmt::format("\"{}\" cannot be a name: it is a function or a type", name));
}

// A value is a word among words, which become an enumeration, or a number among numbers.
void add_value(const Field& element, std::vector<Value>& values) {
  Value value = element.scalar();
  if (const auto* word = std::get_if<std::string>(&value)) check_identifier(element, *word);
  if (!values.empty() && is_number(value) != is_number(values.front()))
    element.fail("expected all words, or all numbers and flags");
  if (std::find(values.begin(), values.end(), value) != values.end())
    element.fail(fmt::format("the value {} stands twice", to_literal(value)));
  values.push_back(std::move(value));
}

void check_names(const Field& field, const Expression& expression,
                 const std::set<std::string>& known) {
  for (const auto& name : expression.names())
    if (!known.contains(name))
      field.fail(fmt::format("expression '{}': unknown name '{}'; known: {}", expression.text(),
                             name, fmt::join(known, ", ")));
}

void check_names(const Field& field, const std::vector<Expression>& expressions,
                 const std::set<std::string>& known) {
  for (const auto& expression : expressions) check_names(field, expression, known);
}

bool is_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char letter) {
    return std::isalnum(letter) != 0 || letter == '_' || letter == '?';
  });
}

// "m", or of the first dimension "m?" too, or an expression.
DimensionSpec parse_dimension(const Field& field, bool is_first) {
  DimensionSpec dimension;
  if (field.json().is_string() && !is_word(field.text())) {
    dimension.derived = field.expression();
    if (const auto linear = linear_in_its_name(*dimension.derived))
      dimension.binds = {dimension.derived->names().front(), linear->factor, linear->offset};
  } else if (field.json().is_string()) {
    dimension.symbol = field.text();
    dimension.optional = dimension.symbol.ends_with('?');
    if (dimension.optional) dimension.symbol.pop_back();
    check_constant(field, dimension.symbol);
    if (dimension.optional && !is_first) field.fail("only the first dimension may end in \"?\"");
  } else if (field.json().is_number_integer() && field.json().get<std::int64_t>() >= 0) {
    dimension.constant = field.json().get<std::int64_t>();
  } else {
    field.fail("a dimension is a name, a number ≥ 0 or an expression");
  }
  return dimension;
}

ShapeSpec parse_shape(const Field& field) {
  ShapeSpec shape;
  field.each_element(
      [&](const Field& element) { shape.push_back(parse_dimension(element, shape.empty())); });
  if (shape.size() > max_rank) field.fail(fmt::format("at most {} dimensions", max_rank));
  return shape;
}

StrideSpec parse_strides(const Field& field) {
  StrideSpec strides;
  const std::size_t rank = field.json().size();
  field.each_element([&](const Field& element) {
    const bool is_last = strides.size() + 1 == rank;
    if (element.json() == 1) {
      if (!is_last) element.fail("only the last stride may be 1: give it a name");
      strides.emplace_back();
      return;
    }
    if (!element.json().is_string()) element.fail("a stride is a name, or of the last dimension 1");
    check_constant(element, element.text());
    if (std::find(strides.begin(), strides.end(), element.text()) != strides.end())
      element.fail(fmt::format("the name \"{}\" stands twice", element.text()));
    strides.push_back(element.text());
  });
  return strides;
}

// What shapes can depend on, with the values it takes: options, and which optional tensors are there.
using Deciders = std::map<std::string, std::vector<Value>>;

Deciders deciders_of(const Field& tensors, const OperatorManifest& op) {
  Deciders deciders;
  for (const auto& option : op.options) deciders[option.name] = option.values;
  tensors.each_member([&](const std::string& name, const Field& member) {
    if (member.json().is_object() && member.flag_or("optional", false))
      deciders["has_" + name] = {false, true};
  });
  return deciders;
}

// An array, or an object of one decider with an array, or again such an object, for each of its values.
template <class T, class Parse>
void parse_alternatives(const Field& field, const Deciders& deciders, const char* what, Parse parse,
                        const Values& when, Alternatives<T>& result) {
  if (field.json().is_array()) {
    result.choices.push_back({when, parse(field)});
    return;
  }
  if (!field.json().is_object() || field.json().size() != 1)
    field.fail(
        "expected an array, or an object of one option or has_ and an optional tensor, with an "
        "array or again such an object for each of its values");
  const std::string name = field.json().begin().key();
  const auto decider = deciders.find(name);
  if (decider == deciders.end())
    field.fail(fmt::format("\"{}\" is neither an option nor has_ and an optional tensor", name));
  if (when.contains(name)) field.fail(fmt::format("\"{}\" is decided already", name));
  const auto& values = decider->second;
  const Field choices = field.at(name);
  std::vector<Value> met;
  choices.each_member([&](const std::string& key, const Field& choice) {
    met.push_back(parse_value(key));
    if (std::find(values.begin(), values.end(), met.back()) == values.end())
      choice.fail(fmt::format("\"{}\" is not a value of {}", key, name));
    Values inner = when;
    inner[name] = met.back();
    parse_alternatives(choice, deciders, what, parse, inner, result);
  });
  for (const auto& value : values)
    if (std::find(met.begin(), met.end(), value) == met.end())
      choices.fail(fmt::format("no {} for {}={}", what, name, to_text(value)));
}

template <class Parse>
auto parse_alternatives(const Field& field, const Deciders& deciders, const char* what,
                        Parse parse) {
  Alternatives<decltype(parse(field))> result;
  parse_alternatives(field, deciders, what, parse, {}, result);
  return result;
}

// Whether both can hold at once.
bool agree(const Values& a, const Values& b) {
  return std::all_of(a.begin(), a.end(), [&](const auto& entry) {
    const auto other = b.find(entry.first);
    return other == b.end() || other->second == entry.second;
  });
}

// A stride for each dimension, and a name for that of a dimension that may be missing, of every shape
// the options can choose.
void check_strides(const Field& field, const TensorSpec& tensor) {
  for (const auto& [when, shape] : tensor.shapes.choices) {
    const bool may_be_missing = !shape.empty() && shape.front().optional;
    if (may_be_missing && !tensor.has_strides())
      field.at("shape").fail(fmt::format(
          "a dimension that may be missing needs a name for its stride: add \"strides\", "
          "such as [\"{}_stride_{}\", …]",
          shape.front().symbol, tensor.name));
    for (const auto& [other, strides] : tensor.strides.choices) {
      if (!agree(when, other)) continue;
      if (strides.size() != shape.size())
        field.at("strides").fail(
            fmt::format("{} strides for a shape of {} dimensions", strides.size(), shape.size()));
      if (may_be_missing && strides.front().empty())
        field.at("strides").fail("a dimension that may be missing needs a name for its stride");
    }
  }
}

void add_new(std::vector<std::string>& names, const std::string& name) {
  if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
    names.push_back(name);
}

// A data type, or an expression of earlier symbols.
Expression parse_default_dtype(const Field& field, const OperatorManifest& op) {
  if (data_type_named(field.text())) return Expression::constant(field.text());
  Expression expression = field.expression();
  std::set<std::string> earlier;
  for (const auto& spec : op.dtypes) earlier.insert(spec.symbol);
  for (const auto& name : expression.names())
    if (!earlier.contains(name))
      field.fail(fmt::format("\"{}\" is neither a data type nor an earlier symbol", name));
  return expression;
}

void parse_dtypes(const Field& field, OperatorManifest& op) {
  field.each_member([&](const std::string& symbol, const Field& member) {
    check_constant(member, symbol);
    member.allow_keys({"values", "default"});
    DataTypeSpec spec{symbol, member.at("values").texts()};
    for (const auto& name : spec.values)
      if (!data_type_named(name)) member.fail(fmt::format("unknown data type \"{}\"", name));
    if (spec.values.empty()) member.fail("no values");
    if (member.has("default")) spec.otherwise = parse_default_dtype(member.at("default"), op);
    op.dtypes.push_back(std::move(spec));
  });
}

void parse_options(const Field& field, OperatorManifest& op) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_constant(member, name);
    OptionSpec spec{name, {}};
    member.each_element([&](const Field& element) { add_value(element, spec.values); });
    if (spec.values.empty()) member.fail("no values");
    op.options.push_back(std::move(spec));
  });
}

// Each name is the stride of one tensor.
void add_strides(const Field& field, const TensorSpec& tensor, OperatorManifest& op) {
  const std::vector<std::string> earlier = op.strides;
  for (const auto& [when, strides] : tensor.strides.choices)
    for (const auto& name : strides) {
      if (std::find(earlier.begin(), earlier.end(), name) != earlier.end())
        field.at("strides").fail(fmt::format("\"{}\" is another tensor's stride", name));
      add_new(op.strides, name);
    }
}

// Expressions in shapes are of what all tensors together bind.
void check_derived_dimensions(const Field& field, const OperatorManifest& op) {
  std::set<std::string> known(op.dimensions.begin(), op.dimensions.end());
  for (const auto& option : op.options) known.insert(option.name);
  for (const auto& tensor : op.tensors)
    for (const auto& [when, shape] : tensor.shapes.choices)
      for (const auto& dimension : shape) {
        if (!dimension.derived) continue;
        const Field at = field.at(tensor.name).at("shape");
        check_names(at, *dimension.derived, known);
        if (tensor.output) at.fail("an output's dimension is a name or a number");
      }
}

void parse_tensors(const Field& field, OperatorManifest& op) {
  const Deciders deciders = deciders_of(field, op);
  field.each_member([&](const std::string& name, const Field& member) {
    check_identifier(member, name);
    member.allow_keys({"shape", "strides", "dtype", "role", "optional", "any_alignment", "doc"});
    TensorSpec tensor;
    tensor.name = name;
    tensor.doc = member.text_or("doc", "");
    tensor.shapes = parse_alternatives(member.at("shape"), deciders, "shape", parse_shape);
    if (member.has("strides"))
      tensor.strides = parse_alternatives(member.at("strides"), deciders, "strides", parse_strides);
    check_strides(member, tensor);
    tensor.dtype = member.at("dtype").text();
    const bool known = data_type_named(tensor.dtype).has_value() ||
                       std::any_of(op.dtypes.begin(), op.dtypes.end(),
                                   [&](const auto& spec) { return spec.symbol == tensor.dtype; });
    if (!known)
      member.at("dtype").fail(
          fmt::format("\"{}\" is neither a data type nor a symbol of \"dtypes\"", tensor.dtype));
    const std::string role = member.text_or("role", "input");
    if (role != "input" && role != "output")
      member.at("role").fail(fmt::format("\"{}\" is neither input nor output", role));
    tensor.output = role == "output";
    tensor.optional = member.flag_or("optional", false);
    tensor.any_alignment = member.flag_or("any_alignment", false);
    for (auto& [when, shape] : tensor.shapes.choices)
      for (auto& dimension : shape) {
        // What an option says is no dimension to bind.
        if (dimension.binds && deciders.contains(dimension.binds->symbol)) dimension.binds.reset();
        if (dimension.bound_symbol().empty()) continue;
        add_new(op.dimensions, dimension.bound_symbol());
        if (dimension.optional) add_new(op.optional_dimensions, dimension.symbol);
      }
    add_strides(member, tensor, op);
    op.tensors.push_back(std::move(tensor));
  });
  if (std::none_of(op.tensors.begin(), op.tensors.end(), [](const auto& t) { return t.output; }))
    field.fail("no tensor has \"role\": \"output\"");
  if (op.tensors.size() > max_tensors)
    field.fail(fmt::format("{} tensors; at most {}", op.tensors.size(), max_tensors));
  check_derived_dimensions(field, op);
}

// Dimensions, data types, options and which tensors are there.
std::set<std::string> names_of_tensors(const OperatorManifest& op) {
  std::set<std::string> names(op.dimensions.begin(), op.dimensions.end());
  for (const auto& spec : op.dtypes) names.insert(spec.symbol);
  for (const auto& option : op.options) names.insert(option.name);
  for (const auto& tensor : op.tensors)
    if (tensor.optional) names.insert("has_" + tensor.name);
  return names;
}

std::set<std::string> problem_names(const OperatorManifest& op) {
  std::set<std::string> names = names_of_tensors(op);
  names.insert(op.strides.begin(), op.strides.end());
  for (const auto& scalar : op.scalars)
    if (scalar.in_problem) names.insert(scalar.name);
  names.insert({"aligned", "base_aligned"});
  return names;
}

void parse_scalars(const Field& field, OperatorManifest& op) {
  std::set<std::string> known = names_of_tensors(op);
  field.each_member([&](const std::string& name, const Field& member) {
    member.allow_keys({"default", "dtype", "in_problem", "doc"});
    const Field otherwise = member.at("default");
    if (!otherwise.json().is_number() && !otherwise.json().is_string())
      otherwise.fail(
          fmt::format("expected a number or an expression, found {}", otherwise.json().dump()));
    ScalarSpec scalar{.name = name, .otherwise = otherwise.expression()};
    check_names(member.at("default"), scalar.otherwise, known);
    const std::string dtype = member.text_or("dtype", "f32");
    scalar.integer = dtype == "i32";
    scalar.in_problem = member.flag_or("in_problem", false);
    if (scalar.in_problem)
      check_constant(member, name);
    else
      check_identifier(member, name);
    if (dtype != "f32" && dtype != "i32") member.at("dtype").fail("scalars are f32 or i32");
    if (scalar.integer && !scalar.in_problem)
      member.at("dtype").fail("an integer is a value of the problem: add \"in_problem\": true");
    if (scalar.in_problem) known.insert(name);
    op.scalars.push_back(std::move(scalar));
  });
  if (op.scalars.size() > max_scalars)
    field.fail(fmt::format("{} scalars; at most {}", op.scalars.size(), max_scalars));
}

// The expressions between the parentheses of "rule(…, …)": split at commas outside of any inside.
std::vector<Expression> parse_arguments(std::string_view text) {
  std::vector<Expression> arguments;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (depth == 0 && text[i] == ',')) {
      arguments.push_back(Expression::parse(text.substr(start, i - start)));
      start = i + 1;
    } else if (text[i] == '(' || text[i] == '[') {
      ++depth;
    } else if (text[i] == ')' || text[i] == ']') {
      --depth;
    }
  }
  return arguments;
}

// "normal(0, 1)", "uniform(-1, 1)", "cumulative(total, longest)" or "permutation(count)".
InputSpec parse_input(const Field& field, const OperatorManifest& op, const TensorSpec& tensor) {
  struct Known {
    const char* name;
    InputSpec::Rule rule;
    std::size_t least, most;  // arguments
    bool of_indices;
  };
  static constexpr std::array<Known, 4> rules{
      {{"normal", InputSpec::Rule::normal, 2, 2, false},
       {"uniform", InputSpec::Rule::uniform, 2, 2, false},
       {"cumulative", InputSpec::Rule::cumulative, 1, 2, true},
       {"permutation", InputSpec::Rule::permutation, 1, 1, true}}};
  const std::string text = field.text();
  const auto open = text.find('(');
  const auto known = std::find_if(rules.begin(), rules.end(), [&](const Known& rule) {
    return text.substr(0, open) == rule.name;
  });
  InputSpec spec;
  if (open != std::string::npos && text.back() == ')' && known != rules.end()) try {
      spec = {known->rule,
              parse_arguments(std::string_view(text).substr(open + 1, text.size() - open - 2))};
    } catch (const Error& error) {
      field.fail(error.what());
    }
  if (known == rules.end() || spec.arguments.size() < known->least ||
      spec.arguments.size() > known->most)
    field.fail(
        fmt::format("\"{}\" is not normal(mean, deviation), uniform(low, high), "
                    "cumulative(total, longest) or permutation(count)",
                    text));
  if (known->of_indices && tensor.dtype != "i32" && tensor.dtype != "i64")
    field.fail(
        fmt::format("{} is {}; {} is for i32 and i64", tensor.name, tensor.dtype, known->name));
  check_names(field, spec.arguments, problem_names(op));
  return spec;
}

void check_distinct(const Field& field, const OperatorManifest& op) {
  std::set<std::string> seen{"aligned", "base_aligned"};
  const auto add = [&](const std::string& name) {
    if (!seen.insert(name).second) field.fail(fmt::format("the name \"{}\" is used twice", name));
  };
  for (const auto& name : op.dimensions) add(name);
  for (const auto& name : op.strides) add(name);
  for (const auto& spec : op.dtypes) add(spec.symbol);
  for (const auto& option : op.options) add(option.name);
  for (const auto& tensor : op.tensors) add(tensor.name);
  for (const auto& tensor : op.tensors)
    if (tensor.optional) add("has_" + tensor.name);
  for (const auto& scalar : op.scalars) add(scalar.name);
}

std::optional<Expression> optional_expression(const Field& field, const std::string& key,
                                              const std::set<std::string>& known) {
  if (!field.has(key)) return std::nullopt;
  Expression expression = field.at(key).expression();
  check_names(field.at(key), expression, known);
  return expression;
}

std::vector<Expression> optional_expressions(const Field& field, const std::string& key,
                                             const std::set<std::string>& known) {
  if (!field.has(key)) return {};
  auto expressions = field.at(key).expressions();
  check_names(field.at(key), expressions, known);
  return expressions;
}

// One to three extents of a grid, block or cluster.
std::vector<Expression> extents(const Field& field, const std::string& key,
                                const std::set<std::string>& known) {
  auto expressions = optional_expressions(field, key, known);
  if (expressions.size() > 3) field.at(key).fail("at most three extents");
  return expressions;
}

void parse_parameters(const Field& field, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_constant(member, name);
    ParameterSpec parameter{name, {}};
    member.each_element([&](const Field& element) { add_value(element, parameter.values); });
    if (parameter.values.empty()) member.fail("no values");
    kernel.parameters.push_back(std::move(parameter));
  });
}

void parse_defaults(const Field& field, std::set<std::string> known, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    const bool is_parameter =
        std::any_of(kernel.parameters.begin(), kernel.parameters.end(),
                    [&](const auto& parameter) { return parameter.name == name; });
    if (!is_parameter) member.fail(fmt::format("\"{}\" is not a parameter", name));
    Expression expression = member.expression();
    // A string that is one of the parameter's values is that value, not an expression.
    if (member.json().is_string())
      for (const auto& parameter : kernel.parameters)
        if (parameter.name == name && std::find(parameter.values.begin(), parameter.values.end(),
                                                Value(member.text())) != parameter.values.end())
          expression = Expression::constant(member.text());
    check_names(member, expression, known);
    known.insert(name);  // later defaults may build on earlier ones
    kernel.defaults.emplace(name, std::move(expression));
    kernel.default_order.push_back(name);
  });
}

Zeroed zeroed_of(const Field& workspace) {
  if (!workspace.has("zero")) return Zeroed::no;
  const Field zero = workspace.at("zero");
  if (zero.json() == "kept") return Zeroed::kept;
  if (!zero.json().is_boolean()) zero.fail("expected true, false or \"kept\"");
  return zero.json().get<bool>() ? Zeroed::every_launch : Zeroed::no;
}

void parse_workspaces(const Field& field, const std::set<std::string>& known,
                      KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_identifier(member, name);
    if (known.contains(name)) member.fail(fmt::format("the name \"{}\" is used twice", name));
    member.allow_keys({"bytes", "zero", "when"});
    WorkspaceSpec workspace;
    workspace.name = name;
    workspace.bytes = member.at("bytes").expression();
    check_names(member.at("bytes"), workspace.bytes, known);
    workspace.zeroed = zeroed_of(member);
    workspace.when = optional_expression(member, "when", known);
    kernel.workspaces.push_back(std::move(workspace));
  });
}

// What a tensor map describes: a tensor, a workspace, or an expression that gives the name of one.
Expression parse_described(const Field& field, const std::set<std::string>& known,
                           const OperatorManifest& op, const KernelTemplate& kernel,
                           const TensorMapSpec& map) {
  const std::string text = field.text_or("tensor", map.name);
  if (op.tensor_index(text)) return Expression::constant(text);
  const bool is_workspace =
      std::any_of(kernel.workspaces.begin(), kernel.workspaces.end(),
                  [&](const auto& workspace) { return workspace.name == text; });
  const bool is_word = std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  });
  if (!is_workspace && is_word)
    field.fail(fmt::format("\"{}\" is neither a tensor nor a workspace", text));
  if (map.dtype.empty())
    field.fail("a tensor map of anything but a tensor named outright needs \"dtype\"");
  if (is_workspace) return Expression::constant(text);
  Expression expression = field.at("tensor").expression();
  check_names(field.at("tensor"), expression, known);
  return expression;
}

void parse_tensor_maps(const Field& field, const std::set<std::string>& known,
                       const OperatorManifest& op, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_identifier(member, name);
    if (known.contains(name)) member.fail(fmt::format("the name \"{}\" is used twice", name));
    member.allow_keys(
        {"tensor", "when", "dims", "strides", "box", "swizzle", "l2_promotion", "dtype"});
    TensorMapSpec map;
    map.name = name;
    map.when = optional_expression(member, "when", known);
    map.dtype = member.text_or("dtype", "");
    map.tensor = parse_described(member, known, op, kernel, map);
    map.dimensions = member.at("dims").expressions();
    map.box = member.at("box").expressions();
    map.strides = optional_expressions(member, "strides", known);
    check_names(member.at("dims"), map.dimensions, known);
    check_names(member.at("box"), map.box, known);
    if (map.dimensions.empty() || map.dimensions.size() > 5)
      member.at("dims").fail("a tensor map has one to five dimensions");
    if (map.box.size() != map.dimensions.size())
      member.at("box").fail("as many extents as \"dims\" are needed");
    if (!map.strides.empty() && map.strides.size() + 1 != map.dimensions.size())
      member.at("strides").fail("one stride for each dimension but the innermost is needed");
    map.swizzle = optional_expression(member, "swizzle", known);
    map.l2_promotion = optional_expression(member, "l2_promotion", known);
    kernel.tensor_maps.push_back(std::move(map));
  });
}

ArgumentSpec parse_argument(const Field& field, const std::set<std::string>& known,
                            const std::set<std::string>& pointers) {
  ArgumentSpec argument;
  if (field.json().is_object()) {
    field.allow_keys({"value", "type"});
    argument.value = field.at("value").expression();
    argument.type = field.text_or("type", "");
    if (!argument.type.empty() && argument.type != "i32" && argument.type != "i64" &&
        argument.type != "f32")
      field.at("type").fail(fmt::format("\"{}\" is not i32, i64 or f32", argument.type));
  } else {
    if (field.json().is_string() && pointers.contains(field.text())) {
      argument.name = field.text();
      return argument;
    }
    argument.value = field.expression();
  }
  check_names(field, *argument.value, known);
  return argument;
}

void parse_launches(const Field& field, const std::set<std::string>& known,
                    const std::set<std::string>& pointers, KernelTemplate& kernel) {
  field.each_element([&](const Field& member) {
    member.allow_keys({"entry", "when", "grid", "block", "cluster", "shared_memory", "args"});
    LaunchSpec launch;
    launch.entry = member.at("entry").text();
    check_identifier(member.at("entry"), launch.entry);
    launch.when = optional_expression(member, "when", known);
    launch.grid = extents(member, "grid", known);
    launch.block = extents(member, "block", known);
    launch.cluster = extents(member, "cluster", known);
    if (launch.grid.empty()) member.fail("\"grid\" is missing or empty");
    if (launch.block.empty()) launch.block.push_back(Expression::constant(std::int64_t{1}));
    launch.shared_memory = optional_expression(member, "shared_memory", known);
    member.at("args").each_element([&](const Field& element) {
      launch.arguments.push_back(parse_argument(element, known, pointers));
    });
    kernel.launches.push_back(std::move(launch));
  });
  if (kernel.launches.empty()) field.fail("a template launches at least one kernel");
}

}  // namespace

template <class T>
const T& Alternatives<T>::at(const Values& values) const {
  const auto holds = [&](const auto& entry) {
    const auto found = values.find(entry.first);
    return found == values.end() ? !is_true(entry.second) : found->second == entry.second;
  };
  for (const auto& [when, choice] : choices)
    if (std::all_of(when.begin(), when.end(), holds)) return choice;
  throw Error(ErrorCode::internal, fmt::format("nothing for {}", to_text(values)));
}
template struct Alternatives<ShapeSpec>;
template struct Alternatives<StrideSpec>;

std::string DimensionSpec::text() const {
  if (derived) return derived->text();
  if (symbol.empty()) return std::to_string(constant);
  return optional ? symbol + "?" : symbol;
}

std::int64_t DimensionSpec::extent(const Values& values) const {
  if (!symbol.empty()) return std::get<std::int64_t>(values.at(symbol));
  if (!derived) return constant;
  const std::int64_t extent = as_integer(derived->evaluate(Scope(values)), derived->text());
  if (extent < 0)
    throw Error(ErrorCode::invalid_manifest,
                fmt::format("a tensor's dimension {} is {}", derived->text(), extent));
  return extent;
}

CallOrder OperatorManifest::call_order() const noexcept {
  const auto outputs_end = std::find_if(tensors.rbegin(), tensors.rend(), [](const auto& tensor) {
    return !tensor.output || tensor.optional;
  });
  const auto optional_end = std::find_if_not(outputs_end, tensors.rend(),
                                             [](const auto& tensor) { return tensor.optional; });
  return {tensors.size(), static_cast<std::size_t>(outputs_end - tensors.rbegin()),
          static_cast<std::size_t>(optional_end - outputs_end)};
}

std::optional<std::size_t> OperatorManifest::tensor_index(std::string_view tensor) const {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].name == tensor) return i;
  return std::nullopt;
}

bool OperatorManifest::is_dimension(std::string_view symbol) const {
  return std::find(dimensions.begin(), dimensions.end(), symbol) != dimensions.end();
}

bool OperatorManifest::is_optional_dimension(std::string_view symbol) const {
  return std::find(optional_dimensions.begin(), optional_dimensions.end(), symbol) !=
         optional_dimensions.end();
}

bool OperatorManifest::is_stride(std::string_view symbol) const {
  return std::find(strides.begin(), strides.end(), symbol) != strides.end();
}

OperatorManifest parse_operator(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  const Field root(json, origin, "");
  root.allow_keys({"$schema", "op", "doc", "dtypes", "options", "tensors", "scalars", "requires",
                   "tuning_key", "flops", "bytes", "inputs", "reference", "tolerance"});
  OperatorManifest op;
  op.origin = origin;
  op.name = root.at("op").text();
  check_identifier(root.at("op"), op.name);
  op.doc = root.text_or("doc", "");
  op.hash = content_hash({text});
  if (root.has("dtypes")) parse_dtypes(root.at("dtypes"), op);
  if (root.has("options")) parse_options(root.at("options"), op);
  parse_tensors(root.at("tensors"), op);
  if (root.has("scalars")) parse_scalars(root.at("scalars"), op);
  check_distinct(root, op);
  const auto known = problem_names(op);
  op.requires_ = optional_expressions(root, "requires", known);
  if (root.has("tuning_key"))
    root.at("tuning_key").each_member([&](const std::string& name, const Field& member) {
      if (!known.contains(name)) member.fail(fmt::format("\"{}\" is not a problem value", name));
      op.tuning_key.emplace_back(name, member.expression());
      check_names(member, op.tuning_key.back().second, known);
    });
  op.flops = optional_expression(root, "flops", known);
  op.bytes = optional_expression(root, "bytes", known);
  if (root.has("inputs"))
    root.at("inputs").each_member([&](const std::string& name, const Field& member) {
      const auto index = op.tensor_index(name);
      if (!index || op.tensors[*index].output)
        member.fail(fmt::format("\"{}\" is not an input tensor", name));
      op.inputs[name] = parse_input(member, op, op.tensors[*index]);
    });
  op.reference = root.text_or("reference", "reference");
  if (root.has("tolerance"))
    root.at("tolerance").each_member([&](const std::string& name, const Field& member) {
      if (!data_type_named(name)) member.fail(fmt::format("unknown data type \"{}\"", name));
      op.tolerance[name] = member.expression();
      check_names(member, op.tolerance[name], known);
    });
  return op;
}

KernelTemplate parse_template(std::string_view text, const std::string& origin,
                              const OperatorManifest& op) {
  const Json json = parse_json(text, origin);
  const Field root(json, origin, "");
  root.allow_keys({"$schema", "template", "backend", "doc", "source", "requires", "compile_time",
                   "parameters", "default", "let", "constraints", "prior", "tensor_maps",
                   "workspace", "launches", "compile_options"});
  KernelTemplate kernel;
  kernel.op = op.name;
  kernel.origin = origin;
  kernel.name = root.at("template").text();
  check_identifier(root.at("template"), kernel.name);
  kernel.backend = root.at("backend").text();
  if (kernel.backend != "cuda" && kernel.backend != "host")
    root.at("backend").fail(fmt::format("\"{}\" is not cuda or host", kernel.backend));
  kernel.doc = root.text_or("doc", "");
  kernel.source_file =
      root.text_or("source", kernel.name + (kernel.backend == "cuda" ? ".cu" : ".cpp"));

  std::set<std::string> known = problem_names(op);
  for (const auto& [name, value] : Device{}.facts()) known.insert(name);
  kernel.requires_ = optional_expressions(root, "requires", known);
  if (root.has("compile_time")) {
    kernel.compile_time = root.at("compile_time").texts();
    const auto is_let = [&](const std::string& name) {
      return root.has("let") && root.at("let").has(name);
    };
    for (const auto& name : kernel.compile_time)
      if ((!known.contains(name) || name.starts_with("device.")) && !is_let(name))
        root.at("compile_time")
            .fail(fmt::format("\"{}\" is not a problem value, nor in \"let\"", name));
  }

  if (root.has("parameters")) parse_parameters(root.at("parameters"), kernel);
  if (root.has("default")) parse_defaults(root.at("default"), known, kernel);
  const auto add_name = [&](const Field& field, const std::string& name) {
    const bool is_scalar = std::any_of(op.scalars.begin(), op.scalars.end(),
                                       [&](const auto& scalar) { return scalar.name == name; });
    if (is_scalar || op.tensor_index(name) || !known.insert(name).second)
      field.fail(fmt::format("the name \"{}\" is used twice", name));
  };
  for (const auto& parameter : kernel.parameters) add_name(root.at("parameters"), parameter.name);
  if (root.has("let"))
    root.at("let").each_member([&](const std::string& name, const Field& member) {
      check_constant(member, name);
      Expression expression = member.expression();
      check_names(member, expression, known);
      add_name(member, name);
      kernel.let.emplace_back(name, std::move(expression));
    });
  kernel.constraints = optional_expressions(root, "constraints", known);
  kernel.prior = optional_expression(root, "prior", known);
  if (root.has("workspace")) parse_workspaces(root.at("workspace"), known, kernel);
  if (root.has("tensor_maps")) parse_tensor_maps(root.at("tensor_maps"), known, op, kernel);

  std::set<std::string> pointers;
  for (const auto& tensor : op.tensors) pointers.insert(tensor.name);
  for (const auto& scalar : op.scalars)
    if (!scalar.in_problem) pointers.insert(scalar.name);
  for (const auto& map : kernel.tensor_maps) pointers.insert(map.name);
  for (const auto& workspace : kernel.workspaces)
    if (!pointers.insert(workspace.name).second)
      root.at("workspace").fail(fmt::format("the name \"{}\" is used twice", workspace.name));
  parse_launches(root.at("launches"), known, pointers, kernel);
  if (root.has("compile_options")) kernel.compile_options = root.at("compile_options").texts();
  return kernel;
}

}  // namespace cudadent
