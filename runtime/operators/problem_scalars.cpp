// Options and scalars of problems and calls.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "runtime/language/value.h"
#include "runtime/operators/problem_completion.h"

namespace cudadent {

namespace {

std::string list(const std::vector<Value>& values) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(to_text(value));
  return fmt::format("{}", fmt::join(texts, ", "));
}

// A number as it is among the problem's values.
Value value_of(const ScalarSpec& scalar, double number) {
  if (scalar.integer) return static_cast<std::int64_t>(number);
  return number;
}

}  // namespace

void check_scalar(const OperatorManifest& op, const ScalarSpec& scalar, double number) {
  constexpr double beyond = 9223372036854775808.0;  // 2^63
  const auto refuse = [&](const std::string& why) {
    reject(op, fmt::format("{}={} {}", scalar.name, number, why));
  };
  if (!std::isfinite(number)) refuse("is not a finite number; leave it out for its default");
  if (scalar.integer && (number != std::floor(number) || std::abs(number) >= beyond))
    refuse("is not an integer");
  if (number < scalar.least || number > scalar.most)
    refuse(fmt::format("is out of range, expected {} to {}", scalar.least, scalar.most));
}

std::vector<double> default_scalars(const Problem& problem) {
  std::vector<double> scalars;
  for (const auto& scalar : problem.op->scalars)
    scalars.push_back(as_real(scalar.otherwise.evaluate(Scope(problem.values)), scalar.name));
  return scalars;
}

std::vector<double> scalars_by_name(const OperatorManifest& op, const Values& given) {
  std::vector<double> scalars;
  for (const auto& scalar : op.scalars) {
    const auto found = given.find(scalar.name);
    scalars.push_back(found == given.end() ? NAN : as_real(found->second, scalar.name));
    if (found != given.end()) check_scalar(op, scalar, scalars.back());
  }
  return scalars;
}

void take_scalars(Problem& problem, std::span<const double> given) {
  const auto& specs = problem.op->scalars;
  if (!given.empty() && given.size() != specs.size())
    reject(*problem.op, fmt::format("{} scalars given, expected {}", given.size(), specs.size()));
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const bool is_given = !given.empty() && !std::isnan(given[i]);
    const double number =
        is_given ? given[i]
                 : as_real(specs[i].otherwise.evaluate(Scope(problem.values)), specs[i].name);
    if (is_given || specs[i].in_problem) check_scalar(*problem.op, specs[i], number);
    problem.scalars.push_back(number);
    if (specs[i].in_problem) problem.values[specs[i].name] = value_of(specs[i], number);
  }
}

Values complete_options(const OperatorManifest& op, const Values& given) {
  for (const auto& [name, value] : given)
    if (std::none_of(op.options.begin(), op.options.end(),
                     [&, &key = name](const auto& option) { return option.name == key; })) {
      std::vector<std::string> known;
      for (const auto& option : op.options) known.push_back(option.name);
      for (const auto& scalar : op.scalars) known.push_back(scalar.name);
      reject(op, fmt::format("unknown option \"{}\"; known: {}", name, fmt::join(known, ", ")));
    }
  Values options;
  for (const auto& option : op.options) {
    const auto found = given.find(option.name);
    const Value& value = found == given.end() ? option.values.front() : found->second;
    if (std::find(option.values.begin(), option.values.end(), value) == option.values.end())
      reject(op, fmt::format("{}={} is not allowed; expected one of {}", option.name,
                             to_text(value), list(option.values)));
    options[option.name] = value;
  }
  return options;
}

Bound bind_values(const OperatorManifest& op, const Values& given) {
  Values options = given;
  for (const auto& scalar : op.scalars) options.erase(scalar.name);
  auto scalars = scalars_by_name(op, given);
  return {complete_options(op, options), std::move(scalars)};
}

}  // namespace cudadent
