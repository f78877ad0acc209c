#include "runtime/backends/host/backend.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <utility>

#include "runtime/backends/host/compiler.h"
#include "runtime/backends/host/shared_object.h"
#include "runtime/backends/host/thread_pool.h"
#include "runtime/base/fork.h"
#include "runtime/base/hash.h"
#include "runtime/language/backend_kind.h"

namespace cudadent {

namespace {

// Must match struct Block of kernel_templates/host/types.h.
struct HostBlock {
  int x, y, z;
  int grid_x, grid_y, grid_z;
  void* scratch;
  int worker, workers;
};
using Entry = void (*)(const HostBlock*, void* const*);

constexpr std::size_t buffer_alignment = 256;

std::string processor_name() {
  std::ifstream stream("/proc/cpuinfo");
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with("model name") || line.starts_with("Model"))
      if (const auto colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "host processor";
}

struct Vectors {
  const char* architecture;
  int bytes;
};

// What -march=native goes by: a binary must not run on a processor with fewer features.
std::string processor_features() {
  std::ifstream stream("/proc/cpuinfo");
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with("flags") || line.starts_with("Features")) return line;
  return processor_name();
}

Vectors widest_vectors() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
    return {"x86-64-avx512", 64};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"x86-64-avx2", 32};
  return {"x86-64", 16};
#elif defined(__aarch64__)
  return {"aarch64", 16};
#else
  return {"generic", 16};
#endif
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return 1;
}

std::int64_t cache_bytes(int name, std::int64_t otherwise) {
  const long bytes = ::sysconf(name);
  return bytes > 0 ? bytes : otherwise;
}

Device describe_host(const Environment& environment) {
  Device device;
  device.backend = host_kind.name;
  device.name = processor_name();
  const Vectors vectors = widest_vectors();
  device.architecture =
      fmt::format("{}-{}", vectors.architecture, content_hash({processor_features()}).substr(0, 8));
  device.simd_bytes = vectors.bytes;
  device.cores = environment.host_threads > 0 ? environment.host_threads : usable_cores();
  device.sm_count = device.cores;
  device.memory_bytes =
      static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
  device.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  device.l2_bytes = std::max(cache_bytes(_SC_LEVEL2_CACHE_SIZE, 512 << 10),
                             cache_bytes(_SC_LEVEL3_CACHE_SIZE, 0));
  device.max_shared_memory = 64 << 20;  // scratch a worker; only address space limits it
  device.max_threads_per_block = 1;
  device.warp_size = 1;
  return device;
}

class HostModule : public Module {
 public:
  explicit HostModule(const Binary& binary) : object_(binary.image) {}

  [[nodiscard]] Entry entry(const std::string& name) const {
    auto* symbol = object_.symbol(fmt::format("cudadent_entry_{}", name));
    if (symbol == nullptr)
      throw Error(ErrorCode::launch_failed, fmt::format("the binary has no entry \"{}\"", name));
    return reinterpret_cast<Entry>(symbol);
  }

 private:
  SharedObject object_;
};

Buffer allocate_aligned(std::size_t bytes) {
  const std::size_t rounded = std::max(bytes + buffer_alignment - 1, buffer_alignment) /
                              buffer_alignment * buffer_alignment;
  void* memory = std::aligned_alloc(buffer_alignment, rounded);
  if (memory == nullptr)
    throw Error(ErrorCode::machine_failed, fmt::format("cannot allocate {} bytes", bytes));
  return {memory, bytes, [](void* pointer) { std::free(pointer); }};
}

// Everything one launch in flight writes to: workspaces and argument values.
struct LaunchState {
  std::vector<Buffer> workspaces;
  std::vector<std::vector<void*>> pointers;        // a launch: what each args[i] points to
  std::vector<std::vector<std::uint64_t>> values;  // a launch: 8 bytes an argument
};

class HostExecutable : public Executable {
 public:
  HostExecutable(std::shared_ptr<const HostModule> module, LaunchPlan plan, ThreadPool& pool,
                 std::int64_t max_shared_memory)
      : module_(std::move(module)),
        plan_(std::move(plan)),
        pool_(pool),
        max_shared_memory_(max_shared_memory),
        kept_(make_state(plan_)) {
    for (const auto& launch : plan_.launches) entries_.push_back(module_->entry(launch.entry));
  }

