// Turns a kernel's wild access into an error of its launch.
#pragma once

namespace cudadent::emulator {

// While one exists on a thread, a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL) of that thread stops what it
// does and calls escape(argument, what, address), which must not return, on the stack whose end it
// asks for. Faults elsewhere go to who handled them before. On x86-64 only, and not under sanitizers,
// which have their own reports.
class FaultHandler {
 public:
  struct Escape {
    void* argument;
    void* (*stack_end)(void* argument);  // null: the fault is none of a kernel's
    void (*escape)(void* argument, const char* what, const void* address);
  };
  explicit FaultHandler(const Escape& escape);
  ~FaultHandler();
  FaultHandler(const FaultHandler&) = delete;
  FaultHandler& operator=(const FaultHandler&) = delete;
};

}  // namespace cudadent::emulator
