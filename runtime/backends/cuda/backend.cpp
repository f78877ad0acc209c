#include "runtime/backends/cuda/backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "runtime/backends/cuda/cache_flush.h"
#include "runtime/backends/cuda/executable.h"
#include "runtime/backends/cuda/gpu.h"

namespace cudadent {

namespace cuda {

namespace {

DevicePointer device_pointer(const void* pointer) {
  return reinterpret_cast<DevicePointer>(pointer);
}

// Timed runs that are queued before waiting for them: enough to keep the device busy throughout, and
// far below the 1024 entries after which a launch waits for room.
constexpr std::size_t batch = 32;

class EventHandle {
 public:
  explicit EventHandle(const Gpu& gpu) : gpu_(gpu) {
    gpu.check(gpu.driver.event_create(&event_, 0), "create an event");
  }
  ~EventHandle() {
    if (event_ != nullptr && gpu_.is_here()) gpu_.driver.event_destroy(event_);
  }
  EventHandle(EventHandle&& other) noexcept
      : gpu_(other.gpu_), event_(std::exchange(other.event_, nullptr)) {}
  EventHandle& operator=(EventHandle&&) = delete;
  [[nodiscard]] Event get() const { return event_; }

 private:
  const Gpu& gpu_;
  Event event_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<const Gpu> gpu, NvrtcSearch search)
      : gpu_(std::move(gpu)), compiler_(std::move(search)) {}

  [[nodiscard]] const Device& device() const noexcept override { return gpu_->device; }
  std::string compiler() override {
    gpu_->check_process();
    return compiler_.name();
  }
  Binary compile(const Specialization& specialization) override {
    gpu_->check_process();
    return compiler_.compile(specialization);
  }

  std::shared_ptr<const Module> load(const Binary& binary) override;
  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                            const LaunchPlan& plan) override;

  Buffer allocate(std::size_t bytes) override;
  void copy_to_device(void* device, const void* host, std::size_t bytes) override;
  void copy_to_host(void* host, const void* device, std::size_t bytes) override;
  void fill(void* device, std::byte value, std::size_t bytes) override;
  void synchronize() override;
  [[nodiscard]] Loss lost() const noexcept override {
    return gpu_->lost() ? Loss::fault : Loss::none;
  }
  bool capturing(Stream stream) override;

  [[nodiscard]] std::string measurement() const override {
    return "cuda events, L2 flushed by reads, 2";
  }
  std::vector<double> time(const Executable& executable, const LaunchArguments& arguments,
                           int count) override;

 private:
  struct Timing {  // made by the first call of time()
    CacheFlush flush;
    std::vector<EventHandle> starts, stops;
  };
  const Timing& timing();
  void time_batch(const Executable& executable, const LaunchArguments& arguments, std::size_t count,
                  std::vector<double>& seconds);

