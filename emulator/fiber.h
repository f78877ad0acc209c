// Threads of a block as fibers: flows of control of one operating-system thread, each with its stack,
// that hand over to one another where they choose to.
//
// Boost.Context's headers alone are a package of a hundred megabytes, and ucontext asks the kernel for
// the signal mask at every switch, which here is the innermost loop: a switch is some ten instructions
// of assembly on x86-64, and ucontext elsewhere.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cudadent::emulator {

// Where a flow of control stopped. Of the one that is running it means nothing.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t state;
#endif
  // For the address sanitizer, which has to know the stack.
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
};

// Stops `from`, which is running, and continues `to`; returns when something switches to `from`.
void switch_context(Context& from, Context& to);

// Makes `context` one that calls entry(argument), which must not return, on the stack.
void make_context(Context& context, void* stack, std::size_t bytes, void (*entry)(void*),
                  void* argument);
// The first thing a new flow of control has to call.
void context_entered();
// Fills in what is needed to come back to the flow of control of a thread of the operating system.
void describe_own_stack(Context& context);

// Equal stacks, most with a page below that cannot be touched: a process may have some 65000 pieces of
// memory that differ from their neighbours.
class Stacks {
 public:
  explicit Stacks(std::size_t bytes) : bytes_(bytes) {}
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  void* take();
  void give_back(void* stack) { free_.push_back(stack); }

 private:
  static constexpr std::size_t batch = 128;
  static constexpr std::size_t guarded_batches = 64;
  std::size_t bytes_;
  std::vector<void*> mappings_, free_;
};

}  // namespace cudadent::emulator
