#include "runtime/language/backend_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace cudadent {

namespace {

constexpr std::array cuda_constants{DeviceConstant{"device_sm", &Device::sm},
                                    DeviceConstant{"device_sm_count", &Device::sm_count}};
constexpr std::array host_constants{DeviceConstant{"device_simd_bytes", &Device::simd_bytes}};

std::string kind_of_cuda(const Device& device) {
  return fmt::format("{} {} {} SMs", device.name, device.architecture, device.sm_count);
}

std::string kind_of_host(const Device& device) {
  return fmt::format("{} {} cores {}", device.name, device.cores, device.architecture);
}

}  // namespace

constinit const BackendKind cuda_kind{
    .name = "cuda",
    .title = "CUDA",
    .source_suffix = ".cu",
    .shared_types = "ptx/types.cuh",
    // No template uses every constant; 177 is the compiler's number for "declared but never referenced".
    .prelude_begin = "#pragma nv_diag_suppress 177\n",
    .prelude_end = "#pragma nv_diag_default 177\n",
    .constants = cuda_constants,
    .entry_wrapper = {},
    .in_host_memory = false,
    .kind_of = kind_of_cuda};

constinit const BackendKind host_kind{
    .name = "host",
    .title = "host",
    .source_suffix = ".cpp",
    .shared_types = "host/types.h",
    .prelude_begin = {},
    .prelude_end = {},
    .constants = host_constants,
    .entry_wrapper =
        "extern \"C\" void cudadent_entry_{0}(const Block* block, void* const* args) {{\n"
        "  cudadent_invoke({0}, *block, args);\n}}\n",
    .in_host_memory = true,
    .kind_of = kind_of_host};

namespace {

constexpr std::array kinds{&cuda_kind, &host_kind};

}  // namespace

std::span<const BackendKind* const> backend_kinds() noexcept { return kinds; }

const BackendKind* find_backend_kind(std::string_view name) noexcept {
  const auto found = std::find_if(kinds.begin(), kinds.end(),
                                  [&](const auto* kind) { return kind->name == name; });
  return found == kinds.end() ? nullptr : *found;
}

const BackendKind& backend_kind(std::string_view name) {
  const BackendKind* kind = find_backend_kind(name);
  if (kind == nullptr)
    throw Error(ErrorCode::internal, fmt::format("there is no backend \"{}\"", name));
  return *kind;
}

std::string DeviceName::text() const {
  return kind->in_host_memory ? std::string(kind->name) : fmt::format("{}:{}", kind->name, ordinal);
}

std::optional<DeviceName> parse_device_name(std::string_view text) {
  const auto colon = text.find(':');
  const BackendKind* kind = find_backend_kind(text.substr(0, colon));
  if (kind == nullptr) return std::nullopt;
  if (colon == std::string_view::npos) return DeviceName{kind, 0};
  const char* end = text.data() + text.size();
  int ordinal = -1;
  const auto [p, error] = std::from_chars(text.data() + colon + 1, end, ordinal);
  if (kind->in_host_memory || error != std::errc{} || p != end || ordinal < 0) return std::nullopt;
  return DeviceName{kind, ordinal};
}

std::string device_name_forms() {
  std::vector<std::string> forms;
  for (const BackendKind* kind : kinds) {
    forms.emplace_back(kind->name);
    if (!kind->in_host_memory) forms.push_back(fmt::format("{}:N", kind->name));
  }
  const std::string last = std::move(forms.back());
  forms.pop_back();
  return fmt::format("{} or {}", fmt::join(forms, ", "), last);
}

DeviceName name_of(const Device& device) { return {&backend_kind(device.backend), device.ordinal}; }

std::int32_t tensor_place(const Device& device) {
  return backend_kind(device.backend).in_host_memory ? host_memory : device.ordinal;
}

DeviceName device_at(std::int32_t place) {
  const bool in_host_memory = place == host_memory;
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const auto* kind) {
    return kind->in_host_memory == in_host_memory;
  });
  return {*found, in_host_memory ? 0 : place};
}

}  // namespace cudadent
