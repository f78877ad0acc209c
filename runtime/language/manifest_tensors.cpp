#include "runtime/language/manifest_tensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "runtime/language/linear.h"
#include "runtime/language/value.h"

namespace cudadent {

namespace {

// "m", or of the first dimension "m?" too, or an expression.
DimensionSpec parse_dimension(const Field& field, bool is_first) {
  const auto is_of_name = [](char letter) { return is_word_letter(letter) || letter == '?'; };
  const std::string text = field.json().is_string() ? field.text() : "";
  const bool is_name = std::all_of(text.begin(), text.end(), is_of_name);
  DimensionSpec dimension;
  if (!is_name) {
    dimension.derived = field.expression();
    if (const auto linear = linear_in_its_name(*dimension.derived))
      dimension.binds = {dimension.derived->names().front(), linear->factor, linear->offset};
  } else if (field.json().is_string()) {
    dimension.symbol = text;
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

void add_dimensions(TensorSpec& tensor, const Deciders& deciders, OperatorManifest& op) {
  for (auto& [when, shape] : tensor.shapes.choices)
    for (auto& dimension : shape) {
      // What an option says is no dimension to bind.
      if (dimension.binds && deciders.contains(dimension.binds->symbol)) dimension.binds.reset();
      if (dimension.bound_symbol().empty()) continue;
      add_new(op.dimensions, dimension.bound_symbol());
      if (dimension.optional) add_new(op.optional_dimensions, dimension.symbol);
    }
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

std::string parse_dtype(const Field& field, const OperatorManifest& op) {
  std::string dtype = field.text();
  if (!data_type_named(dtype) && !op.dtype_index(dtype))
    field.fail(fmt::format("\"{}\" is neither a data type nor a symbol of \"dtypes\"", dtype));
  return dtype;
}

// Expressions in shapes are of what all tensors together bind.
void check_derived_dimensions(const Field& field, const OperatorManifest& op) {
  Names known(op.dimensions.begin(), op.dimensions.end());
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

// An output may be inputs that have its shape and type.
void check_in_place(const Field& field, const OperatorManifest& op) {
  for (const auto& tensor : op.tensors)
    for (const auto& name : tensor.in_place) {
      const Field at = field.at(tensor.name).at("in_place");
      const auto input = op.tensor_index(name);
      if (!tensor.output) at.fail("only an output is in the place of an input");
      if (!input || op.tensors[*input].output)
        at.fail(fmt::format("\"{}\" is not an input tensor", name));
      if (op.tensors[*input].dtype != tensor.dtype)
        at.fail(fmt::format("{} is {}, {} is {}", name, op.tensors[*input].dtype, tensor.name,
                            tensor.dtype));
    }
}

}  // namespace

void parse_tensors(const Field& field, OperatorManifest& op) {
  const Deciders deciders = deciders_of(field, op);
  field.each_member([&](const std::string& name, const Field& member) {
    check_identifier(member, name);
    member.allow_keys(
        {"shape", "strides", "dtype", "role", "optional", "any_alignment", "in_place", "doc"});
    TensorSpec tensor;
    tensor.name = name;
    tensor.doc = member.prose_at("doc");
    tensor.shapes = parse_alternatives(member.at("shape"), deciders, "shape", parse_shape);
    if (member.has("strides"))
      tensor.strides = parse_alternatives(member.at("strides"), deciders, "strides", parse_strides);
    check_strides(member, tensor);
    tensor.dtype = parse_dtype(member.at("dtype"), op);
    const std::string role = member.text_or("role", "input");
    if (role != "input" && role != "output")
      member.at("role").fail(fmt::format("\"{}\" is neither input nor output", role));
    tensor.output = role == "output";
    tensor.optional = member.flag_or("optional", false);
    tensor.any_alignment = member.flag_or("any_alignment", false);
    if (member.has("in_place")) tensor.in_place = member.at("in_place").texts();
    add_dimensions(tensor, deciders, op);
    add_strides(member, tensor, op);
    op.tensors.push_back(std::move(tensor));
  });
  if (std::none_of(op.tensors.begin(), op.tensors.end(), [](const auto& t) { return t.output; }))
    field.fail("no tensor has \"role\": \"output\"");
  if (op.tensors.size() > max_tensors)
    field.fail(fmt::format("{} tensors; at most {}", op.tensors.size(), max_tensors));
  check_derived_dimensions(field, op);
  check_in_place(field, op);
}

}  // namespace cudadent
