// A tiny operator, y = 2x, with a template for every fate a candidate can have, and a backend that runs
// it on the host but counts what it does and times as the template says, so that nothing depends on how
// busy the machine is.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/backends/host/backend.h"
#include "runtime/base/environment.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"
#include "tests/support/folder.h"
#include "tests/support/text.h"

namespace cudadent::tests {

inline constexpr const char* twice_manifest = R"manifest({
  "op": "twice",
  "doc": "y = 2x",
  "dtypes": { "dtype": {"values": ["f32", "f64"]} },
  "options": { "mode": ["plain", "loud"] },
  "tensors": {
    "x": { "shape": ["n"], "dtype": "dtype" },
    "y": { "shape": ["n"], "dtype": "dtype", "role": "output" } },
  "tuning_key": { "n": "pow2_ceil(n)" },
  "flops": "n",
  "bytes": "2*n*size(dtype)",
  "tolerance": { "f32": 1e-06, "f64": 1e-12 } })manifest";

inline constexpr const char* twice_reference = R"manifest({
  "template": "host_reference",
  "backend": "host",
  "compile_time": ["dtype"],
  "launches": [{"entry": "twice", "grid": [1], "args": ["x", "y", "n"]}] })manifest";

inline constexpr const char* twice_reference_source = R"(
void twice(const Block&, const dtype* x, dtype* y, int n) {
  for (int i = 0; i < n; ++i) y[i] = 2 * x[i];
}
)";

// The last two arguments are for CountingBackend: microseconds a run takes, and what a launch does to the
// device (Fate). "faulting" and "endless" are not in the list: tests that can bear them put them there.
inline constexpr const char* kinds_template = R"manifest({
  "template": "kinds",
  "backend": "host",
  "compile_time": ["dtype"],
  "parameters": { "KIND": ["slow", "fast", "nan", "wrong", "broken", "refused", "greedy"] },
  "let": { "microseconds": "100 if KIND == 'slow' else (50 if KIND == 'fast' else 10)" },
  "launches": [
    {
      "entry": "twice",
      "grid": [1],
      "shared_memory": "device.max_shared_memory + 64 if KIND == 'greedy' else 0",
      "args": ["x", "y", "n", "microseconds",
               "1 if KIND == 'refused' else (2 if KIND == 'faulting' else (3 if KIND == 'endless' else 0))"] }]
  })manifest";

inline constexpr const char* kinds_source = R"(
static_assert(KIND != KIND_kind::broken, "this one does not compile");
void twice(const Block&, const dtype* x, dtype* y, int n, int, int) {
  for (int i = 0; i < n; ++i) y[i] = KIND == KIND_kind::wrong ? 3 * x[i] : 2 * x[i];
  if (KIND == KIND_kind::nan && n > 0) y[n / 2] = __builtin_nanf("");
}
)";

enum class Fate { good, refused, faulting, endless };

// A folder with the operator: a reference, and "kinds" if wanted.
inline void write_twice(const Folder& folder, bool with_kinds = true) {
  folder.write("twice/op.json", twice_manifest);
  folder.write("twice/host_reference.json", twice_reference);
  folder.write("twice/host_reference.cpp", twice_reference_source);
  if (!with_kinds) return;
  folder.write("twice/kinds.json", kinds_template);
  folder.write("twice/kinds.cpp", kinds_source);
}

inline Values twice_problem(std::int64_t n = 100) {
  return {{"n", n}, {"dtype", std::string("f32")}};
}

inline Environment host_environment() {
  Environment environment;
  environment.host_threads = 2;
  return environment;
}

class CountingBackend : public Backend {
 public:
  explicit CountingBackend(const Environment& environment = host_environment())
      : host_(make_host_backend(environment)) {}

