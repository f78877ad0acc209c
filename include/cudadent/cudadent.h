// cudadent: specialises kernel templates for the device and the problem in front of it, finds by
// measurement the configuration that runs fastest there, remembers it, and launches it.
//
//   cudadent::Runtime runtime;                             // best device, the user's cache
//   auto gemm = runtime.op("gemm", {{"activation", "relu"}});
//   gemm({a, b, bias, c}, stream);                         // first call tunes, later ones launch
//
// Everything a Runtime owns dies with it; there is no global state. A Runtime and its operators may
// be used from many threads at once. Every failure is a cudadent::Error.
#pragma once

#include <cudadent/tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cudadent {

// ------------------------------------------------------------------------------------- tuning

// What to do when a problem has no winner in the cache.
enum class OnMiss : std::uint8_t {
  tune,     // tune now, within RuntimeOptions::tuning.budget (the default)
  nearest,  // take what is known of similar problems, else the default configuration
  background,  // launch what `nearest` takes, tune on a thread aside, and launch the winner from then on
  fail,        // throw Error with ErrorCode::not_tuned
};

// Where a launched configuration came from.
enum class Provenance : std::uint8_t {
  tuned,      // by this process, for this problem's tuning key
  cached,     // the winner of this problem's tuning key
  shipped,    // the same as it ships with cudadent, found on another device of this kind
  neighbour,  // the winner of a tuning key beside this one: all but one dimension are shared
  nearest,    // the winner of the problem nearest in the logarithms of its dimensions
  other_device,  // the winner of this problem's key, or the nearest, on another device of the architecture
  predicted,  // never measured: what the templates' priors promise most of
  defaulted,  // never measured: the default configuration
};
CUDADENT_API std::string_view name_of(Provenance provenance) noexcept;

// A tuning run ends when any limit is reached, when the space is exhausted, when `patience` trials in a
// row have not improved the best by 1 %, or when the strategy expects no improvement worth its time. What is
// negative or NaN is refused: Error(invalid_argument).
struct Budget {
  // Wall-clock; 0 or infinity: no limit. Defaults are measured in any case, and what was compiled while the problem was
  // laid out for up to half as long again.
  double seconds = 60;
  std::int64_t trials = 0;      // measured configurations; 0 means no limit
  std::int64_t patience = 0;    // 0 means no limit
  bool until_converged = true;  // false: go on even when the strategy expects nothing more
};

// Where candidates are compiled and run.
enum class Isolation : std::uint8_t {
  automatic,   // in worker processes where they can be started, else in this one
  worker,      // in worker processes, or not at all: throw Error(device_unavailable)
  in_process,  // here: a candidate that faults, crashes or never ends takes this process's device or
               // the process with it
};

enum class TrialStatus : std::uint8_t {
  ok,
  compile_error,
  compile_timeout,
  invalid_resources,  // needs more registers, threads or shared memory than the device has
  launch_error,
  fault,
  timeout,
  wrong_result,
  // Neither is a fact about the configuration, which the next run tries again:
  timeout_once,  // took too long to compile or run, but only once: a paused or busy machine does that to any
  disturbed,  // the machine's doing: no space, memory, descriptors or processes, or a process of ours was
              // ended from outside
};
CUDADENT_API std::string_view name_of(TrialStatus status) noexcept;

// Figures of a trial by name: {"binary_bytes", 20480}.
using Figures = std::map<std::string, double, std::less<>>;

// One configuration, measured and verified, or failed and how.
struct Trial {
  std::string kernel_template;
  Values configuration;
  TrialStatus status = TrialStatus::ok;
  std::string message;          // how it failed
  std::vector<double> samples;  // seconds, in the order taken
  double median = 0;            // seconds
  double spread = 0;            // (third quartile − first quartile) / median
  double error = 0;             // ‖out − ref‖ / ‖ref‖ of the worst output
  double compile_seconds = 0;
  bool from_cache = false;  // measured by an earlier run, not again by this one
  Figures figures;          // what observers added
};

struct TuneProgress {
  std::int64_t measured = 0;  // trials so far, failures included
  std::int64_t failed = 0;
  std::uint64_t candidates = 0;  // size of the tuning space
  double elapsed = 0;            // seconds
  double best = 0;               // of the objective (seconds, usually); 0 before the first success
  std::string phase;             // "search", "finalists"
  const Trial* last = nullptr;
};

// A search and an observer of your own are in <cudadent/search.h>.
class CandidateSpace;
class Strategy;
class Observer;

