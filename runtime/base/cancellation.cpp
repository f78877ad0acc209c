#include "runtime/base/cancellation.h"

#include <cudadent/cudadent.h>

#include <utility>

namespace cudadent {

namespace {

thread_local const Cancellation* innermost = nullptr;

}  // namespace

Cancellation::Cancellation(std::function<bool()> asked)
    : asked_(std::move(asked)), outer_(innermost) {
  innermost = this;
}

Cancellation::~Cancellation() { innermost = outer_; }

bool Cancellation::possible() noexcept { return innermost != nullptr; }

bool Cancellation::asked() {
  for (const Cancellation* scope = innermost; scope != nullptr; scope = scope->outer_)
    if (scope->asked_ && scope->asked_()) return true;
  return false;
}

void Cancellation::check() {
  if (asked()) throw Error(ErrorCode::cancelled, "cancelled before there was a result");
}

}  // namespace cudadent
