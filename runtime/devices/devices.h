// Devices and compilers by name: the one place that knows every backend.
#pragma once

#include <cudadent/cudadent.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/backends/backend.h"
#include "runtime/backends/compiler.h"
#include "runtime/base/environment.h"
#include "runtime/language/backend_kind.h"

namespace cudadent {

// Devices of the kind that this process may use; 0 when there is none, and then `why_none` says why. What
// cuda_device_count() says of time and errors holds here.
int device_count(const BackendKind& kind, std::string* why_none = nullptr);
// The kind that "auto" means: the first in the table that has a device here.
const BackendKind& default_backend_kind();

// `log` may be empty. Throws Error(device_unavailable).
std::unique_ptr<Backend> open_backend(const DeviceName& device, const Environment& environment,
                                      std::function<void(LogLevel, std::string_view)> log = {});

// Needs no device of the kind; finds what compiles when first asked.
std::unique_ptr<Compiler> make_compiler(const BackendKind& kind, const Environment& environment,
                                        Supervision supervision = Supervision::here);
// Makes the environment name the compiler that this process would use, so that another process uses the same: it
// sees neither what this one has loaded already nor which Python this one is.
void name_compiler(const BackendKind& kind, Environment& environment);

}  // namespace cudadent