  void launch(const LaunchArguments& arguments) const override { launch_any(plan_, arguments); }
  bool launch_with(const LaunchPlan& plan, const LaunchArguments& arguments) const override {
    for (const auto& launch : plan.launches)
      if (launch.shared_memory > max_shared_memory_) return false;
    launch_any(plan, arguments);
    return true;
  }

 private:
  void launch_any(const LaunchPlan& plan, const LaunchArguments& arguments) const {
    // The state kept with the executable serves one thread at a time; others make their own.
    if (!take_kept()) {
      LaunchState own = make_state(plan);
      return run(plan, own, arguments);
    }
    struct Release {
      std::atomic<std::uint64_t>& owner;
      ~Release() { owner.store(nobody, std::memory_order_release); }
    } release{kept_by_};
    for (std::size_t i = 0; i < plan.workspaces.size(); ++i)
      if (kept_.workspaces[i].bytes() < plan.workspaces[i].bytes)
        kept_.workspaces[i] = allocate_aligned(plan.workspaces[i].bytes);
    run(plan, kept_, arguments);
  }

  static constexpr std::uint64_t nobody = ~std::uint64_t{0};

  // False when a thread has it. One of another process, copied by a fork, does not count.
  [[nodiscard]] bool take_kept() const {
    std::uint64_t owner = nobody;
    const std::uint64_t here = fork_count();
    return kept_by_.compare_exchange_strong(owner, here, std::memory_order_acquire) ||
           (owner != here &&
            kept_by_.compare_exchange_strong(owner, here, std::memory_order_acquire));
  }

  static LaunchState make_state(const LaunchPlan& plan) {
    LaunchState state;
    for (const auto& workspace : plan.workspaces)
      state.workspaces.push_back(allocate_aligned(workspace.bytes));
    for (const auto& launch : plan.launches) {
      auto& values = state.values.emplace_back(launch.arguments.size());
      auto& pointers = state.pointers.emplace_back();
      for (auto& value : values) pointers.push_back(&value);
    }
    return state;
  }

  void run(const LaunchPlan& plan, LaunchState& state, const LaunchArguments& arguments) const {
    for (std::size_t i = 0; i < plan.workspaces.size(); ++i)
      if (plan.workspaces[i].zeroed != Zeroed::no)
        std::memset(state.workspaces[i].data(), 0, plan.workspaces[i].bytes);
    for (std::size_t i = 0; i < plan.launches.size(); ++i) {
      fill_arguments(plan.launches[i], state, arguments, state.values[i]);
      run_blocks(plan.launches[i], entries_[i], state.pointers[i].data());
    }
  }

  static void fill_arguments(const KernelLaunch& launch, const LaunchState& state,
                             const LaunchArguments& arguments, std::vector<std::uint64_t>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Argument& argument = launch.arguments[i];
      const auto index = static_cast<std::size_t>(argument.index);
      const auto store = [&](auto value) { std::memcpy(&values[i], &value, sizeof value); };
      switch (argument.kind) {
        case Argument::Kind::tensor:
          store(arguments.tensors[index]);
          break;
        case Argument::Kind::workspace:
          store(state.workspaces[index].data());
          break;
        case Argument::Kind::scalar:
          store(static_cast<float>(arguments.scalars[index]));
          break;
        case Argument::Kind::i32:
          store(static_cast<std::int32_t>(argument.integer));
          break;
        case Argument::Kind::i64:
          store(argument.integer);
          break;
        case Argument::Kind::f32:
          store(static_cast<float>(argument.real));
          break;
        case Argument::Kind::tensor_map:
          break;  // prepare() refuses them
      }
    }
  }

  void run_blocks(const KernelLaunch& launch, Entry entry, void* const* pointers) const {
    struct Context {
      const KernelLaunch& launch;
      Entry entry;
      void* const* pointers;
      int workers;
    } context{launch, entry, pointers, pool_.size()};
    const std::uint64_t blocks = std::uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
    pool_.run(
        blocks, launch.shared_memory,
        [](void* opaque, std::uint64_t index, const ThreadPool::Worker& worker) {
          const auto& [kernel, function, args, workers] = *static_cast<Context*>(opaque);
          const auto extent = [&](std::size_t axis) { return static_cast<int>(kernel.grid[axis]); };
          const HostBlock block{static_cast<int>(index % kernel.grid[0]),
                                static_cast<int>(index / kernel.grid[0] % kernel.grid[1]),
                                static_cast<int>(index / kernel.grid[0] / kernel.grid[1]),
                                extent(0),
                                extent(1),
                                extent(2),
                                worker.scratch,
                                worker.index,
                                workers};
          function(&block, args);
        },
        &context);
  }

  std::shared_ptr<const HostModule> module_;
  LaunchPlan plan_;
  ThreadPool& pool_;
  std::int64_t max_shared_memory_;  // bytes a block
  std::vector<Entry> entries_;
  mutable LaunchState kept_;
  mutable std::atomic<std::uint64_t> kept_by_ = nobody;  // else the fork_count() of its process
};