  std::shared_ptr<const Gpu> gpu_;
  CudaCompiler compiler_;
  std::mutex timing_mutex_;
  std::optional<Timing> timing_;
};

// ------------------------------------------------------------------------------------- loading

std::shared_ptr<const Module> CudaBackend::load(const Binary& binary) {
  return std::make_shared<CudaModule>(gpu_, binary);
}

std::unique_ptr<const Executable> CudaBackend::prepare(std::shared_ptr<const Module> module,
                                                       const LaunchPlan& plan) {
  auto cuda_module = std::dynamic_pointer_cast<const CudaModule>(std::move(module));
  if (cuda_module == nullptr)
    throw Error(ErrorCode::internal, "A module of another backend was handed to the CUDA backend.");
  return prepare_executable(gpu_, std::move(cuda_module), plan);
}

// ------------------------------------------------------------------------------------- memory

Buffer CudaBackend::allocate(std::size_t bytes) {
  const ContextScope scope = gpu_->scope();
  DevicePointer pointer = 0;
  // The driver refuses 0 bytes.
  gpu_->check(gpu_->driver.memory_allocate(&pointer, std::max<std::size_t>(bytes, 1)),
              fmt::format("allocate {} bytes", bytes));
  return Buffer(reinterpret_cast<void*>(pointer), bytes, [gpu = gpu_](void* memory) noexcept {
    try {
      const ContextScope current = gpu->scope();
      gpu->driver.memory_free(device_pointer(memory));
    } catch (const std::exception&) {  // the context is lost, and the memory with it
    }
  });
}

// These three are for tuning and verifying, not for speed: each runs after all earlier work, on
// whatever stream, and is done when it returns.

void CudaBackend::copy_to_device(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  const ContextScope scope = gpu_->scope();
  synchronize();
  gpu_->check(gpu_->driver.copy_to_device(device_pointer(device), host, bytes, gpu_->stream),
              fmt::format("copy {} bytes to the device", bytes));
  gpu_->check(gpu_->driver.stream_synchronize(gpu_->stream), "copy to the device");
}

void CudaBackend::copy_to_host(void* host, const void* device, std::size_t bytes) {
  if (bytes == 0) return;
  const ContextScope scope = gpu_->scope();
  synchronize();
  gpu_->check(gpu_->driver.copy_to_host(host, device_pointer(device), bytes, gpu_->stream),
              fmt::format("copy {} bytes from the device", bytes));
  gpu_->check(gpu_->driver.stream_synchronize(gpu_->stream), "copy from the device");
}

void CudaBackend::fill(void* device, std::byte value, std::size_t bytes) {
  if (bytes == 0) return;
  const ContextScope scope = gpu_->scope();
  synchronize();
  gpu_->check(gpu_->driver.fill(device_pointer(device), std::to_integer<unsigned char>(value),
                                bytes, gpu_->stream),
              fmt::format("fill {} bytes", bytes));
  gpu_->check(gpu_->driver.stream_synchronize(gpu_->stream), "fill device memory");
}

void CudaBackend::synchronize() {
  const ContextScope scope = gpu_->scope();
  gpu_->check(gpu_->driver.context_synchronize(), "wait for the work queued");
}

bool CudaBackend::capturing(Stream stream) {
  const ContextScope scope = gpu_->scope();
  return gpu_->capturing(stream);
}

// ------------------------------------------------------------------------------------- timing

const CudaBackend::Timing& CudaBackend::timing() {
  if (timing_) return *timing_;
  // Twice the L2 cache evicts what the last run left there whatever the replacement policy; at least
  // 64 MiB take long enough to read that the host has queued the run behind it meanwhile.
  const auto l2 = static_cast<std::size_t>(std::max<std::int64_t>(gpu_->device.l2_bytes, 0));
  Timing timing{
      CacheFlush(gpu_, allocate(std::max<std::size_t>(2 * l2, std::size_t{64} << 20))), {}, {}};
  for (std::size_t i = 0; i < batch; ++i) {
    timing.starts.emplace_back(*gpu_);
    timing.stops.emplace_back(*gpu_);
  }
  return timing_.emplace(std::move(timing));
}

std::vector<double> CudaBackend::time(const Executable& executable,
                                      const LaunchArguments& arguments, int count) {
  gpu_->check_process();
  const std::scoped_lock lock(timing_mutex_);
  const ContextScope scope = gpu_->scope();
  // What other streams still run would be measured too.
  synchronize();
  LaunchArguments on_our_stream = arguments;
  on_our_stream.stream = gpu_->stream;
  std::vector<double> seconds;
  const auto wanted = static_cast<std::size_t>(std::max(count, 0));
  seconds.reserve(wanted);
  while (seconds.size() < wanted)
    time_batch(executable, on_our_stream, std::min(batch, wanted - seconds.size()), seconds);
  return seconds;
}

// flush, start, run, stop, flush, start, …: the flush ahead of each run hides the host's latency.
void CudaBackend::time_batch(const Executable& executable, const LaunchArguments& arguments,
                             std::size_t count, std::vector<double>& seconds) {
  const Driver& driver = gpu_->driver;
  const Timing& tools = timing();
  for (std::size_t i = 0; i < count; ++i) {
    tools.flush.queue(gpu_->stream);
    gpu_->check(driver.event_record(tools.starts[i].get(), gpu_->stream), "record an event");
    executable.launch(arguments);
    gpu_->check(driver.event_record(tools.stops[i].get(), gpu_->stream), "record an event");
  }
  gpu_->check(driver.stream_synchronize(gpu_->stream), "run the kernel to be timed");
  for (std::size_t i = 0; i < count; ++i) {
    float milliseconds = 0;
    gpu_->check(driver.event_elapsed(&milliseconds, tools.starts[i].get(), tools.stops[i].get()),
                "read a time");
    seconds.push_back(1e-3 * static_cast<double>(milliseconds));
  }
}

}  // namespace

}  // namespace cuda

int cuda_device_count(std::string* why_none) {
  std::string why;
  int count = 0;
  try {
    const cuda::Driver driver = cuda::load_driver();
    cuda::check(driver, driver.device_count(&count), "count the CUDA devices",
                ErrorCode::device_unavailable);
    if (count == 0) why = cuda::advice(cuda::Result::no_device);
  } catch (const Error& error) {
    // In the child of a fork whose parent has used CUDA: there is a GPU, and the host is not what is wanted then.
    if (error.detail() == "CUDA_ERROR_NOT_INITIALIZED") throw;
    why = error.what();
  }
  if (why_none != nullptr) *why_none = why;
  return count;
}

std::unique_ptr<Backend> make_cuda_backend(int ordinal, const Environment& environment,
                                           std::span<const std::filesystem::path> site_packages) {
  return make_cuda_backend(ordinal, cuda::load_driver(),
                           cuda::nvrtc_search(environment, site_packages));
}

std::unique_ptr<Backend> make_cuda_backend(int ordinal, const cuda::Driver& driver,
                                           cuda::NvrtcSearch search) {
  return std::make_unique<cuda::CudaBackend>(cuda::Gpu::open(driver, ordinal), std::move(search));
}

}  // namespace cudadent
