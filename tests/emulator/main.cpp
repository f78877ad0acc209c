// emulate: runs a CUDA template on the host and compares what it computes with float64.
#include <fmt/format.h>

#include <iostream>
#include <random>

#include "runtime/base/environment.h"
#include "runtime/language/value.h"
#include "tests/emulator/cases.h"

namespace cudadent::emulator {
namespace {

constexpr const char* usage = R"(emulate OPERATOR TEMPLATE NAME=VALUE … [options]

Runs a CUDA template on the host, one thread after another, and compares its outputs with float64.
Problem values (m=100 dtype=bf16 bias=1) are as cudadent-tune has them.

  --set NAME=VALUE …   parameters; the others are as the manifest's default has them
  --random N           N cases: what the command leaves open of problem, parameters and device is drawn
  --sm N               compute capability, 90 by default
  --sms N              multiprocessors, 4 by default
  --seed N             of inputs, schedules and what is drawn; random by default
  --schedules N        run each case so many times, each with another order of threads and another
                       lateness of copies; 3 by default. The first is the plainest
  --templates FOLDER   laid over the templates of the source tree; also CUDADENT_TEMPLATE_PATH
  --option OPTION      one more option for the compiler, such as -g or -O0
  --source             print what is compiled, as errors number its lines, and do nothing else
)";

struct Command {
  CaseRules rules;
  int random = 0, schedules = 3;
  bool source = false;
  std::uint64_t seed = std::random_device{}();
  std::vector<std::string> compile_options;
  std::vector<std::filesystem::path> templates{CUDADENT_TEMPLATES};
};

[[noreturn]] void misused(const std::string& why) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{}\n\n{}", why, usage));
}

void add_value(Values& values, const std::string& word) {
  const auto equals = word.find('=');
  if (equals == std::string::npos) misused(fmt::format("\"{}\" is not NAME=VALUE", word));
  values[word.substr(0, equals)] = parse_value(word.substr(equals + 1));
}

Command parse(const std::vector<std::string>& words) {
  Command command;
  for (const auto& folder : Environment::read().template_paths) command.templates.push_back(folder);
  if (words.size() < 2) misused("an operator and a template are needed");
  command.rules.op = words[0];
  command.rules.kernel = words[1];
  bool parameters = false;
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto& word = words[i];
    const auto next = [&]() -> const std::string& {
      if (++i == words.size()) misused(fmt::format("{} needs a value", word));
      return words[i];
    };
    if (!word.starts_with("--")) {
      add_value(parameters ? command.rules.parameters : command.rules.problem, word);
      continue;
    }
    parameters = word == "--set";
    if (parameters) continue;
    if (word == "--random")
      command.random = std::stoi(next());
    else if (word == "--sm")
      command.rules.sm = std::stoi(next());
    else if (word == "--sms")
      command.rules.sm_count = std::stoi(next());
    else if (word == "--seed")
      command.seed = std::stoull(next());
    else if (word == "--schedules")
      command.schedules = std::stoi(next());
    else if (word == "--templates")
      command.templates.emplace_back(next());
    else if (word == "--option")
      command.compile_options.push_back(next());
    else if (word == "--source")
      command.source = true;
    else
      misused(fmt::format("unknown option {}", word));
  }
  return command;
}

Device device_of(const Case& given) {
  auto device = nominal_cuda_device(std::to_string(given.sm));
  if (!device) misused(fmt::format("unknown architecture sm_{}", given.sm));
  device->sm_count = given.sm_count;
  return *device;
}

// The problem and device of the command, with the manifest's default configuration but for what is set.
Case the_case(TemplateLibrary& library, const Command& command) {
  const auto entry = library.find(command.rules.op);
  Case given;
  given.kernel = entry->template_named(command.rules.kernel);
  if (given.kernel == nullptr)
    misused(fmt::format("{} has no template {}", command.rules.op, command.rules.kernel));
  given.problem = make_problem(entry->manifest, command.rules.problem);
  given.sm = command.rules.sm == 0 ? 90 : command.rules.sm;
  given.sm_count = command.rules.sm_count == 0 ? 4 : command.rules.sm_count;
  given.seed = command.seed;
  const Device device = device_of(given);
  if (why_unfit(*given.kernel, given.problem, device).empty())
    if (auto chosen = default_configuration(*given.kernel, given.problem, device))
      given.configuration = *chosen;
  for (const auto& [name, value] : command.rules.parameters) given.configuration[name] = value;
  return given;
}

bool passes(const Case& given, const Command& command) {
  std::cout << given.describe() << ": " << std::flush;
  const Outcome outcome = try_case(given, command.schedules, true, command.compile_options);
  if (outcome.fault.empty())
    std::cout << fmt::format("PASS, error {:.2g} (compiled in {:.1f} s, run in {:.1f} s)\n",
                             outcome.error, outcome.compile_seconds, outcome.run_seconds);
  else
    std::cout << "FAIL\n  " << outcome.fault << "\n";
  return outcome.fault.empty();
}

int run(const Command& command) {
  TemplateLibrary library(command.templates);
  if (command.source) {
    const Case given = the_case(library, command);
    std::cout
        << specialize(given.kernel, given.problem, given.configuration, device_of(given)).source;
    return 0;
  }
  int failures = 0;
  if (command.random == 0) {
    failures += passes(the_case(library, command), command) ? 0 : 1;
  } else {
    CaseMaker maker(library, command.seed, command.rules);
    for (int i = 0; i < command.random; ++i) failures += passes(maker.next(), command) ? 0 : 1;
    std::cout << fmt::format("{} of {} cases fail, seed {}\n", failures, command.random,
                             command.seed);
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cudadent::emulator

int main(int count, char** words) {
  using namespace cudadent::emulator;
  try {
    return run(parse(std::vector<std::string>(words + 1, words + count)));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
