// What tells backends apart, in one table. Whoever needs to know asks the table and does not compare names. How a
// backend is opened is the table's other half, in runtime/devices, since it has to know the backends themselves.
#pragma once

#include <cudadent/cudadent.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/language/device.h"

namespace cudadent {

// A fact about the device that every specialization's prelude has as a constant.
struct DeviceConstant {
  std::string_view name;
  int Device::*fact;
};

struct BackendKind {
  std::string_view name;           // "cuda": in manifests, Device::backend and names of devices
  std::string_view title;          // "CUDA": as people write it
  std::string_view source_suffix;  // of a template's source, unless its manifest names another
  std::string_view
      shared_types;  // the file below kernel_templates/ that every specialization begins with
  std::string_view prelude_begin, prelude_end;  // around a prelude's constants
  std::span<const DeviceConstant> constants;
  // Put behind the source for each kernel that is launched, with the kernel's name for {0}; empty: nothing.
  std::string_view entry_wrapper;
  // Tensors and kernels use this process's own memory. Then there is one device of the kind; else devices are
  // numbered.
  bool in_host_memory;
  // What winners are shared by, see Device::kind().
  std::string (*kind_of)(const Device& device);
};

extern const BackendKind cuda_kind, host_kind;

// All of them, the one that "auto" prefers first.
std::span<const BackendKind* const> backend_kinds() noexcept;
// Null for a name that is none.
const BackendKind* find_backend_kind(std::string_view name) noexcept;
// Throws Error(internal) for a name that is none: for names that were checked when they were read.
const BackendKind& backend_kind(std::string_view name);

// What opens a device: "host", "cuda:1".
struct DeviceName {
  const BackendKind* kind = &host_kind;
  int ordinal = 0;

  [[nodiscard]] std::string text() const;
};
// From "host", "cuda" (the first) or "cuda:1"; nothing for other text.
std::optional<DeviceName> parse_device_name(std::string_view text);
// What parse_device_name() takes, for messages: "cuda, cuda:N or host".
std::string device_name_forms();
DeviceName name_of(const Device& device);

// Where a device's tensors are, as Tensor::device says it: an ordinal, or host_memory.
std::int32_t tensor_place(const Device& device);
// The device whose tensors are in that place.
DeviceName device_at(std::int32_t place);

}  // namespace cudadent