struct TuneOptions {
  Budget budget;
  std::string strategy = "auto";
  // A search of your own, made anew for each run; `strategy` is then its name in messages and records. The space
  // outlives it. Empty: the built-in `strategy`.
  std::function<std::unique_ptr<Strategy>(const CandidateSpace& space, std::uint64_t seed)>
      make_strategy;
  std::vector<std::shared_ptr<Observer>> observers;
  // What the winner has least of: "seconds", the median time, or a figure that an observer gives and that is above
  // 0. Only times are compared once more at the end, in turns. Trials of earlier runs that lack it are measured anew.
  std::string objective = "seconds";
  std::uint64_t seed = 0;
  int compile_workers = 0;  // 0: one a core
  Isolation isolation = Isolation::automatic;
  // Seconds one candidate may take to compile, and one launch of it; above 0, infinity: no limit. In worker
  // processes only.
  double compile_timeout = 60, run_timeout = 10;
  std::vector<std::string> kernel_templates;  // empty: every template that fits
  bool fresh = false;                         // measure again what the cache already knows
  std::function<void(const TuneProgress&)> on_progress;  // called from the tuning thread
  // Polled, several times a second, from whichever thread waits; true ends the run with what it has, or with
  // Error(cancelled) when that is nothing. It stays true from then on.
  std::function<bool()> cancelled;
};

// The configuration to launch for a problem.
struct Winner {
  std::string kernel_template;
  Values configuration;
  double seconds = 0;  // median when tuned, of the problem tuned for; 0 when never measured
  Provenance provenance = Provenance::defaulted;
  // What it is predicted to take for the problem at hand, where it was chosen by that; 0: it was not, or
  // nothing predicts it.
  double predicted_seconds = 0;
};

// Where the time of a tuning run went, in seconds.
struct TuneSeconds {
  double prepare_seconds = 0;    // starting the worker, inputs, the reference
  double enumerate_seconds = 0;  // counting the space
  double compile_seconds = 0;    // of all cores together
  double measure_seconds = 0, verify_seconds = 0, search_seconds = 0;
  double idle_seconds = 0;  // waiting for the compiler
};

struct TuneResult : TuneSeconds {
  std::string problem;  // "gemm m=… n=… …"
  Winner winner;
  double default_seconds = 0;  // median of the default configuration, in the same final comparison
  double flops = 0;            // operations of the problem, for rates; 0 when the manifest has none
  double bytes = 0;            // least traffic of the problem
  std::vector<Trial> trials;
  std::uint64_t candidates = 0;  // size of the tuning space
  std::int64_t ruled_out = 0;    // candidates that the prior, corrected by measurement, ruled out
  double elapsed = 0;            // seconds
  std::string stopped_by;  // "exhausted", "time", "trials", "patience", "converged", "cancelled"
  bool isolated = false;   // candidates ran in a worker process
  std::int64_t worker_restarts = 0;  // after candidates that faulted or never ended
};

// ------------------------------------------------------------------------------------- runtime

enum class LogLevel : std::uint8_t { info, warning };

struct RuntimeOptions {
  // "auto" (a GPU if there is one, else the host), "host", "cuda", "cuda:1".
  std::string device = "auto";
  // The database file; empty: CUDADENT_CACHE, else $XDG_CACHE_HOME/cudadent/cudadent.db;
  // ":memory:" remembers nothing beyond the Runtime's life. One that cannot be opened, read or written is a
  // warning, once; what is found out is then kept in memory as if this were ":memory:".
  std::filesystem::path cache;
  // Folders with operators and templates besides the built-in ones and CUDADENT_TEMPLATE_PATH.
  std::vector<std::filesystem::path> template_paths;
  // Databases that are only read, looked into where `cache` knows no winner, in this order; also those
  // of CUDADENT_LAYERS.
  std::vector<std::filesystem::path> layers;
  // Whether winners that ship with cudadent are used for problems that neither `cache` nor a layer has a
  // winner for; CUDADENT_SHIPPED=none says no, too. Without them a first call tunes on every device.
  bool shipped_winners = true;
  OnMiss on_miss = OnMiss::tune;
  TuneOptions tuning;  // for OnMiss::tune and OnMiss::background
  // How long to wait, in seconds from 0 to infinity, while another process tunes the same problem; after that,
  // and with OnMiss::background at once, take what OnMiss::nearest takes.
  double wait_for_others = 600;
  std::function<void(LogLevel, std::string_view)> log;
};

// What a launch of some tensors does, for people.
struct Explanation {
  std::string problem;
  Winner winner;  // kernel_template is empty when the outputs have no elements: nothing is launched
};

