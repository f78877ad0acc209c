#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "runtime/language/backend_kind.h"
#include "runtime/language/device.h"
#include "runtime/language/manifest.h"
#include "runtime/language/manifest_field.h"
#include "runtime/language/manifest_operator.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// Problem values, and names of "let"; `known` has the facts of the device too, which are neither.
std::vector<std::string> parse_compile_time(const Field& root, const Names& known) {
  const Field field = root.at("compile_time");
  std::vector<std::string> names = field.texts();
  const auto is_let = [&](const std::string& name) {
    return root.has("let") && root.at("let").has(name);
  };
  for (const auto& name : names)
    if ((!known.contains(name) || name.starts_with("device.")) && !is_let(name))
      field.fail(fmt::format("\"{}\" is not a problem value, nor in \"let\"", name));
  return names;
}

// One to three extents of a grid, block or cluster.
std::vector<Expression> extents(const Field& field, const std::string& key, const Names& known) {
  auto expressions = field.expressions_at(key, known);
  if (expressions.size() > 3) field.at(key).fail("at most three extents");
  return expressions;
}

void parse_parameters(const Field& field, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_constant(member, name);
    kernel.parameters.push_back({name, member.values()});
  });
}

void parse_defaults(const Field& field, Names known, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    const ParameterSpec* parameter = kernel.parameter(name);
    if (parameter == nullptr) member.fail(fmt::format("\"{}\" is not a parameter", name));
    Expression expression = member.expression();
    // A string that is one of the parameter's values is that value, not an expression.
    const auto& values = parameter->values;
    if (member.json().is_string() &&
        std::find(values.begin(), values.end(), Value(member.text())) != values.end())
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

void check_new_identifier(const Field& field, const std::string& name, const Names& known) {
  check_identifier(field, name);
  if (known.contains(name)) fail_used_twice(field, name);
}

void parse_workspaces(const Field& field, const Names& known, KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_new_identifier(member, name, known);
    member.allow_keys({"bytes", "zero", "when"});
    WorkspaceSpec workspace;
    workspace.name = name;
    workspace.bytes = member.at("bytes").expression(known);
    workspace.zeroed = zeroed_of(member);
    workspace.when = member.expression_at("when", known);
    kernel.workspaces.push_back(std::move(workspace));
  });
}

// What a tensor map describes: a tensor, a workspace, or an expression that gives the name of one.
Expression parse_described(const Field& field, const Names& known, const OperatorManifest& op,
                           const KernelTemplate& kernel, const TensorMapSpec& map) {
  const std::string text = field.text_or("tensor", map.name);
  if (op.tensor_index(text)) return Expression::constant(text);
  const bool is_workspace = kernel.workspace_index(text).has_value();
  if (!is_workspace && is_word(text))
    field.fail(fmt::format("\"{}\" is neither a tensor nor a workspace", text));
  if (map.dtype.empty())
    field.fail("a tensor map of anything but a tensor named outright needs \"dtype\"");
  if (is_workspace) return Expression::constant(text);
  return field.at("tensor").expression(known);
}

void parse_tensor_maps(const Field& field, const Names& known, const OperatorManifest& op,
                       KernelTemplate& kernel) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_new_identifier(member, name, known);
    member.allow_keys(
        {"tensor", "when", "dims", "strides", "box", "swizzle", "l2_promotion", "dtype"});
    TensorMapSpec map;
    map.name = name;
    map.when = member.expression_at("when", known);
    map.dtype = member.text_or("dtype", "");
    map.tensor = parse_described(member, known, op, kernel, map);
    map.dimensions = member.at("dims").expressions(known);
    map.box = member.at("box").expressions(known);
    map.strides = member.expressions_at("strides", known);
    if (map.dimensions.empty() || map.dimensions.size() > 5)
      member.at("dims").fail("a tensor map has one to five dimensions");
    if (map.box.size() != map.dimensions.size())
      member.at("box").fail("as many extents as \"dims\" are needed");
    if (!map.strides.empty() && map.strides.size() + 1 != map.dimensions.size())
      member.at("strides").fail("one stride for each dimension but the innermost is needed");
    map.swizzle = member.expression_at("swizzle", known);
    map.l2_promotion = member.expression_at("l2_promotion", known);
    kernel.tensor_maps.push_back(std::move(map));
  });
}

// What an argument may be by its name alone: all others are expressions.
Names names_of_arguments(const Field& root, const OperatorManifest& op,
                         const KernelTemplate& kernel) {
  Names names;
  for (const auto& tensor : op.tensors) names.insert(tensor.name);
  for (const auto& scalar : op.scalars)
    if (!scalar.in_problem) names.insert(scalar.name);
  for (const auto& map : kernel.tensor_maps) names.insert(map.name);
  for (const auto& workspace : kernel.workspaces)
    if (!names.insert(workspace.name).second) fail_used_twice(root.at("workspace"), workspace.name);
  return names;
}

ArgumentSpec parse_argument(const Field& field, const Names& known, const Names& arguments) {
  ArgumentSpec argument;
  if (field.json().is_object()) {
    field.allow_keys({"value", "type"});
    argument.value = field.at("value").expression();
    argument.type = field.text_or("type", "");
    if (!argument.type.empty() && argument.type != "i32" && argument.type != "i64" &&
        argument.type != "f32")
      field.at("type").fail(fmt::format("\"{}\" is not i32, i64 or f32", argument.type));
  } else {
    if (field.json().is_string() && arguments.contains(field.text())) {
      argument.name = field.text();
      return argument;
    }
    argument.value = field.expression();
  }
  check_names(field, *argument.value, known);
  return argument;
}

