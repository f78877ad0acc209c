#include "emulator/faults.h"

#include <ucontext.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <utility>

namespace cudadent::emulator {

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

// Signals are the process's; handlers stay as long as any thread runs a kernel.
std::mutex installing;
int users = 0;
struct sigaction before[std::size(signals)];

struct Fault {
  const char* what = nullptr;
  const void* address = nullptr;
};
thread_local const FaultHandler::Escape* own_escape = nullptr;
thread_local Fault own_fault;

const char* describe(int signal) {
  switch (signal) {
    case SIGBUS:
      return "bus error";
    case SIGFPE:
      return "arithmetic fault, such as a division by zero,";
    case SIGILL:
      return "illegal instruction";
    default:
      return "wild or misaligned access";
  }
}

void leave() {
  const FaultHandler::Escape& escape = *own_escape;
  escape.escape(escape.argument, own_fault.what, own_fault.address);
  std::abort();
}

void on_fault(int signal, siginfo_t* info, void* context) {
  void* stack_end = own_escape == nullptr ? nullptr : own_escape->stack_end(own_escape->argument);
  if (stack_end == nullptr) {  // let it happen again, to who handled it before
    for (std::size_t i = 0; i < std::size(signals); ++i)
      if (signals[i] == signal) ::sigaction(signal, &before[i], nullptr);
    return;
  }
  own_fault = {describe(signal), info->si_addr};
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  // As at the entry of a function: the stack pointer is 8 off a multiple of 16.
  registers[REG_RSP] =
      static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(stack_end) / 16 * 16 - 8);
  registers[REG_RIP] = reinterpret_cast<greg_t>(&leave);
}

// A stack that has overflown cannot be used to say so.
void use_own_signal_stack() {
  thread_local std::byte memory[64 << 10];
  stack_t current;
  if (::sigaltstack(nullptr, &current) == 0 && (current.ss_flags & SS_DISABLE) == 0) return;
  const stack_t stack{memory, 0, sizeof memory};
  ::sigaltstack(&stack, nullptr);
}

}  // namespace

FaultHandler::FaultHandler(const Escape& escape) {
  own_escape = &escape;
  use_own_signal_stack();
  const std::lock_guard lock(installing);
  if (users++ > 0) return;
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (std::size_t i = 0; i < std::size(signals); ++i) ::sigaction(signals[i], &action, &before[i]);
}

FaultHandler::~FaultHandler() {
  own_escape = nullptr;
  const std::lock_guard lock(installing);
  if (--users > 0) return;
  for (std::size_t i = 0; i < std::size(signals); ++i) ::sigaction(signals[i], &before[i], nullptr);
}

#else

FaultHandler::FaultHandler(const Escape&) {}
FaultHandler::~FaultHandler() {}

#endif

}  // namespace cudadent::emulator
