// The worker's side: answers requests until the other end hangs up.
#pragma once

#include <functional>
#include <string>

#include "runtime/backends/backend.h"
#include "runtime/backends/worker/channel.h"
#include "runtime/backends/worker/messages.h"

namespace cudadent::worker {

// Reads the Hello, answers it, and serves what it asks for. Throws ChannelError when the other end hangs up
// or makes no sense, and Error when it is of another version.
void serve(Channel& channel);

// Opens what a Hello asks to measure on.
using OpenDevice = std::function<std::unique_ptr<Backend>(const Hello&)>;
void serve(Channel& channel, const OpenDevice& open);

}  // namespace cudadent::worker
