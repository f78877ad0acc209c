#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "runtime/language/value.h"

namespace cudadent::cli {

namespace {

// The first requirement on the device alone that it does not meet; empty when the template may fit.
std::string why_never(const KernelTemplate& kernel, const Device& device) {
  if (kernel.backend != device.backend) return fmt::format("needs a {} device", kernel.backend);
  const Values facts = device.facts();
  for (const auto& condition : kernel.requires_) {
    const bool device_only =
        std::all_of(condition.names().begin(), condition.names().end(),
                    [](const std::string& name) { return name.starts_with("device."); });
    if (device_only && !is_true(condition.evaluate(Scope(facts))))
      return fmt::format("needs {}", condition.text());
  }
  return {};
}

nlohmann::json describe(const OperatorEntry& entry, const Device& device) {
  auto json = nlohmann::json{{"op", entry.manifest->name},
                             {"doc", entry.manifest->doc},
                             {"origin", entry.manifest->origin},
                             {"dimensions", entry.manifest->dimensions},
                             {"strides", entry.manifest->strides}};
  for (const auto& kernel : entry.templates) {
    auto parameters = nlohmann::json::object();
    for (const auto& parameter : kernel->parameters) {
      auto values = nlohmann::json::array();
      for (const auto& value : parameter.values) values.push_back(cudadent::to_json(value));
      parameters[parameter.name] = values;
    }
    const std::string why = why_never(*kernel, device);
    json["templates"].push_back({{"template", kernel->name},
                                 {"backend", kernel->backend},
                                 {"doc", kernel->doc},
                                 {"origin", kernel->origin},
                                 {"fits", why.empty()},
                                 {"why_not", why},
                                 {"parameters", parameters}});
  }
  return json;
}

std::string signature(const OperatorManifest& op) {
  std::vector<std::string> parts;
  for (const auto& dimension : op.dimensions)
    parts.push_back(op.is_optional_dimension(dimension) ? "[" + dimension + "=…]"
                                                        : dimension + "=…");
  for (const auto& spec : op.dtypes)
    parts.push_back(fmt::format("{}={}", spec.symbol, fmt::join(spec.values, "|")));
  for (const auto& option : op.options) {
    std::vector<std::string> values;
    for (const auto& value : option.values) values.push_back(to_text(value));
    parts.push_back(fmt::format("{}={}", option.name, fmt::join(values, "|")));
  }
  for (const auto& tensor : op.tensors)
    if (tensor.optional) parts.push_back(fmt::format("[{}=true]", tensor.name));
  for (const auto& scalar : op.scalars)
    parts.push_back(fmt::format("[{}={}]", scalar.name, scalar.otherwise.text()));
  for (const auto& stride : op.strides) parts.push_back(fmt::format("[{}=…]", stride));
  return fmt::format("{}", fmt::join(parts, " "));
}

void run_ops(const CommonOptions& options) {
  TemplateLibrary library = options.library();
  const Device device = device_facts(options.device);
  auto json = nlohmann::json::array();
  for (const auto& name : library.operators()) {
    const auto entry = library.find(name);
    if (options.json) {
      json.push_back(describe(*entry, device));
      continue;
    }
    fmt::print("{}  {}\n  {}\n", name, entry->manifest->doc, signature(*entry->manifest));
    std::vector<std::vector<std::string>> rows;
    for (const auto& kernel : entry->templates) {
      std::vector<std::string> parameters;
      for (const auto& parameter : kernel->parameters)
        parameters.push_back(fmt::format("{}({})", parameter.name, parameter.values.size()));
      const std::string why = why_never(*kernel, device);
      rows.push_back({"   ", why.empty() ? "✓" : "·", kernel->name, kernel->backend,
                      why.empty() ? fmt::format("{}", fmt::join(parameters, " ")) : why});
    }
    print_table(rows);
  }
  if (options.json)
    print_json(json);
  else
    fmt::print("✓ may fit {}; parameters with their number of values\n", device.name);
}

}  // namespace

void add_ops(const Command& program) {
  const auto command = program.subcommand(
      "ops", "list operators, their templates and parameters, and which fit the device");
  auto options = std::make_shared<CommonOptions>();
  options->add_to(command);
  command.run([options] { run_ops(*options); });
}

}  // namespace cudadent::cli
