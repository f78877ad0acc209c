#include "tuner/constraint_program.h"

#include <fmt/format.h>

#include <variant>

namespace cudadent {

using NodeIndex = ConstraintProgram::NodeIndex;

ConstraintProgram::ConstraintProgram(const SpaceDefinition& definition)
    : definition_(definition), graph_(definition.known) {
  for (std::uint32_t i = 0; i < definition.parameters.size(); ++i) {
    const ParameterSpec& parameter = definition.parameters[i];
    graph_.define(parameter.name, parameter.values.size() == 1
                                      ? graph_.add_constant(Operand::of(parameter.values[0]))
                                      : graph_.add_variable(i));
  }
  for (const auto& [name, expression] : definition.let)
    graph_.define(name, graph_.compile(expression));
  for (std::uint32_t i = 0; i < definition.constraints.size(); ++i) add_constraint(i);
}

void ConstraintProgram::add_constraint(std::uint32_t source) {
  const NodeIndex root = graph_.compile(definition_.constraints[source]);
  const Node& node = nodes()[root];
  if (node.operation == Operation::logical_and) {
    for (const NodeIndex child : node.children) constraints_.push_back({child, source, true});
  }
  constraints_.push_back({root, source, false});
}

std::optional<NodeIndex> ConstraintProgram::variable(std::uint32_t parameter) const {
  const auto found = graph_.defined(definition_.parameters[parameter].name);
  if (!found) return std::nullopt;
  const Node& node = nodes()[*found];
  const bool is_it = node.operation == Operation::name && node.variables[0] == parameter;
  return is_it ? found : std::nullopt;
}

namespace {

using Failures = std::map<std::string, Error, std::less<>>;  // of derived values

// What an expression evaluates to, or why it does not; a derived value it needed is blamed first.
std::variant<Value, Error> outcome(const Expression& expression, const Values& values,
                                   const Failures& failed) {
  for (const std::string& name : expression.names()) {
    const auto found = failed.find(name);
    if (found == failed.end()) continue;
    // Only if it matters: not where a branch does without it.
    const std::string blamed = fmt::format("unknown name '{}'", name);
    try {
      return expression.evaluate(Scope(values));
    } catch (const Error& error) {
      const bool mattered = std::string_view(error.what()).find(blamed) != std::string_view::npos;
      if (mattered) return found->second;
    }
  }
  try {
    return expression.evaluate(Scope(values));
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace

void ConstraintProgram::report_failure(std::uint32_t constraint,
                                       std::span<const std::uint16_t> positions) const {
  Values values = definition_.known;
  for (std::size_t i = 0; i < definition_.parameters.size(); ++i) {
    const ParameterSpec& parameter = definition_.parameters[i];
    values[parameter.name] = parameter.values[positions[i]];
  }
  Failures failed;
  for (const auto& [name, expression] : definition_.let) {
    auto result = outcome(expression, values, failed);
    if (const auto* error = std::get_if<Error>(&result)) {
      failed.insert_or_assign(name, *error);
    } else {
      values[name] = std::get<Value>(result);
    }
  }
  const Expression& expression = definition_.constraints[constraint];
  const auto result = outcome(expression, values, failed);
  if (const auto* error = std::get_if<Error>(&result)) {
    throw Error(error->code(),
                fmt::format("constraint '{}': {}", expression.text(), error->what()));
  }
  throw Error(ErrorCode::internal,
              fmt::format("constraint '{}' failed, and then did not", expression.text()));
}

}  // namespace cudadent
