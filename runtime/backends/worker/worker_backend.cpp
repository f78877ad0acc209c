#include "runtime/backends/worker/worker_backend.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "runtime/backends/worker/compile_workers.h"
#include "runtime/backends/worker/remote_backend.h"
#include "runtime/language/backend_kind.h"

namespace cudadent {

namespace worker {

namespace {

using Reason = ChannelError::Reason;

// What runs no kernels: loading, preparing, allocating. Seconds.
constexpr double other_limit = 120;
// What copies and fills get on top, in bytes a second.
constexpr double slowest_copy = 100e6;

// What was destroyed here and is still to be destroyed in the worker, which learns of it with the next
// request: destroying neither waits nor fails. Things of a worker that is gone are forgotten.
class Releases {
 public:
  void add(std::uint64_t generation, Release release) noexcept {
    const std::lock_guard lock(mutex_);
    if (generation != generation_) return;
    try {
      releases_.push_back(release);
    } catch (const std::exception&) {  // then it is kept until the worker ends
    }
  }
  std::vector<Release> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(releases_, {});
  }
  void next_generation() noexcept {
    const std::lock_guard lock(mutex_);
    ++generation_;
    releases_.clear();
  }
  [[nodiscard]] std::uint64_t generation() const noexcept {
    const std::lock_guard lock(mutex_);
    return generation_;
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t generation_ = 1;
  std::vector<Release> releases_;
};

// Of a module or executable in the worker.
class Handle {
 public:
  Handle(std::shared_ptr<Releases> releases, Release release)
      : releases_(std::move(releases)), generation_(releases_->generation()), release_(release) {}
  ~Handle() { releases_->add(generation_, release_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  // Throws Error(launch_failed) when the worker it was made in is gone.
  [[nodiscard]] std::uint64_t id() const {
    if (generation_ != releases_->generation())
      throw Error(ErrorCode::launch_failed,
                  "a module or executable of a worker process that is gone was used: after a loss "
                  "they may only be destroyed.");
    return release_.id;
  }

 private:
  std::shared_ptr<Releases> releases_;
  std::uint64_t generation_;
  Release release_;
};

struct RemoteModule final : Module {
  explicit RemoteModule(std::shared_ptr<Releases> releases, std::uint64_t id)
      : handle(std::move(releases), {Release::Kind::module, id}) {}
  Handle handle;
};

class RemoteBackend;

class RemoteExecutable final : public Executable {
 public:
  RemoteExecutable(RemoteBackend& backend, std::shared_ptr<Releases> releases, std::uint64_t id)
      : backend_(backend), handle_(std::move(releases), {Release::Kind::executable, id}) {}
  void launch(const LaunchArguments& arguments) const override;
  [[nodiscard]] LaunchRequest request(const LaunchArguments& arguments) const {
    LaunchRequest request{.executable = handle_.id(), .tensors = {}, .scalars = {}};
    for (const void* tensor : arguments.tensors)
      request.tensors.push_back(reinterpret_cast<std::uint64_t>(tensor));
    request.scalars.assign(arguments.scalars.begin(), arguments.scalars.end());
    return request;
  }

 private:
  RemoteBackend& backend_;
  Handle handle_;
};

class RemoteBackend final : public Backend {
 public:
  RemoteBackend(const Environment& environment, const WorkerOptions& options, StartMeasuring start)
      : options_(options),
        start_(std::move(start)),
        compile_workers_(environment, options),
        run_limit_(options.run_timeout),
        peer_(start_(welcome_)) {}
  ~RemoteBackend() override {
    releases_->next_generation();
    peer_.channel.close();
    if (peer_.process != nullptr) peer_.process->end(1);
  }
  RemoteBackend(const RemoteBackend&) = delete;
  RemoteBackend& operator=(const RemoteBackend&) = delete;

  [[nodiscard]] const Device& device() const noexcept override { return welcome_.device; }
  [[nodiscard]] bool compiling_disturbs_timing() const noexcept override {
    return welcome_.compiling_disturbs_timing;
  }
  [[nodiscard]] std::string measurement() const override { return welcome_.measurement; }

  std::string compiler() override { return compile_workers_.name(); }
  Binary compile(const Specialization& specialization) override {
    return compile_workers_.compile(specialization);
  }

  std::shared_ptr<const Module> load(const Binary& binary) override {
    const auto id = call<std::uint64_t>("load a binary", Verb::load, other_limit, binary);
    return std::make_shared<const RemoteModule>(releases_, id);
  }
  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                            const LaunchPlan& plan) override {
    const auto remote = std::dynamic_pointer_cast<const RemoteModule>(std::move(module));
    if (remote == nullptr)
      throw Error(ErrorCode::internal, "A module of another backend was handed to a worker's.");
    const auto id = call<std::uint64_t>("prepare a launch", Verb::prepare, other_limit,
                                        remote->handle.id(), plan);
    return std::make_unique<const RemoteExecutable>(*this, releases_, id);
  }

  Buffer allocate(std::size_t bytes) override {
    const auto address =
        call<std::uint64_t>("allocate memory", Verb::allocate, other_limit, std::uint64_t{bytes});
    const auto generation = releases_->generation();
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address in the worker
    return {reinterpret_cast<void*>(address), bytes,
            [releases = releases_, generation, address](void*) noexcept {
              releases->add(generation, {Release::Kind::buffer, address});
            }};
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    const auto* source = static_cast<const std::byte*>(host);
    for (std::size_t done = 0; done < bytes; done += copy_step) {
      const std::span part(source + done, std::min(copy_step, bytes - done));
      call_with("copy to the device", Verb::write, copy_limit(part.size()), part,
                address_of(device) + done, part.size());
    }
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    auto* target = static_cast<std::byte*>(host);
    for (std::size_t done = 0; done < bytes; done += copy_step) {
      const std::size_t count = std::min(copy_step, bytes - done);
      call_into(std::span(target + done, count), address_of(device) + done);
    }
  }
  void fill(void* device, std::byte value, std::size_t bytes) override {
    call<void>("fill memory", Verb::fill, copy_limit(bytes), address_of(device), value,
               std::uint64_t{bytes});
  }
  void synchronize() override {
    call<void>("wait for the device", Verb::synchronize, run_limit_.load());
  }
  bool capturing(Stream) override { return false; }

  [[nodiscard]] Loss lost() const noexcept override { return lost_.load(); }
  bool recover() override;
  void limit_runs(double seconds) override { run_limit_ = seconds; }

  void launch(const LaunchRequest& request) {
    call<void>("run a kernel", Verb::launch, run_limit_.load(), request);
  }
  std::vector<double> time(const Executable& executable, const LaunchArguments& arguments,
                           int count) override {
    const auto* remote = dynamic_cast<const RemoteExecutable*>(&executable);
    if (remote == nullptr)
      throw Error(ErrorCode::internal,
                  "An executable of another backend was handed to a worker's.");
    return call<std::vector<double>>("time a kernel", Verb::time,
                                     run_limit_.load() * std::max(count, 1),
                                     remote->request(arguments), count);
  }

 private:
  static std::uint64_t address_of(const void* device) {
    return reinterpret_cast<std::uint64_t>(device);
  }
  // Copies wait for kernels that still run. 0 stays without a limit.
  [[nodiscard]] double copy_limit(std::size_t bytes) const {
    const double limit = run_limit_.load();
    return limit > 0 ? limit + static_cast<double>(bytes) / slowest_copy : 0;
  }

  // One request and its answer; `tail` are bytes that follow the arguments; `read` takes the results.
  template <class Read, class... Arguments>
  void exchange(const char* what, Verb verb, double seconds, std::span<const std::byte> tail,
                const Read& read, const Arguments&... arguments);
  template <class Result, class... Arguments>
  Result call(const char* what, Verb verb, double seconds, const Arguments&... arguments) {
    if constexpr (std::is_void_v<Result>) {
      exchange(what, verb, seconds, {}, [](Reader&) {}, arguments...);
    } else {
      Result result{};
      exchange(what, verb, seconds, {}, [&](Reader& reader) { reader(result); }, arguments...);
      return result;
    }
  }
  template <class... Arguments>
  void call_with(const char* what, Verb verb, double seconds, std::span<const std::byte> tail,
                 const Arguments&... arguments) {
    exchange(what, verb, seconds, tail, [](Reader&) {}, arguments...);
  }
  void call_into(std::span<std::byte> target, std::uint64_t address) {
    exchange(
        "copy from the device", Verb::read, copy_limit(target.size()), {},
        [&](Reader& reader) { reader.take_into(target); }, address, std::uint64_t{target.size()});
  }
  void check_usable(const char* what) const;
  void lose(Loss loss, const std::string& why) noexcept;
  [[noreturn]] void lose_peer(const char* what, const ChannelError& error, double seconds);

  const WorkerOptions options_;
  const StartMeasuring start_;
  const pid_t owner_ = ::getpid();
  CompileWorkers compile_workers_;
  std::atomic<double> run_limit_;
  std::atomic<Loss> lost_{Loss::none};
  std::shared_ptr<Releases> releases_ = std::make_shared<Releases>();
  mutable std::mutex mutex_;  // guards what follows
  std::string why_lost_;
  Welcome welcome_;
  Peer peer_;
};

void RemoteExecutable::launch(const LaunchArguments& arguments) const {
  backend_.launch(request(arguments));
}

void RemoteBackend::check_usable(const char* what) const {
  if (::getpid() != owner_)
    throw Error(
        ErrorCode::launch_failed,
        fmt::format("cannot {}: the worker process belongs to the parent of this process", what));
  if (lost_.load() != Loss::none)
    throw Error(ErrorCode::launch_failed,
                fmt::format("cannot {}: the worker process is gone since it {}", what, why_lost_));
}

template <class Read, class... Arguments>
void RemoteBackend::exchange(const char* what, Verb verb, double seconds,
                             std::span<const std::byte> tail, const Read& read,
                             const Arguments&... arguments) {
  const std::lock_guard lock(mutex_);
  check_usable(what);
  Writer request;
  request(releases_->take(), arguments...);
  Loss loss = Loss::none;
  try {
    const auto deadline = deadline_in(seconds);
    peer_.channel.send(static_cast<std::uint32_t>(verb), request.bytes(), tail, deadline);
    const Message answer = peer_.channel.receive(deadline);
    if (peer_.process != nullptr)
      for (const auto& note : peer_.process->notes())
        if (options_.log) options_.log(LogLevel::warning, "in the worker process: " + note);
    Reader results = results_of(answer, loss);
    read(results);
    results.expect_end();
  } catch (const ChannelError& error) {
    lose_peer(what, error, seconds);
  } catch (const ProtocolError& error) {
    lose_peer(what, ChannelError(Reason::nonsense, error.what()), seconds);
  } catch (const Error& error) {
    if (loss != Loss::none) lose(loss, fmt::format("reported: {}", error.what()));
    throw;
  }
  if (loss == Loss::none) return;
  lose(loss, "reported that its device is beyond use");
  throw Error(ErrorCode::launch_failed, fmt::format("{}: the worker {}", what, why_lost_));
}

void RemoteBackend::lose_peer(const char* what, const ChannelError& error, double seconds) {
  const bool too_long = error.reason() == Reason::timed_out;
  const Ending ending = end_of(peer_, error);
  if (error.reason() == Reason::cancelled) {
    lose(Loss::timeout, "was no longer wanted");
    throw Error(ErrorCode::cancelled, fmt::format("{}: cancelled", what));
  }
  lose(too_long ? Loss::timeout : Loss::fault,
       too_long ? fmt::format("took over {} s to {}", seconds, what) : ending.how);
  if (too_long)
    throw Error(
        ErrorCode::timed_out,
        fmt::format("{}: it took over {} s, and the worker process was ended", what, seconds),
        ending.last_words);
  throw Error(ending.killed ? ErrorCode::machine_failed : ErrorCode::launch_failed,
              fmt::format("{}: the worker process {}", what, ending.how), ending.last_words);
}

// What is left of the worker is of no more use: its memory goes back to the device.
void RemoteBackend::lose(Loss loss, const std::string& why) noexcept {
  lost_ = loss;
  releases_->next_generation();
  peer_.channel.close();
  if (peer_.process != nullptr) peer_.process->end(0);
  try {
    why_lost_ = why;
  } catch (const std::exception&) {
  }
}

bool RemoteBackend::recover() {
  const std::lock_guard lock(mutex_);
  if (lost_.load() == Loss::none) return true;
  try {
    Welcome welcome;
    Peer peer = start_(welcome);
    if (welcome.device.uuid != welcome_.device.uuid ||
        welcome.device.kind() != welcome_.device.kind())
      throw Error(ErrorCode::device_unavailable,
                  fmt::format("a new worker found {} in place of {}", welcome.device.name,
                              welcome_.device.name));
    peer_ = std::move(peer);
  } catch (const Error& error) {
    if (options_.log) options_.log(LogLevel::warning, error.what());
    return false;
  }
  releases_->next_generation();
  lost_ = Loss::none;
  return true;
}

}  // namespace

std::unique_ptr<Backend> make_remote_backend(const Environment& environment,
                                             const WorkerOptions& options, StartMeasuring start) {
  return std::make_unique<RemoteBackend>(environment, options, std::move(start));
}

}  // namespace worker

std::unique_ptr<Backend> make_worker_backend(const Environment& environment,
                                             const WorkerOptions& options) {
  const auto device = parse_device_name(options.device);
  const bool in_host_memory = device && device->kind->in_host_memory;
  worker::Hello hello{.version = std::string(version()),
                      .task = worker::Task::measure,
                      .device = options.device,
                      .environment = environment,
                      // A driver reserves more than there is; what a GPU holds is its own business.
                      .memory_limit = in_host_memory ? worker::usable_memory() / 4 * 3 : 0};
  return worker::make_remote_backend(
      environment, options, [hello = std::move(hello), program = options.program](auto& welcome) {
        return worker::start_peer(program, hello, &welcome);
      });
}

}  // namespace cudadent