// What an operator takes, as its manifest says; shapes are those of the options bound, and where they
// depend on which optional tensors are there, those without.
struct OperatorInfo {
  struct TensorInfo {
    std::string name, doc;
    // A dimension's name ("m"), or a number ("3"). The first may end in "?": a tensor without that
    // dimension is shared along it.
    std::vector<std::string> shape;
    std::vector<std::string> strides;  // a name or "1", one a dimension; empty: must be contiguous
    std::string dtype;                 // the name of a data type, or of one of `dtypes`
    bool output = false;
    bool optional = false;
  };
  struct DataTypeInfo {
    std::string name;
    std::vector<std::string> allowed;
    // What it is when no tensor says: a data type, an earlier name, or an expression over earlier
    // names; or empty.
    std::string otherwise;
  };
  struct OptionInfo {
    std::string name;
    std::vector<Value> allowed;  // the first is the default
    Value bound;
  };
  struct ScalarInfo {
    std::string name;
    double otherwise = 0;  // NaN when it depends on the problem
    std::string formula;   // the default as the manifest has it: a number or an expression
    bool integer = false;
    bool in_problem = false;  // part of what is tuned and remembered, as a dimension is
  };
  std::string name, doc;
  std::vector<TensorInfo> tensors;  // in the order launch() takes them
  std::vector<DataTypeInfo> dtypes;
  std::vector<OptionInfo> options;
  std::vector<ScalarInfo> scalars;  // in the order launch() takes them
};

class Runtime;
struct OperatorState;

// An operator with its options, and maybe scalars, bound: cheap to copy, valid as long as its Runtime.
class CUDADENT_API Operator {
 public:
  // Launches on `tensors`, in the order the manifest declares them, on `stream`. Tensor{} stands for
  // an optional one left out; the optional ones right before the outputs that end the order need
  // not be there at all: gemm({a, b, bias, c}) and gemm({a, b, c}). Asynchronous on CUDA; on the host done when it returns. `scalars`
  // replace the scalars' defaults, in manifest order; a NaN stands for the default. A known problem
  // takes no lock, allocates nothing and touches neither strings nor the database.
  // Throws Error: invalid_argument when shapes, types, strides, devices or scalars do not fit or an output lies over another tensor, and what the
  // miss policy or the device raise.
  void operator()(std::initializer_list<Tensor> tensors, Stream stream = nullptr,
                  std::span<const double> scalars = {}) const {
    launch({tensors.begin(), tensors.size()}, stream, scalars);
  }
  void launch(std::span<const Tensor> tensors, Stream stream = nullptr,
              std::span<const double> scalars = {}) const;

  // Launches as launch() does if the problem is known, and says so; does nothing if launch() would
  // have to look it up, tune or compile, or would refuse the tensors. For callers that hold
  // something the slow way must not hold, such as Python's interpreter lock.
  [[nodiscard]] bool try_launch(std::span<const Tensor> tensors, Stream stream = nullptr,
                                std::span<const double> scalars = {}) const;

  // Resolves, compiles and loads what launch() would run, without running it. Do this before
  // capturing a stream into a graph: while capturing, an unknown problem is an error.
  Explanation prepare(std::span<const Tensor> tensors, std::span<const double> scalars = {}) const;

  [[nodiscard]] const std::string& name() const noexcept;
  // Tensor names in the order launch() takes them.
  [[nodiscard]] const std::vector<std::string>& tensors() const noexcept;
  [[nodiscard]] OperatorInfo info() const;

 private:
  friend class Runtime;
  explicit Operator(std::shared_ptr<const OperatorState> state) : state_(std::move(state)) {}
  std::shared_ptr<const OperatorState> state_;
};

class CUDADENT_API Runtime {
 public:
  // Throws Error: device_unavailable, invalid_manifest, invalid_argument.
  explicit Runtime(RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // "NVIDIA H200", or the processor's name.
  [[nodiscard]] const std::string& device_name() const noexcept;

  // An operator by name, with options and scalars bound: {{"activation", "relu"}}, {{"window", 512}}.
  // Throws Error(invalid_argument) for other names and for values that are not allowed.
  Operator op(std::string_view name, const Values& bound = {});

  // Tunes a problem given by its dimensions, data types and options, and remembers the winner, whatever is
  // known of it: winners of layers, and those that ship, are only tried first.
  TuneResult tune(std::string_view op, const Values& problem, const TuneOptions& options);
  TuneResult tune(std::string_view op, const Values& problem);

  // The winner that a launch of the problem would use now, without tuning; nothing if unknown.
  std::optional<Winner> winner(std::string_view op, const Values& problem);

  // Everything below the public API, for the tools that ship with cudadent.
  struct Parts;
  [[nodiscard]] Parts& parts() noexcept { return *parts_; }

 private:
  std::unique_ptr<Parts> parts_;
};

CUDADENT_API std::string_view version() noexcept;

}  // namespace cudadent