void parse_launches(const Field& field, const Names& known, const Names& arguments,
                    KernelTemplate& kernel) {
  field.each_element([&](const Field& member) {
    member.allow_keys({"entry", "when", "grid", "block", "cluster", "shared_memory", "args"});
    LaunchSpec launch;
    launch.entry = member.at("entry").text();
    check_identifier(member.at("entry"), launch.entry);
    launch.when = member.expression_at("when", known);
    launch.grid = extents(member, "grid", known);
    launch.block = extents(member, "block", known);
    launch.cluster = extents(member, "cluster", known);
    if (launch.grid.empty()) member.fail("\"grid\" is missing or empty");
    if (launch.block.empty()) launch.block.push_back(Expression::constant(std::int64_t{1}));
    launch.shared_memory = member.expression_at("shared_memory", known);
    member.at("args").each_element([&](const Field& element) {
      launch.arguments.push_back(parse_argument(element, known, arguments));
    });
    kernel.launches.push_back(std::move(launch));
  });
  if (kernel.launches.empty()) field.fail("a template launches at least one kernel");
}

// The text with each of the names in the place of which a text stands replaced, but not within quotes.
std::string with_parts(const std::string& text, const std::map<std::string, std::string>& parts) {
  std::string result;
  char quote = 0;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i + 1;
    if (quote == 0)
      while (is_word_letter(text[i]) && end < text.size() && is_word_letter(text[end])) ++end;
    const std::string piece = text.substr(i, end - i);
    const auto part = quote == 0 ? parts.find(piece) : parts.end();
    result += part == parts.end() ? piece : part->second;
    if (text[i] == quote)
      quote = 0;
    else if (quote == 0 && (text[i] == '\'' || text[i] == '"'))
      quote = text[i];
    i = end;
  }
  return result;
}

// An expression, or parts with names in order, of which "seconds" is the last. Parts are put in their places: what
// several have in common is computed once all the same, as a compiled prior has equal parts once.
std::optional<Expression> parse_prior(const Field& root, const Names& known) {
  if (!root.has("prior")) return std::nullopt;
  const Field field = root.at("prior");
  if (!field.json().is_object()) return field.expression(known);
  Names names = known;
  std::map<std::string, std::string> parts;
  std::optional<Expression> seconds;
  field.each_member([&](const std::string& name, const Field& member) {
    if (seconds) member.fail("\"seconds\" is the last part of a prior");
    check_identifier(member, name);
    static_cast<void>(member.expression(names));  // its errors are about what is written here
    if (!names.insert(name).second) fail_used_twice(member, name);
    const std::string text = with_parts(member.text(), parts);
    if (name == "seconds")
      seconds = Expression::parse(text);
    else
      parts[name] = "(" + text + ")";
  });
  if (!seconds) field.fail("a prior of parts needs \"seconds\", the last of them");
  return seconds;
}

}  // namespace

KernelTemplate parse_template(std::string_view text, const std::string& origin,
                              const OperatorManifest& op) {
  const Json json = manifest_json(text, origin);
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
  const BackendKind* backend = find_backend_kind(kernel.backend);
  if (backend == nullptr) {
    std::vector<std::string_view> names;
    for (const BackendKind* kind : backend_kinds()) names.push_back(kind->name);
    root.at("backend").fail(
        fmt::format("\"{}\" is not {}", kernel.backend, fmt::join(names, " or ")));
  }
  kernel.doc = root.text_or("doc", "");
  kernel.source_file = root.text_or("source", kernel.name + std::string(backend->source_suffix));

  Names known = problem_names(op);
  for (const auto& [name, value] : Device{}.facts()) known.insert(name);
  kernel.requires_ = root.expressions_at("requires", known);
  if (root.has("compile_time")) kernel.compile_time = parse_compile_time(root, known);
  if (root.has("parameters")) parse_parameters(root.at("parameters"), kernel);
  if (root.has("default")) parse_defaults(root.at("default"), known, kernel);
  const auto add_name = [&](const Field& field, const std::string& name) {
    if (op.scalar_index(name) || op.tensor_index(name) || !known.insert(name).second)
      fail_used_twice(field, name);
  };
  for (const auto& parameter : kernel.parameters) add_name(root.at("parameters"), parameter.name);
  if (root.has("let"))
    root.at("let").each_member([&](const std::string& name, const Field& member) {
      check_constant(member, name);
      Expression expression = member.expression(known);
      add_name(member, name);
      kernel.let.emplace_back(name, std::move(expression));
    });
  kernel.constraints = root.expressions_at("constraints", known);
  kernel.prior = parse_prior(root, known);
  if (root.has("workspace")) parse_workspaces(root.at("workspace"), known, kernel);
  if (root.has("tensor_maps")) parse_tensor_maps(root.at("tensor_maps"), known, op, kernel);
  parse_launches(root.at("launches"), known, names_of_arguments(root, op, kernel), kernel);
  if (root.has("compile_options")) kernel.compile_options = root.at("compile_options").texts();
  // What is tried first changes nothing of what was measured.
  kernel.hash = manifest_hash(json, {"$schema", "doc", "prior"});
  return kernel;
}

}  // namespace cudadent
