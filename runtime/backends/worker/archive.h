// Values as bytes, for two processes of one build: what a Writer was given, a Reader gives back in the same
// order. fields() names a struct's members once, for both directions.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/base/environment.h"

namespace cudadent::worker {

// The other process sent what it cannot mean.
class ProtocolError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class T, class Plain>
concept Is = std::same_as<std::remove_const_t<T>, Plain>;

template <class T>
concept Number = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class Writer {
 public:
  template <class... Values>
  void operator()(const Values&... values) {
    (put(values), ...);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  template <class T>
  void put(const T& value) {
    if constexpr (Number<T>) {
      append(&value, sizeof value);
    } else {
      fields(*this, value);
    }
  }
  void put(const std::string& text) {
    put(text.size());
    append(text.data(), text.size());
  }
  void put(const std::filesystem::path& path) { put(path.string()); }
  template <class T>
  void put(const std::span<T>& items) {
    put(items.size());
    if constexpr (Number<std::remove_const_t<T>>) {
      append(items.data(), items.size_bytes());
    } else {
      for (const auto& item : items) put(item);
    }
  }
  template <class T>
  void put(const std::vector<T>& items) {
    put(std::span<const T>(items));
  }
  template <class T, std::size_t count>
  void put(const std::array<T, count>& items) {
    for (const T& item : items) put(item);
  }
  void append(const void* data, std::size_t count) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + count);
  }

  std::vector<std::byte> bytes_;
};

// Throws ProtocolError for what no Writer can have written; allocates no more than there is to read.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class... Values>
  void operator()(Values&... values) {
    (get(values), ...);
  }
  template <class T>
  T take() {
    T value{};
    get(value);
    return value;
  }
  // The numbers that a vector or span of just this length was written as.
  template <Number T>
  void take_into(std::span<T> target) {
    if (take<std::size_t>() != target.size()) too_short();
    copy(target.data(), target.size_bytes());
  }
  void expect_end() const {
    if (!bytes_.empty()) throw ProtocolError("a message is longer than what it says");
  }

 private:
  template <class T>
  void get(T& value) {
    if constexpr (std::same_as<T, bool>) {
      value = take<std::uint8_t>() != 0;
    } else if constexpr (Number<T>) {
      copy(&value, sizeof value);
    } else {
      fields(*this, value);
    }
  }
  void get(std::string& text) {
    const auto part = next(take<std::size_t>());
    text.assign(reinterpret_cast<const char*>(part.data()), part.size());
  }
  void get(std::filesystem::path& path) { path = take<std::string>(); }
  template <class T>
  void get(std::vector<T>& items) {
    const auto count = take<std::size_t>();
    items.clear();
    if constexpr (Number<T>) {
      if (count > bytes_.size() / sizeof(T)) too_short();
      items.resize(count);
      copy(items.data(), count * sizeof(T));
    } else {
      // Not made room for at once: the count may be nonsense.
      for (std::size_t i = 0; i < count; ++i) get(items.emplace_back());
    }
  }
  template <class T, std::size_t count>
  void get(std::array<T, count>& items) {
    for (T& item : items) get(item);
  }
  std::span<const std::byte> next(std::size_t count) {
    if (count > bytes_.size()) too_short();
    const auto part = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return part;
  }
  void copy(void* target, std::size_t count) {
    const auto part = next(count);
    if (count > 0) std::memcpy(target, part.data(), count);
  }
  [[noreturn]] static void too_short() {
    throw ProtocolError("a message is shorter than what it says");
  }

  std::span<const std::byte> bytes_;
};

// ------------------------------------------------------------------------------------- structs

template <class Archive, Is<Device> T>
void fields(Archive& archive, T& device) {
  archive(device.backend, device.name, device.architecture, device.ordinal, device.sm,
          device.sm_count, device.memory_bytes, device.l2_bytes, device.l1_bytes,
          device.max_shared_memory, device.shared_memory_per_sm, device.registers_per_sm,
          device.max_threads_per_block, device.max_threads_per_sm, device.warp_size,
          device.simd_bytes, device.cores, device.clock_hertz, device.memory_bandwidth,
          device.driver, device.uuid);
}

template <class Archive, Is<Environment> T>
void fields(Archive& archive, T& environment) {
  archive(environment.cache, environment.template_paths, environment.device, environment.nvrtc,
          environment.layers, environment.worker, environment.host_compiler,
          environment.host_threads, environment.cuda_homes, environment.conda_prefix,
          environment.virtual_env);
}

template <class Archive, Is<KernelResources> T>
void fields(Archive& archive, T& resources) {
  archive(resources.entry, resources.registers, resources.spill_bytes, resources.local_bytes,
          resources.shared_bytes, resources.constant_bytes);
}

template <class Archive, Is<Binary> T>
void fields(Archive& archive, T& binary) {
  archive(binary.specialization_hash, binary.architecture, binary.compiler, binary.image,
          binary.resources, binary.compile_seconds, binary.log);
}

template <class Archive, Is<Argument> T>
void fields(Archive& archive, T& argument) {
  archive(argument.kind, argument.index, argument.integer, argument.real);
}

template <class Archive, Is<KernelLaunch> T>
void fields(Archive& archive, T& launch) {
  archive(launch.entry, launch.grid, launch.block, launch.cluster, launch.shared_memory,
          launch.arguments);
}

template <class Archive, Is<WorkspacePlan> T>
void fields(Archive& archive, T& workspace) {
  archive(workspace.name, workspace.bytes, workspace.zeroed);
}

template <class Archive, Is<TensorMapPlan> T>
void fields(Archive& archive, T& map) {
  archive(map.name, map.of_workspace, map.index, map.dtype, map.dimensions, map.strides, map.box,
          map.swizzle, map.l2_promotion);
}

template <class Archive, Is<LaunchPlan> T>
void fields(Archive& archive, T& plan) {
  archive(plan.workspaces, plan.tensor_maps, plan.launches);
}

}  // namespace cudadent::worker
