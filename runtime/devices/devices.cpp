#include "runtime/devices/devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/host/backend.h"
#include "runtime/backends/host/compiler.h"

namespace cudadent {

namespace {

using Log = std::function<void(LogLevel, std::string_view)>;

// A row of the table of backends: what a BackendKind's backend does.
struct BackendRow {
  const BackendKind* kind;
  int (*count)(std::string* why_none);
  std::unique_ptr<Backend> (*open)(int ordinal, const Environment& environment, Log&& log);
  std::unique_ptr<Compiler> (*compiler)(const Environment& environment, Supervision supervision);
  void (*name_compiler)(Environment& environment);
};

void name_nvrtc(Environment& environment) {
  try {
    const auto nvrtc = cuda::load_nvrtc(cuda::nvrtc_search(environment));
    std::error_code error;
    const auto file = std::filesystem::absolute(nvrtc.file, error);
    if (!error && std::filesystem::exists(file, error)) environment.nvrtc = file.string();
  } catch (const std::exception&) {  // the other will not find it either, and says what to do
  }
}

constexpr std::array rows{
    BackendRow{
        .kind = &cuda_kind,
        .count = [](std::string* why_none) { return cuda_device_count(why_none); },
        .open = [](int ordinal, const Environment& environment,
                   Log&&) { return make_cuda_backend(ordinal, environment); },
        .compiler = [](const Environment& environment, Supervision) -> std::unique_ptr<Compiler> {
          return std::make_unique<cuda::CudaCompiler>(cuda::nvrtc_search(environment));
        },
        .name_compiler = name_nvrtc},
    BackendRow{.kind = &host_kind,
               .count = [](std::string*) { return 1; },
               .open = [](int, const Environment& environment,
                          Log&& log) { return make_host_backend(environment, std::move(log)); },
               .compiler = [](const Environment& environment,
                              Supervision supervision) -> std::unique_ptr<Compiler> {
                 return std::make_unique<HostCompiler>(environment.host_compiler, supervision);
               },
               // Which one is in the environment already.
               .name_compiler = [](Environment&) {}},
};

const BackendRow& row_of(const BackendKind& kind) {
  const auto row =
      std::find_if(rows.begin(), rows.end(), [&](const auto& one) { return one.kind == &kind; });
  if (row == rows.end())
    throw Error(ErrorCode::internal, fmt::format("nothing opens devices of {}", kind.name));
  return *row;
}

}  // namespace

int device_count(const BackendKind& kind, std::string* why_none) {
  return row_of(kind).count(why_none);
}

const BackendKind& default_backend_kind() {
  const auto kinds = backend_kinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(),
                                  [](const auto* kind) { return device_count(*kind) > 0; });
  return found == kinds.end() ? host_kind : **found;
}

std::unique_ptr<Backend> open_backend(const DeviceName& device, const Environment& environment,
                                      Log log) {
  return row_of(*device.kind).open(device.ordinal, environment, std::move(log));
}

std::unique_ptr<Compiler> make_compiler(const BackendKind& kind, const Environment& environment,
                                        Supervision supervision) {
  return row_of(kind).compiler(environment, supervision);
}

void name_compiler(const BackendKind& kind, Environment& environment) {
  row_of(kind).name_compiler(environment);
}

}  // namespace cudadent