class HostBackend : public Backend {
 public:
  HostBackend(const Environment& environment, std::function<void(LogLevel, std::string_view)> log)
      : device_(describe_host(environment)),
        compiler_(environment.host_compiler),
        log_(std::move(log)) {}

  [[nodiscard]] const Device& device() const noexcept override { return device_; }
  [[nodiscard]] bool compiling_disturbs_timing() const noexcept override { return true; }
  std::string compiler() override { return compiler_.name(); }
  Binary compile(const Specialization& specialization) override {
    return compiler_.compile(specialization);
  }

  std::shared_ptr<const Module> load(const Binary& binary) override {
    if (binary.architecture != device_.architecture)
      throw Error(ErrorCode::launch_failed, fmt::format("a binary for {} cannot run on {}",
                                                        binary.architecture, device_.architecture));
    return std::make_shared<HostModule>(binary);
  }

  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                            const LaunchPlan& plan) override {
    if (!plan.tensor_maps.empty())
      throw Error(ErrorCode::invalid_manifest, "host templates cannot use tensor maps");
    for (const auto& launch : plan.launches)
      if (launch.shared_memory > device_.max_shared_memory)
        throw Error(
            ErrorCode::launch_failed,
            fmt::format("{}: {} bytes of shared memory, but {} has {} for a block", launch.entry,
                        launch.shared_memory, device_.name, device_.max_shared_memory));
    return std::make_unique<HostExecutable>(
        std::dynamic_pointer_cast<const HostModule>(std::move(module)), plan, pool_,
        device_.max_shared_memory);
  }

  Buffer allocate(std::size_t bytes) override { return allocate_aligned(bytes); }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void fill(void* device, std::byte value, std::size_t bytes) override {
    if (bytes > 0) std::memset(device, static_cast<int>(value), bytes);
  }
  void synchronize() override {}
  bool capturing(Stream) override { return false; }

  [[nodiscard]] std::string measurement() const override { return "host-clock-cold/1"; }
  std::vector<double> time(const Executable& executable, const LaunchArguments& arguments,
                           int count) override {
    using Clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    for (int i = 0; i < count; ++i) {
      flush_caches();
      const auto start = Clock::now();
      executable.launch(arguments);
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    return seconds;
  }

 private:
  void warn(int threads) const {
    if (!log_) return;
    log_(LogLevel::warning,
         fmt::format(
             "the host device has {} of its {} threads: the system starts no more (ulimit -u, a "
             "container's limit). Kernels are slower for that; CUDADENT_HOST_THREADS sets how "
             "many there should be.",
             threads, device_.cores));
  }

  // Writes as much as the last-level cache holds, so that a run starts without its data in it.
  void flush_caches() {
    constexpr std::int64_t most = 64 << 20;  // a share of a server's cache is all one process fills
    const auto bytes = static_cast<std::size_t>(std::min(device_.l2_bytes, most));
    if (flush_.bytes() < bytes) flush_ = allocate_aligned(bytes);
    std::memset(flush_.data(), ++flush_value_, bytes);
  }

  Device device_;
  HostCompiler compiler_;
  std::function<void(LogLevel, std::string_view)> log_;
  ThreadPool pool_{device_.cores, [this](int threads) { warn(threads); }};
  Buffer flush_;
  unsigned char flush_value_ = 0;
};

}  // namespace

std::unique_ptr<Backend> make_host_backend(const Environment& environment,
                                           std::function<void(LogLevel, std::string_view)> log) {
  return std::make_unique<HostBackend>(environment, std::move(log));
}

}  // namespace cudadent
