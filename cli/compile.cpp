#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/output.h"
#include "runtime/devices/devices.h"
#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"

namespace cudadent::cli {

namespace {

struct CompileCommand {
  CommonOptions common;
  ProblemWords problem;
  std::string architecture;
  std::vector<std::string> only;
  std::vector<std::string> parameters;
  bool dump_source = false;
  std::string output;
};

Values configuration_for(const CompileCommand& command, const KernelTemplate& kernel,
                         const Problem& problem, const Device& device) {
  auto configuration = default_configuration(kernel, problem, device);
  if (!configuration)
    throw Error(ErrorCode::unsupported,
                fmt::format("{}/{}: no valid configuration for {} on {}", kernel.op, kernel.name,
                            problem.describe(), device.name));
  ProblemWords given{kernel.op, command.parameters};
  for (const auto& [name, value] : given.values()) (*configuration)[name] = value;
  return *configuration;
}

// The specializations asked for: of every template that fits, in the manifest's order.
std::vector<Specialization> specializations(const CompileCommand& command, const Device& device) {
  TemplateLibrary library = command.common.library();
  const auto entry = library.find(command.problem.op);
  const Problem problem = make_problem(entry->manifest, command.problem.values());
  std::vector<Specialization> result;
  std::string reasons;
  for (const auto& kernel : entry->templates) {
    const bool named = std::count(command.only.begin(), command.only.end(), kernel->name) > 0;
    if (!command.only.empty() && !named) continue;
    if (const auto unfit = why_unfit(*kernel, problem, device); !unfit.empty()) {
      reasons += fmt::format("\n  {} requires {}", kernel->name, unfit);
      continue;
    }
    result.push_back(
        specialize(kernel, problem, configuration_for(command, *kernel, problem, device), device));
  }
  if (result.empty())
    throw Error(ErrorCode::unsupported, fmt::format("no template can do {} on {}:{}",
                                                    problem.describe(), device.name, reasons));
  return result;
}

Binary compile(const Specialization& specialization, const Device& device,
               const Environment& environment) {
  return make_compiler(backend_kind(device.backend), environment)->compile(specialization);
}

void print_binaries(const std::vector<Specialization>& specializations,
                    const std::vector<Binary>& binaries) {
  const auto count = [](std::int64_t n) { return n < 0 ? std::string("–") : std::to_string(n); };
  std::vector<std::vector<std::string>> rows{{"template", "entry", "registers", "spill B",
                                              "local B", "static shared B", "dynamic shared B",
                                              "compile", "binary", "configuration"}};
  for (std::size_t i = 0; i < binaries.size(); ++i)
    for (const auto& resources : binaries[i].resources) {
      std::uint32_t dynamic = 0;
      for (const auto& launch : specializations[i].plan.launches)
        if (launch.entry == resources.entry) dynamic = launch.shared_memory;
      rows.push_back({specializations[i].kernel_template->name, resources.entry,
                      count(resources.registers), count(resources.spill_bytes),
                      count(resources.local_bytes), count(resources.shared_bytes),
                      std::to_string(dynamic), duration_text(binaries[i].compile_seconds),
                      byte_text(static_cast<std::int64_t>(binaries[i].image.size())),
                      to_text(specializations[i].configuration)});
    }
  fmt::print("{} with {}\n", specializations.front().architecture, binaries.front().compiler);
  print_table(rows);
}

void print_binaries_json(const std::vector<Specialization>& specializations,
                         const std::vector<Binary>& binaries) {
  auto json = nlohmann::json::array();
  for (std::size_t i = 0; i < binaries.size(); ++i) {
    nlohmann::json part{{"template", specializations[i].kernel_template->name},
                        {"architecture", binaries[i].architecture},
                        {"compiler", binaries[i].compiler},
                        {"configuration", cudadent::to_json(specializations[i].configuration)},
                        {"compile_seconds", binaries[i].compile_seconds},
                        {"bytes", binaries[i].image.size()},
                        {"log", binaries[i].log}};
    for (const auto& resources : binaries[i].resources)
      part["kernels"].push_back(to_json(resources));
    for (const auto& launch : specializations[i].plan.launches)
      part["launches"].push_back({{"entry", launch.entry},
                                  {"grid", launch.grid},
                                  {"block", launch.block},
                                  {"cluster", launch.cluster},
                                  {"shared_memory", launch.shared_memory}});
    json.push_back(std::move(part));
  }
  print_json(json);
}

void run_compile(const CompileCommand& command) {
  const Environment environment = Environment::read();
  const Device device =
      device_facts(command.architecture.empty() ? command.common.device : command.architecture);
  const auto chosen = specializations(command, device);
  if (!command.output.empty() && chosen.size() > 1)
    throw Error(ErrorCode::invalid_argument, "--output needs one template: name it (--template)");
  if (command.dump_source) {
    if (!command.output.empty()) return write_file(command.output, chosen.front().source);
    for (const auto& specialization : chosen) fmt::print("{}", specialization.source);
    return;
  }
  std::vector<Binary> binaries;
  for (const auto& specialization : chosen)
    binaries.push_back(compile(specialization, device, environment));
  if (!command.output.empty()) {
    const auto& image = binaries.front().image;
    write_file(command.output, {reinterpret_cast<const char*>(image.data()), image.size()});
  }
  if (command.common.json)
    print_binaries_json(chosen, binaries);
  else
    print_binaries(chosen, binaries);
}

}  // namespace

void add_compile(const Command& program) {
  const auto command = program.subcommand(
      "compile", "compile templates for an architecture, without such a device; resource use");
  auto state = std::make_shared<CompileCommand>();
  state->common.add_to(command);
  state->problem.add_to(command);
  command
      .option("--arch", state->architecture,
              "sm_75, sm_80, …, sm_90a, or host; default: the device's")
      .excludes("--device");
  command.option("--template", state->only, "only this template; may be repeated")
      .one_value_at_a_time();
  command
      .option("--set", state->parameters,
              "a parameter's value, BM=128; the rest are defaults; may be repeated")
      .one_value_at_a_time();
  command
      .flag("--dump-source", state->dump_source,
            "print the whole generated source instead of compiling")
      .excludes("--json");
  command.option("--output", state->output,
                 "write the binary (a cubin or shared object), or the source, here");
  command.run([state] { run_compile(*state); });
}

}  // namespace cudadent::cli
