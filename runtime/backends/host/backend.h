// The embedded default device: C++ templates run on all cores of the host.
#pragma once

#include <cudadent/cudadent.h>

#include <functional>
#include <memory>
#include <string_view>

#include "runtime/backends/backend.h"
#include "runtime/base/environment.h"

namespace cudadent {

// Starts no thread and no compiler until needed. `log`, which may be empty, is told when the system has fewer
// threads left than the device should have. In the child of a fork the backend and what was made with it go on,
// with threads of the child's own.
std::unique_ptr<Backend> make_host_backend(
    const Environment& environment, std::function<void(LogLevel, std::string_view)> log = {});

}  // namespace cudadent
