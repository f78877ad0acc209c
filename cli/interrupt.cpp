#include "cli/interrupt.h"

#include <csignal>

namespace cudadent::cli {

namespace {

volatile std::sig_atomic_t asked = 0;

}  // namespace

void catch_interrupt() {
  std::signal(SIGINT, [](int) {
    asked = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

bool interrupted() noexcept { return asked != 0; }

}  // namespace cudadent::cli
