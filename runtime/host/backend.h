// The embedded default device: C++ templates run on all cores of the host.
#pragma once

#include <memory>

#include "runtime/backend.h"
#include "runtime/environment.h"

namespace cudadent {

// Starts no thread and no compiler until needed.
std::unique_ptr<Backend> make_host_backend(const Environment& environment);

}  // namespace cudadent