  std::atomic<int> compiles{0}, launches{0}, timings{0};
  bool is_capturing = false;
  bool recoverable = false;  // recover() works, as in a worker process
  std::atomic<int> recoveries{0};
  double run_limit = 0;  // seconds, the last that was set
  std::string compiler_name = "a compiler 1.0";
  // Called before anything is compiled or timed, from whichever thread does it; empty: nothing.
  std::function<void(const Specialization&)> on_compile;
  std::function<void()> on_time;

  [[nodiscard]] const Device& device() const noexcept override { return host_->device(); }
  [[nodiscard]] bool compiling_disturbs_timing() const noexcept override { return true; }
  std::string compiler() override { return compiler_name; }

  // Equal sources are compiled once a process: the tests' time goes there.
  Binary compile(const Specialization& specialization) override {
    ++compiles;
    if (on_compile) on_compile(specialization);
    static std::mutex mutex;
    static std::map<std::string, Binary> known;
    {
      const std::lock_guard lock(mutex);
      if (const auto found = known.find(specialization.hash); found != known.end()) {
        Binary binary = found->second;
        binary.compiler = compiler_name;
        return binary;
      }
    }
    Binary binary = host_->compile(specialization);
    binary.compiler = compiler_name;
    const std::lock_guard lock(mutex);
    known.emplace(specialization.hash, binary);
    return binary;
  }

  [[nodiscard]] Loss lost() const noexcept override { return lost_; }
  bool recover() override {
    if (!recoverable) return lost_ == Loss::none;
    ++recoveries;
    lost_ = Loss::none;
    return true;
  }
  void limit_runs(double seconds) override { run_limit = seconds; }

  std::shared_ptr<const Module> load(const Binary& binary) override {
    check();
    return host_->load(binary);
  }

  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                            const LaunchPlan& plan) override {
    auto executable = std::make_unique<Counting>();
    executable->backend = this;
    executable->inner = host_->prepare(std::move(module), plan);
    if (!plan.launches.empty() && plan.launches[0].entry == "twice" &&
        plan.launches[0].arguments.size() == 5) {
      executable->seconds = 1e-6 * static_cast<double>(plan.launches[0].arguments[3].integer);
      executable->fate = static_cast<Fate>(plan.launches[0].arguments[4].integer);
    }
    return executable;
  }

  Buffer allocate(std::size_t bytes) override {
    check();
    return host_->allocate(bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    host_->copy_to_device(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    host_->copy_to_host(host, device, bytes);
  }
  void fill(void* device, std::byte value, std::size_t bytes) override {
    host_->fill(device, value, bytes);
  }
  void synchronize() override { host_->synchronize(); }
  bool capturing(Stream) override { return is_capturing; }
  [[nodiscard]] std::string measurement() const override { return "as the template says/1"; }
  std::vector<double> time(const Executable& executable, const LaunchArguments&,
                           int count) override {
    check();
    if (on_time) on_time();
    timings += count;
    return std::vector<double>(static_cast<std::size_t>(count),
                               dynamic_cast<const Counting&>(executable).seconds);
  }

 private:
  struct Counting : Executable {
    void launch(const LaunchArguments& arguments) const override {
      backend->check();
      if (fate == Fate::refused)
        throw Error(ErrorCode::launch_failed, "the device refuses this launch");
      ++backend->launches;
      if (fate == Fate::faulting) backend->lose(Loss::fault);
      if (fate == Fate::endless) backend->lose(Loss::timeout);
      inner->launch(arguments);
    }
    CountingBackend* backend = nullptr;
    std::unique_ptr<const Executable> inner;
    double seconds = 1e-3;
    Fate fate = Fate::good;
  };

  void check() const {
    if (lost_ != Loss::none) throw Error(ErrorCode::launch_failed, "the device is lost");
  }
  [[noreturn]] void lose(Loss how) {
    lost_ = how;
    if (how == Loss::timeout) throw Error(ErrorCode::timed_out, "the kernel never ends");
    throw Error(ErrorCode::launch_failed, "the kernel faulted");
  }

  Loss lost_ = Loss::none;
  std::unique_ptr<Backend> host_;
};

}  // namespace cudadent::tests
