// The backend that make_worker_backend() makes, with the way its workers come about left open.
#pragma once

#include <functional>
#include <memory>

#include "runtime/backends/worker/peer.h"
#include "runtime/backends/worker/worker_backend.h"

namespace cudadent::worker {

// Starts a measuring worker; throws Error when there can be none.
using StartMeasuring = std::function<Peer(Welcome&)>;

std::unique_ptr<Backend> make_remote_backend(const Environment& environment,
                                             const WorkerOptions& options, StartMeasuring start);

}  // namespace cudadent::worker
