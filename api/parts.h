// What a Runtime is made of, for the tools that ship with cudadent.
#pragma once

#include <memory>

#include "cache/store.h"
#include "runtime/backends/backend.h"
#include "runtime/base/environment.h"
#include "runtime/launch/dispatcher.h"
#include "runtime/operators/template_library.h"
#include "tuner/background_tuner.h"
#include "tuner/cached_source.h"
#include "tuner/tuner.h"

namespace cudadent {

// "auto", "host", "cuda" or "cuda:N" → a backend, which may have something to log. Throws Error:
// invalid_argument for another name, device_unavailable with what is wrong.
std::unique_ptr<Backend> open_device(const std::string& name, const Environment& environment,
                                     std::function<void(LogLevel, std::string_view)> log = {});

// The device of `like` as a worker process has it, to run candidates in; see runtime/backends/worker/worker_backend.h.
// Null when `options` say in_process, or automatic and no worker can be started: `log` is told why. Throws
// Error(device_unavailable) when they say worker and none can be started.
std::unique_ptr<Backend> open_worker(const Backend& like, const TuneOptions& options,
                                     const Environment& environment,
                                     const std::function<void(LogLevel, std::string_view)>& log);

struct Runtime::Parts {
  explicit Parts(const RuntimeOptions& options, const Environment& given = Environment::read());
  [[nodiscard]] TuningContext tuning_context();
  // Tunes a problem, or waits for who does, and lets the next launch find the winner.
  void tune_aside(const OperatorEntry& entry, const Problem& problem,
                  const std::function<bool()>& cancelled);

  Environment environment;
  std::unique_ptr<Backend> backend;
  TemplateLibrary library;
  Store store;
  std::function<void(LogLevel, std::string_view)> log;
  TuneOptions tuning;
  CachedSource source;
  Dispatcher dispatcher;
  BackgroundTuner background;  // last: it uses all the others
};

}  // namespace cudadent
