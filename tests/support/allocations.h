// Counts what the calling thread allocates, for what must not.
#pragma once

#include <optional>

namespace cudadent::tests {

// Since the thread began; nothing in builds with a sanitizer, which has an operator new of its own.
std::optional<long> allocations() noexcept;

}  // namespace cudadent::tests
