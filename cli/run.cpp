#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/common.h"
#include "runtime/language/backend_kind.h"
#include "runtime/language/value.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/strides.h"
#include "tuner/statistics.h"
#include "tuner/workbench.h"

namespace cudadent::cli {

namespace {

using Clock = std::chrono::steady_clock;
// As early as a program can know: static objects are made before main().
const Clock::time_point process_start = Clock::now();

struct RunCommand {
  CommonOptions common;
  ProblemWords problem;
  std::string on_miss = "nearest";
  bool skip_check = false;
};

OnMiss parse_on_miss(const std::string& text) {
  if (text == "tune") return OnMiss::tune;
  if (text == "nearest") return OnMiss::nearest;
  return OnMiss::fail;
}

// Whether a shared library with this in its name is loaded in this process.
bool is_loaded(std::string_view library) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(library) != std::string::npos) return true;
  return false;
}

// Tensors of the problem in fresh device memory, filled with a constant.
struct PlainTensors {
  std::vector<Buffer> buffers;
  std::vector<Tensor> tensors;

  PlainTensors(Backend& backend, const Problem& problem) {
    const std::int32_t place = tensor_place(backend.device());
    for (const auto& spec : problem.op->tensors) {
      Tensor tensor;
      if (problem.has(spec)) {
        const auto shape = problem.shape_of(spec), strides = problem.strides_of(spec);
        tensor.dtype = problem.dtype_of(spec);
        tensor.rank = static_cast<std::int32_t>(shape.size());
        tensor.device = place;
        std::copy(shape.begin(), shape.end(), tensor.shape.begin());
        std::copy(strides.begin(), strides.end(), tensor.strides.begin());
        const std::size_t size = size_of(tensor.dtype);
        const std::size_t offset = is_true(problem.values.at("base_aligned")) ? 0 : size;
        buffers.push_back(
            backend.allocate(offset + static_cast<std::size_t>(span_of(shape, strides)) * size));
        tensor.data = static_cast<std::byte*>(buffers.back().data()) + offset;
        if (!spec.output) backend.fill(buffers.back().data(), std::byte{0}, buffers.back().bytes());
      }
      tensors.push_back(tensor);
    }
  }
};

Values options_of(const Problem& problem) {
  Values options;
  for (const auto& option : problem.op->options)
    options[option.name] = problem.values.at(option.name);
  return options;
}

struct RunOutcome {
  Explanation explanation;
  double to_launch = 0, to_result = 0;  // seconds from the start of the process
  double seconds = 0;                   // median, cold cache
  Verdict verdict;
  bool checked = false;
};

// Times the winner, and verifies it against the reference.
void check(Runtime::Parts& parts, const OperatorEntry& entry, const Problem& problem,
           RunOutcome& outcome) {
  Workbench workbench(*parts.backend, parts.library, parts.store, entry, problem, 0);
  for (const auto& kernel : entry.templates) {
    if (kernel->name != outcome.explanation.winner.kernel_template) continue;
    const auto executable = workbench.load(specialize(
        kernel, problem, outcome.explanation.winner.configuration, parts.backend->device()));
    outcome.verdict = workbench.verify(*executable);
    outcome.seconds = median(workbench.time(*executable, 10));
    outcome.checked = true;
  }
}

RunOutcome launch(Runtime& runtime, const RunCommand& command) {
  Runtime::Parts& parts = runtime.parts();
  const auto entry = parts.library.find(command.problem.op);
  const Problem problem = make_problem(entry->manifest, command.problem.values());
  PlainTensors plain(*parts.backend, problem);
  const Operator op = runtime.op(command.problem.op, options_of(problem));
  RunOutcome outcome;
  outcome.explanation = op.prepare(plain.tensors);
  const auto since_start = [] {
    return std::chrono::duration<double>(Clock::now() - process_start).count();
  };
  outcome.to_launch = since_start();
  op.launch(plain.tensors, nullptr, problem.scalars);
  parts.backend->synchronize();
  outcome.to_result = since_start();
  if (!command.skip_check) check(parts, *entry, problem, outcome);
  return outcome;
}

std::string origin_of(const Winner& winner) {
  std::string text(name_of(winner.provenance));
  if (winner.predicted_seconds > 0)
    text += fmt::format(", predicted to take {}", duration_text(winner.predicted_seconds));
  return text;
}

void print_outcome(const RunCommand& command, Runtime& runtime, const RunOutcome& outcome) {
  const Winner& winner = outcome.explanation.winner;
  const bool compiler_loaded = is_loaded("libnvrtc");
  if (command.common.json) {
    nlohmann::json json{{"problem", outcome.explanation.problem},
                        {"device", runtime.device_name()},
                        {"winner", to_json(winner)},
                        {"seconds_to_launch", outcome.to_launch},
                        {"seconds_to_first_result", outcome.to_result},
                        {"nvrtc_loaded", compiler_loaded}};
    if (outcome.checked) {
      json["seconds"] = outcome.seconds;
      json["error"] = outcome.verdict.error;
      json["correct"] = outcome.verdict.complaint.empty();
    }
    print_json(json);
    return;
  }
  fmt::print("{} on {}\n", outcome.explanation.problem, runtime.device_name());
  std::vector<std::vector<std::string>> rows{
      {"configuration",
       fmt::format("{} {}", winner.kernel_template, to_text(winner.configuration))},
      {"came from", origin_of(winner)},
      {"first launch", fmt::format("{} after process start", duration_text(outcome.to_launch))},
      {"first result", fmt::format("{} after process start", duration_text(outcome.to_result))},
      {"NVRTC", compiler_loaded ? "loaded" : "not loaded"}};
  if (outcome.checked) {
    rows.push_back({"time", duration_text(outcome.seconds)});
    rows.push_back({"verified", outcome.verdict.complaint.empty()
                                    ? fmt::format("relative error {:.2g}", outcome.verdict.error)
                                    : outcome.verdict.complaint});
  }
  print_table(rows);
}

void run_run(const RunCommand& command) {
  RuntimeOptions options = command.common.runtime_options();
  options.on_miss = parse_on_miss(command.on_miss);
  Runtime runtime(std::move(options));
  const RunOutcome outcome = launch(runtime, command);
  print_outcome(command, runtime, outcome);
  if (!outcome.verdict.complaint.empty())
    throw Error(ErrorCode::launch_failed,
                fmt::format("wrong result: {}", outcome.verdict.complaint));
}

}  // namespace

void add_run(const Command& program) {
  const auto command =
      program.subcommand("run", "launch a problem with what the cache says, check and time it");
  auto state = std::make_shared<RunCommand>();
  state->common.add_to(command);
  state->problem.add_to(command);
  command.option("--on-miss", state->on_miss, "when the cache has no winner: tune, nearest, fail")
      .one_of({"tune", "nearest", "fail"})
      .show_default();
  command.flag("--skip-check", state->skip_check, "neither verify nor time");
  command.run([state] { run_run(*state); });
}

}  // namespace cudadent::cli
