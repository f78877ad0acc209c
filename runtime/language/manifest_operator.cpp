#include "runtime/language/manifest_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/language/manifest_hash.h"
#include "runtime/language/manifest_tensors.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// A data type, or an expression of earlier symbols.
Expression parse_default_dtype(const Field& field, const OperatorManifest& op) {
  Expression expression = field.expression();
  Names earlier;
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
    op.options.push_back({name, member.values()});
  });
}

// Dimensions, data types, options and which tensors are there.
Names names_of_tensors(const OperatorManifest& op) {
  Names names(op.dimensions.begin(), op.dimensions.end());
  for (const auto& spec : op.dtypes) names.insert(spec.symbol);
  for (const auto& option : op.options) names.insert(option.name);
  for (const auto& tensor : op.tensors)
    if (tensor.optional) names.insert("has_" + tensor.name);
  return names;
}

void parse_limits(const Field& field, ScalarSpec& scalar) {
  if (scalar.integer) {  // of 64 bits
    scalar.least = -9223372036854775808.0;
    scalar.most = 9223372036854775808.0;
  }
  const auto limit = [&](const char* key, double& value) {
    if (!field.has(key)) return;
    if (!field.at(key).json().is_number()) field.at(key).fail("expected a number");
    value = field.at(key).json().get<double>();
  };
  limit("least", scalar.least);
  limit("most", scalar.most);
  if (scalar.least > scalar.most)
    field.fail(fmt::format("no number is from {} to {}", scalar.least, scalar.most));
}

void parse_scalars(const Field& field, OperatorManifest& op) {
  Names known = names_of_tensors(op);
  field.each_member([&](const std::string& name, const Field& member) {
    member.allow_keys({"default", "dtype", "in_problem", "least", "most", "doc"});
    const Field otherwise = member.at("default");
    if (otherwise.json().is_boolean())
      otherwise.fail(
          fmt::format("expected a number or an expression, found {}", otherwise.json().dump()));
    ScalarSpec scalar{.name = name, .otherwise = otherwise.expression(known)};
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
    parse_limits(member, scalar);
    if (scalar.in_problem) known.insert(name);
    op.scalars.push_back(std::move(scalar));
  });
  if (op.scalars.size() > max_scalars)
    field.fail(fmt::format("{} scalars; at most {}", op.scalars.size(), max_scalars));
}

// The expressions between the parentheses of "rule(…, …)": split at commas outside of any inside.
std::vector<Expression> parse_arguments(std::string_view text, const Words& words) {
  std::vector<Expression> arguments;
  int depth = 0;
  std::size_t start = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (depth == 0 && text[i] == ',')) {
      arguments.push_back(Expression::parse(text.substr(start, i - start), words));
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
              parse_arguments(std::string_view(text).substr(open + 1, text.size() - open - 2),
                              words_of(op))};
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
  const Names names = problem_names(op);
  for (const auto& argument : spec.arguments) check_names(field, argument, names);
  return spec;
}

void check_distinct(const Field& field, const OperatorManifest& op) {
  Names seen{"aligned", "base_aligned"};
  const auto add = [&](const std::string& name) {
    if (!seen.insert(name).second) fail_used_twice(field, name);
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

}  // namespace

Names problem_names(const OperatorManifest& op) {
  Names names = names_of_tensors(op);
  names.insert(op.strides.begin(), op.strides.end());
  for (const auto& scalar : op.scalars)
    if (scalar.in_problem) names.insert(scalar.name);
  names.insert({"aligned", "base_aligned"});
  return names;
}

void add_words(const std::vector<Value>& values, Words& words) {
  for (const auto& value : values)
    if (const auto* word = std::get_if<std::string>(&value)) words.insert(*word);
}

Words words_of(const OperatorManifest& op) {
  Words words = data_type_words();
  for (const auto& option : op.options) add_words(option.values, words);
  return words;
}

OperatorManifest parse_operator(std::string_view text, const std::string& origin) {
  const Json json = manifest_json(text, origin);
  ManifestContext context{origin, data_type_words()};
  const Field root(json, context, "");
  root.allow_keys({"$schema", "op", "doc", "dtypes", "options", "tensors", "scalars", "requires",
                   "tuning_key", "flops", "bytes", "inputs", "reference", "tolerance"});
  OperatorManifest op;
  op.origin = origin;
  op.name = root.at("op").text();
  check_identifier(root.at("op"), op.name);
  op.doc = root.prose_at("doc");
  if (root.has("dtypes")) parse_dtypes(root.at("dtypes"), op);
  if (root.has("options")) parse_options(root.at("options"), op);
  context.words = words_of(op);
  parse_tensors(root.at("tensors"), op);
  if (root.has("scalars")) parse_scalars(root.at("scalars"), op);
  check_distinct(root, op);
  const auto known = problem_names(op);
  check_words(root, context.words, known);
  op.requires_ = root.expressions_at("requires", known);
  if (root.has("tuning_key"))
    root.at("tuning_key").each_member([&](const std::string& name, const Field& member) {
      if (!known.contains(name)) member.fail(fmt::format("\"{}\" is not a problem value", name));
      op.tuning_key.emplace_back(name, member.expression(known));
    });
  op.flops = root.expression_at("flops", known);
  op.bytes = root.expression_at("bytes", known);
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
      op.tolerance[name] = member.expression(known);
    });
  op.hash = manifest_hash(op);
  return op;
}

}  // namespace cudadent
