// emulate: runs a CUDA template on the host and compares what it computes with float64.
#include <fmt/format.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "runtime/expression.h"
#include "runtime/specialization.h"
#include "runtime/template_library.h"
#include "runtime/value.h"
#include "tests/emulator/backend.h"
#include "tests/emulator/driver.h"
#include "tests/support/bench.h"
#include "tuner/tuning_space.h"

namespace cudadent::emulator {
namespace {

constexpr const char* usage = R"(emulate OPERATOR TEMPLATE NAME=VALUE … [options]

Runs a CUDA template on the host, one thread after another, and compares its outputs with float64.
Problem values (m=100 dtype=bf16 bias=1) are as cudadent-tune has them.

  --set NAME=VALUE …   parameters; the others are as the manifest's default has them
  --random N           N random configurations of the parameters that --set leaves open
  --sm N               compute capability, 90 by default
  --sms N              multiprocessors, 4 by default
  --seed N             of inputs, configurations and schedules; random by default
  --schedules N        run each configuration so many times, each with another order of threads and
                       another lateness of copies; 3 by default. The first is the plainest
  --templates FOLDER   laid over the templates of the source tree; also CUDADENT_TEMPLATE_PATH
  --option OPTION      one more option for the compiler, such as -g or -O0
)";

struct Command {
  std::string op, kernel;
  Values problem, parameters;
  int random = 0, schedules = 3;
  std::uint64_t seed = std::random_device{}();
  EmulatorOptions device;
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
  command.op = words[0];
  command.kernel = words[1];
  bool parameters = false;
  for (std::size_t i = 2; i < words.size(); ++i) {
    const auto& word = words[i];
    const auto next = [&]() -> const std::string& {
      if (++i == words.size()) misused(fmt::format("{} needs a value", word));
      return words[i];
    };
    if (!word.starts_with("--")) {
      add_value(parameters ? command.parameters : command.problem, word);
      continue;
    }
    parameters = word == "--set";
    if (parameters) continue;
    if (word == "--random")
      command.random = std::stoi(next());
    else if (word == "--sm")
      command.device.sm = std::stoi(next());
    else if (word == "--sms")
      command.device.sm_count = std::stoi(next());
    else if (word == "--seed")
      command.seed = std::stoull(next());
    else if (word == "--schedules")
      command.schedules = std::stoi(next());
    else if (word == "--templates")
      command.templates.emplace_back(next());
    else if (word == "--option")
      command.device.compile_options.push_back(next());
    else
      misused(fmt::format("unknown option {}", word));
  }
  return command;
}

class Emulation {
 public:
  explicit Emulation(const Command& command)
      : command_(command),
        backend_(make_emulator_backend(command.device, Environment::read())),
        library_(command.templates),
        entry_(library_.find(command.op)),
        kernel_(find_kernel()),
        problem_(make_problem(entry_->manifest, command.problem)),
        generator_(command.seed) {}

  int run() {
    if (const auto why = why_unfit(*kernel_, problem_, backend_->device()); !why.empty())
      throw Error(ErrorCode::unsupported,
                  fmt::format("{}/{} requires '{}'", command_.op, command_.kernel, why));
    std::cout << problem_.describe() << " on sm_" << command_.device.sm << ", seed "
              << command_.seed << "\n";
    test::Bench bench(*backend_, problem_, command_.seed);
    int failures = 0;
    for (const Configuration& configuration : configurations())
      failures += passes(bench, configuration) ? 0 : 1;
    return failures == 0 ? 0 : 1;
  }

 private:
  std::shared_ptr<const KernelTemplate> find_kernel() {
    if (auto kernel = entry_->template_named(command_.kernel)) return kernel;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} has no template {}", command_.op, command_.kernel));
  }

  std::vector<Configuration> configurations() {
    std::vector<Configuration> all;
    if (command_.random == 0) {
      const auto chosen = default_configuration(*kernel_, problem_, backend_->device());
      Configuration configuration = chosen.value_or(Configuration{});
      for (const auto& [name, value] : command_.parameters) configuration[name] = value;
      return {configuration};
    }
    auto definition = space_definition(*kernel_, problem_, backend_->device());
    for (auto& parameter : definition.parameters)
      if (const auto fixed = command_.parameters.find(parameter.name);
          fixed != command_.parameters.end())
        parameter.values = {fixed->second};
    const TuningSpace space(std::move(definition));
    std::cout << space.size() << " configurations\n";
    for (int i = 0; i < command_.random && space.size() > 0; ++i)
      all.push_back(space.configuration(generator_() % space.size()));
    return all;
  }

  bool passes(test::Bench& bench, const Configuration& configuration) {
    std::cout << to_text(configuration) << ": " << std::flush;
    try {
      const auto specialization = specialize(kernel_, problem_, configuration, backend_->device());
      const Binary binary = backend_->compile(specialization);
      const auto executable = backend_->prepare(backend_->load(binary), specialization.plan);
      EmulatedStream stream;
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < command_.schedules; ++i) {
        if (i > 0) stream.seed = command_.seed * 1000003 + static_cast<std::uint64_t>(i);
        const std::uint64_t seed = stream.seed;
        if (const auto why = bench.why_wrong(*executable, &stream); !why.empty())
          return failed(fmt::format("{} [{}]", why, Schedule::from_seed(seed).describe()));
      }
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::cout << fmt::format("PASS, error {:.2g} (compiled in {:.1f} s, run in {:.1f} s)\n",
                               bench.error(), binary.compile_seconds, seconds.count());
      return true;
    } catch (const Error& error) {
      return failed(fmt::format("{}\n{}", error.what(), error.detail()));
    }
  }

  static bool failed(const std::string& why) {
    std::cout << "FAIL\n  " << why << "\n";
    return false;
  }

  const Command& command_;
  std::unique_ptr<Backend> backend_;
  TemplateLibrary library_;
  std::shared_ptr<const OperatorEntry> entry_;
  std::shared_ptr<const KernelTemplate> kernel_;
  Problem problem_;
  std::mt19937_64 generator_;
};

}  // namespace
}  // namespace cudadent::emulator

int main(int count, char** words) {
  try {
    return cudadent::emulator::Emulation(
               cudadent::emulator::parse(std::vector<std::string>(words + 1, words + count)))
        .run();
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
