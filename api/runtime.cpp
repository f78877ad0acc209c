#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <utility>

#include "api/parts.h"
#include "cache/shipped.h"
#include "runtime/backends/worker/worker_backend.h"
#include "runtime/devices/devices.h"
#include "tuner/budget.h"

namespace cudadent {

namespace {

std::vector<std::filesystem::path> template_folders(const RuntimeOptions& options,
                                                    const Environment& environment) {
  auto folders = environment.template_paths;
  folders.insert(folders.end(), options.template_paths.begin(), options.template_paths.end());
  return folders;
}

std::vector<std::filesystem::path> layers(const RuntimeOptions& options,
                                          const Environment& environment) {
  auto files = options.layers;
  files.insert(files.end(), environment.layers.begin(), environment.layers.end());
  return files;
}

}  // namespace

std::unique_ptr<Backend> open_device(const std::string& name, const Environment& environment,
                                     std::function<void(LogLevel, std::string_view)> log) {
  const bool from_environment = name.empty() || name == "auto";
  std::string wanted = from_environment ? environment.device : name;
  if (wanted.empty() || wanted == "auto") wanted = default_backend_kind().name;
  const auto device = parse_device_name(wanted);
  if (!device)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("unknown device \"{}\"{}; expected auto, {}", wanted,
                            from_environment ? " in CUDADENT_DEVICE" : "", device_name_forms()));
  return open_backend(*device, environment, std::move(log));
}

namespace {

std::unique_ptr<Backend> start_worker(const Device& device, const TuneOptions& options,
                                      const Environment& environment,
                                      const std::function<void(LogLevel, std::string_view)>& log) {
  WorkerOptions worker{.device = name_of(device).text(),
                       .compile_timeout = options.compile_timeout,
                       .run_timeout = options.run_timeout,
                       .compile_processes = options.compile_workers,
                       .log = log};
  std::string why_none;
  worker.program = find_worker_program(environment, &why_none);
  if (worker.program.empty()) throw Error(ErrorCode::device_unavailable, why_none);
  auto backend = make_worker_backend(environment, worker);
  // Measurements are shared by the kind of device, and a GPU's number may mean another one there.
  if (backend->device().uuid != device.uuid || backend->device().kind() != device.kind())
    throw Error(ErrorCode::device_unavailable,
                fmt::format("the worker process found {} where this process has {}",
                            backend->device().kind(), device.kind()));
  return backend;
}

}  // namespace

std::unique_ptr<Backend> open_worker(const Backend& like, const TuneOptions& options,
                                     const Environment& environment,
                                     const std::function<void(LogLevel, std::string_view)>& log) {
  if (options.isolation == Isolation::in_process) return nullptr;
  // A program that was named is wanted, whatever the options leave open.
  const bool named = !environment.worker.empty() && environment.worker != "none";
  try {
    return start_worker(like.device(), options, environment, log);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    if (named || options.isolation == Isolation::worker)
      throw Error(ErrorCode::device_unavailable,
                  fmt::format("candidates cannot run in a worker process: {}", error.what()),
                  error.detail());
    if (log) log(LogLevel::info, fmt::format("candidates run in this process: {}", error.what()));
    return nullptr;
  }
}

Runtime::Parts::Parts(const RuntimeOptions& options, const Environment& given)
    : environment(given),
      backend(open_device(options.device, environment, options.log)),
      library(template_folders(options, environment)),
      store(options.cache.empty() ? environment.cache : options.cache,
            {.when_unusable = Unusable::warning,
             .layers = layers(options, environment),
             .shipped = options.shipped_winners ? shipped_source(environment) : nullptr,
             .log = options.log}),
      log(options.log),
      tuning(options.tuning),
      source(tuning_context(),
             {.on_miss = options.on_miss,
              .tuning = options.tuning,
              .wait_for_others = options.wait_for_others,
              .tune_aside = [this](const OperatorEntry& entry,
                                   const Problem& problem) { background.submit(entry, problem); }}),
      dispatcher(*backend, library, source, store, tuning.cancelled),
      background([this](const auto& entry, const auto& problem,
                        const auto& cancelled) { tune_aside(entry, problem, cancelled); },
                 [this](const Problem& problem, const std::exception& error) {
                   if (log)
                     log(LogLevel::warning, fmt::format("tuning {} in the background failed: {}",
                                                        problem.describe(), error.what()));
                 }) {
  if (!options.cache.empty() || environment.why_no_cache.empty()) return;
  if (log)
    log(LogLevel::warning, fmt::format("{}. What is found out is gone when this process ends.",
                                       environment.why_no_cache));
}

void Runtime::Parts::tune_aside(const OperatorEntry& entry, const Problem& problem,
                                const std::function<bool()>& cancelled) {
  TuneOptions options = tuning;
  options.cancelled = [&] { return cancelled() || (tuning.cancelled && tuning.cancelled()); };
  if (source.tuned(entry, problem, options)) dispatcher.forget(entry.manifest->name);
}

TuningContext Runtime::Parts::tuning_context() {
  return {*backend, library, store, log, [this](const TuneOptions& options) {
            return open_worker(*backend, options, environment, log);
          }};
}

Runtime::Runtime(RuntimeOptions options) {
  check_options(options.tuning);
  check_wait_for_others(options.wait_for_others);
  parts_ = std::make_unique<Parts>(options);
}
Runtime::~Runtime() = default;

const std::string& Runtime::device_name() const noexcept { return parts_->backend->device().name; }

Operator Runtime::op(std::string_view name, const Values& bound) {
  return Operator(parts_->dispatcher.bind(name, bound));
}

TuneResult Runtime::tune(std::string_view op, const Values& problem, const TuneOptions& options) {
  const auto entry = parts_->library.find(op);
  const auto result = parts_->source.tune(*entry, make_problem(entry->manifest, problem), options);
  parts_->dispatcher.forget(op);
  return result;
}

TuneResult Runtime::tune(std::string_view op, const Values& problem) {
  return tune(op, problem, parts_->tuning);
}

std::optional<Winner> Runtime::winner(std::string_view op, const Values& problem) {
  const auto entry = parts_->library.find(op);
  const auto choice = parts_->source.known(*entry, make_problem(entry->manifest, problem));
  if (!choice) return std::nullopt;
  return Winner{choice->kernel_template->name, choice->configuration, choice->seconds,
                choice->provenance};
}

}  // namespace cudadent
