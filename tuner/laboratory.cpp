#include "tuner/laboratory.h"

#include <fmt/format.h>

#include "tuner/stopwatch.h"

namespace cudadent {

namespace {

std::unique_ptr<Backend> open_worker(const TuningTask& task, TuneSeconds& seconds) {
  const Stopwatch watch(seconds.prepare_seconds);
  return task.context.open_worker ? task.context.open_worker(task.options) : nullptr;
}

}  // namespace

Workshop::Workshop(const TuningTask& task, Forgiving& remember, TuneSeconds& seconds)
    : worker_(open_worker(task, seconds)),
      backend_(worker_ ? *worker_ : task.context.backend),
      compiler_(backend_.compiler()),
      binaries_(task.context.store, compiler_, remember) {}

Laboratory::Laboratory(const TuningTask& task, Workshop& workshop, TuneSeconds& seconds)
    : workshop_(workshop),
      observers_(task.options.observers),
      measurer_({.backend = workshop.backend(),
                 .library = task.context.library,
                 .binaries = workshop.binaries(),
                 .entry = task.entry,
                 .problem = task.problem,
                 .seed = task.options.seed,
                 .run_timeout = task.options.run_timeout},
                observers_, seconds) {
  if (measurer_.reference().empty())
    task.log(
        LogLevel::warning,
        fmt::format("{}: no reference template for this device; candidates are only compared with "
                    "each other",
                    task.problem.op->name));
}

}  // namespace cudadent
