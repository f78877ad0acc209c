#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "runtime/language/backend_kind.h"
#include "runtime/language/device.h"
#include "runtime/language/manifest.h"
#include "runtime/language/manifest_field.h"
#include "runtime/language/manifest_hash.h"
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
    if (kernel.parameter(name) == nullptr)
      member.fail(fmt::format("\"{}\" is not a parameter", name));
    kernel.defaults.emplace(name, member.expression(known));
    known.insert(name);  // later defaults may build on earlier ones
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
                           const KernelTemplate& kernel, const TensorMapSpec& map,
                           ManifestContext context) {
  for (const auto& tensor : op.tensors) context.words.insert(tensor.name);
  for (const auto& workspace : kernel.workspaces) context.words.insert(workspace.name);
  Expression described = Expression::constant(map.name);
  if (field.has("tensor")) described = field.at("tensor").in(context).expression();
  const bool is_named = described.names().empty();
  const std::string name = is_named ? to_text(described.evaluate(Scope())) : described.text();
  if (is_named && op.tensor_index(name)) return described;
  if (is_named ? !kernel.workspace_index(name) : is_word(name))
    field.fail(fmt::format("\"{}\" is neither a tensor nor a workspace", name));
  check_names(field, described, known);
  if (map.dtype.empty())
    field.fail("a tensor map of anything but a tensor named outright needs \"dtype\"");
  return described;
}

void parse_tensor_maps(const Field& field, const Names& known, const OperatorManifest& op,
                       KernelTemplate& kernel, const ManifestContext& context) {
  field.each_member([&](const std::string& name, const Field& member) {
    check_new_identifier(member, name, known);
    member.allow_keys(
        {"tensor", "when", "dims", "strides", "box", "swizzle", "l2_promotion", "dtype"});
    TensorMapSpec map;
    map.name = name;
    map.when = member.expression_at("when", known);
    map.dtype = member.text_or("dtype", "");
    map.tensor = parse_described(member, known, op, kernel, map, context);
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
  if (field.json().is_object() && !field.is_choice()) {
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

// An expression, or an object of one and of names for its parts. `known` are the template's.
PriorSpec parse_prior(const Field& field, Names known) {
  if (!field.json().is_object() || field.is_choice()) return {{}, field.expression(known)};
  field.allow_keys({"let", "seconds"});
  PriorSpec prior;
  if (field.has("let"))
    field.at("let").each_member([&](const std::string& name, const Field& member) {
      check_identifier(member, name);
      prior.let.emplace_back(name, member.expression(known));
      if (!known.insert(name).second) fail_used_twice(member, name);
    });
  prior.seconds = field.at("seconds").expression(known);
  return prior;
}

}  // namespace

KernelTemplate parse_template(std::string_view text, const std::string& origin,
                              const OperatorManifest& op) {
  const Json json = manifest_json(text, origin);
  ManifestContext context{origin, words_of(op)};
  const Field root(json, context, "");
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
  kernel.doc = root.prose_at("doc");
  kernel.source_file = root.text_or("source", kernel.name + std::string(backend->source_suffix));

  Names known = problem_names(op);
  for (const auto& [name, value] : Device{}.facts()) known.insert(name);
  if (root.has("parameters")) parse_parameters(root.at("parameters"), kernel);
  for (const auto& parameter : kernel.parameters) add_words(parameter.values, context.words);
  kernel.requires_ = root.expressions_at("requires", known);
  if (root.has("compile_time")) kernel.compile_time = parse_compile_time(root, known);
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
  check_words(root, context.words, known);
  if (root.has("prior")) kernel.prior = parse_prior(root.at("prior"), known);
  if (root.has("workspace")) parse_workspaces(root.at("workspace"), known, kernel);
  if (root.has("tensor_maps"))
    parse_tensor_maps(root.at("tensor_maps"), known, op, kernel, context);
  parse_launches(root.at("launches"), known, names_of_arguments(root, op, kernel), kernel);
  if (root.has("compile_options")) kernel.compile_options = root.at("compile_options").texts();
  kernel.hash = manifest_hash(kernel);
  return kernel;
}

}  // namespace cudadent
