#include "runtime/backends/cuda/gpu.h"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "runtime/language/backend_kind.h"

namespace cudadent::cuda {

namespace {

// Zero where the driver does not know the attribute, as when it has retired one.
int attribute(const Driver& driver, DeviceHandle handle, DeviceAttribute which) {
  int value = 0;
  return driver.device_attribute(&value, which, handle) == Result::success ? value : 0;
}

std::string uuid_text(const Driver& driver, DeviceHandle handle) {
  Uuid uuid{};
  if (driver.device_uuid(&uuid, handle) != Result::success) return {};
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid.bytes[i]);
  }
  return text;
}

std::string driver_version(const Driver& driver) {
  int version = 0;  // 1000 * major + 10 * minor
  driver.driver_version(&version);
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// Peak: the memory clock is that of one of the two transfers a cycle.
double bandwidth(const Driver& driver, DeviceHandle handle) {
  const double clock = 1e3 * attribute(driver, handle, DeviceAttribute::memory_clock_kilohertz);
  return 2 * clock * attribute(driver, handle, DeviceAttribute::memory_bus_bits) / 8;
}

Device read_device(const Driver& driver, DeviceHandle handle, int ordinal) {
  const auto read = [&](DeviceAttribute which) { return attribute(driver, handle, which); };
  std::array<char, 256> name{};
  std::size_t memory = 0;
  const auto unavailable = ErrorCode::device_unavailable;
  check(driver, driver.device_name(name.data(), static_cast<int>(name.size()) - 1, handle),
        "read the device's name", unavailable);
  check(driver, driver.device_memory(&memory, handle), "read the device's memory size",
        unavailable);

  Device device;
  device.backend = cuda_kind.name;
  device.name = name.data();
  device.ordinal = ordinal;
  device.sm = 10 * read(DeviceAttribute::compute_capability_major) +
              read(DeviceAttribute::compute_capability_minor);
  // Architecture-specific targets, which have wgmma, tcgen05 and the like, exist from 9.0 on.
  device.architecture = fmt::format("sm_{}{}", device.sm, device.sm >= 90 ? "a" : "");
  device.sm_count = read(DeviceAttribute::multiprocessor_count);
  device.memory_bytes = static_cast<std::int64_t>(memory);
  device.l2_bytes = read(DeviceAttribute::l2_bytes);
  device.max_shared_memory = read(DeviceAttribute::max_shared_memory_per_block_optin);
  device.shared_memory_per_sm = read(DeviceAttribute::shared_memory_per_multiprocessor);
  device.registers_per_sm = read(DeviceAttribute::registers_per_multiprocessor);
  device.max_threads_per_block = read(DeviceAttribute::max_threads_per_block);
  device.max_threads_per_sm = read(DeviceAttribute::max_threads_per_multiprocessor);
  device.warp_size = read(DeviceAttribute::warp_size);
  device.clock_hertz = 1e3 * read(DeviceAttribute::clock_kilohertz);
  device.memory_bandwidth = bandwidth(driver, handle);
  // No attribute tells the size of L1 and shared memory together; it goes with the architecture.
  const auto nominal = nominal_cuda_device(device.architecture);
  device.l1_bytes = nominal ? nominal->l1_bytes : device.shared_memory_per_sm;
  device.driver = driver_version(driver);
  device.uuid = uuid_text(driver, handle);
  return device;
}

// A pool that gives memory back only when it dies: workspaces come and go with every launch.
MemoryPool create_pool(const Driver& driver, DeviceHandle handle) {
  MemoryPoolProperties properties;
  properties.location_id = handle;
  MemoryPool pool = nullptr;
  if (driver.pool_create(&pool, &properties) != Result::success) return nullptr;
  std::uint64_t threshold = std::numeric_limits<std::uint64_t>::max();
  driver.pool_set_attribute(pool, mempool_release_threshold, &threshold);
  return pool;
}

}  // namespace

std::shared_ptr<const Gpu> Gpu::open(const Driver& driver, int ordinal) {
  const auto unavailable = ErrorCode::device_unavailable;
  int count = 0;
  cuda::check(driver, driver.device_count(&count), "count the CUDA devices", unavailable);
  if (ordinal < 0 || ordinal >= count)
    throw Error(unavailable,
                fmt::format("There is no device cuda:{}: {} CUDA device{} visible to this process "
                            "(see nvidia-smi and CUDA_VISIBLE_DEVICES).",
                            ordinal, count, count == 1 ? " is" : "s are"));
  const std::shared_ptr<Gpu> gpu(new Gpu);
  gpu->driver = driver;
  cuda::check(driver, driver.device_get(&gpu->handle, ordinal),
              fmt::format("open device cuda:{}", ordinal), unavailable);
  gpu->device = read_device(driver, gpu->handle, ordinal);
  constexpr std::array grid{DeviceAttribute::max_grid_x, DeviceAttribute::max_grid_y,
                            DeviceAttribute::max_grid_z};
  for (std::size_t i = 0; i < 3; ++i)
    gpu->max_grid[i] = static_cast<unsigned>(attribute(driver, gpu->handle, grid[i]));
  cuda::check(driver, driver.primary_context_retain(&gpu->context, gpu->handle),
              fmt::format("open a context on {} (cuda:{})", gpu->device.name, ordinal),
              unavailable);
  const ContextScope scope = gpu->scope();
  cuda::check(driver, driver.stream_create(&gpu->stream, stream_non_blocking),
              fmt::format("create a stream on {}", gpu->device.name), unavailable);
  gpu->pool = create_pool(driver, gpu->handle);
  return gpu;
}

Gpu::~Gpu() {
  if (context == nullptr || !is_here()) return;
  // After a fault, or when the process is ending, the driver refuses all of this: so be it.
  try {
    const ContextScope current = scope();
    driver.context_synchronize();  // Callers' streams may still use it.
    kept_memory.free_all(driver, stream);
    if (stream != nullptr) driver.stream_destroy(stream);
    if (pool != nullptr) driver.pool_destroy(pool);
  } catch (const std::exception&) {
  }
  driver.primary_context_release(handle);
}

bool Gpu::capturing(Stream of) const {
  CaptureStatus status = CaptureStatus::none;
  const Result result = driver.stream_capturing(of, &status);
  // The legacy default stream cannot be captured, but while another stream is, using it would spoil
  // that capture: the driver says so with this error.
  if (result == Result::stream_capture_implicit) return true;
  check(result, "ask whether a stream is being captured");
  return status != CaptureStatus::none;
}

void Gpu::fail(Result result, std::string_view attempted) const {
  if (is_sticky(result)) lost_.store(true, std::memory_order_relaxed);
  throw make_error(driver, result, fmt::format("{} on {}", attempted, device.name));
}

}  // namespace cudadent::cuda
