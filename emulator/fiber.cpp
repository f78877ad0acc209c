#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cudadent::emulator {

namespace {

constexpr std::size_t guard_bytes = 4096;

}  // namespace

#if defined(__x86_64__)

// What a function must preserve goes onto the stack, the stack pointer is exchanged, and the same comes
// off the other stack (System V ABI, x86-64).
extern "C" void cudadent_emulator_switch(void** save, void* load);
// Where a new flow of control begins: its argument and entry lie in registers that were "preserved".
extern "C" void cudadent_emulator_begin();
asm(R"(
.text
.type cudadent_emulator_switch, @function
cudadent_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cudadent_emulator_switch, .-cudadent_emulator_switch
.type cudadent_emulator_begin, @function
cudadent_emulator_begin:
  movq %r12, %rdi
  callq *%r13
  ud2
.size cudadent_emulator_begin, .-cudadent_emulator_begin
)");

void make_context(Context& context, void* stack, std::size_t bytes, void (*entry)(void*),
                  void* argument) {
  auto* top = reinterpret_cast<std::uint64_t*>(static_cast<std::byte*>(stack) + bytes);
  *--top = 0;  // where a debugger stops
  *--top = 0;
  *--top = reinterpret_cast<std::uint64_t>(&cudadent_emulator_begin);
  *--top = 0;                                          // rbp
  *--top = 0;                                          // rbx
  *--top = reinterpret_cast<std::uint64_t>(argument);  // r12
  *--top = reinterpret_cast<std::uint64_t>(entry);     // r13
  *--top = 0;                                          // r14
  *--top = 0;                                          // r15
  context.stack_pointer = top;
  context.fake_stack = nullptr;
  context.stack_bottom = stack;
  context.stack_bytes = bytes;
}

static void jump(Context& from, Context& to) {
  cudadent_emulator_switch(&from.stack_pointer, to.stack_pointer);
}

#else

void make_context(Context& context, void* stack, std::size_t bytes, void (*entry)(void*),
                  void* argument) {
  ::getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  // makecontext hands over ints: an address goes as two.
  using Entry = void (*)(unsigned, unsigned, unsigned, unsigned);
  const Entry begin = [](unsigned entry_high, unsigned entry_low, unsigned high, unsigned low) {
    const auto join = [](unsigned h, unsigned l) { return std::uint64_t{h} << 32 | l; };
    reinterpret_cast<void (*)(void*)>(join(entry_high, entry_low))(
        reinterpret_cast<void*>(join(high, low)));
  };
  const auto code = reinterpret_cast<std::uint64_t>(entry);
  const auto data = reinterpret_cast<std::uint64_t>(argument);
  ::makecontext(&context.state, reinterpret_cast<void (*)()>(begin), 4,
                static_cast<unsigned>(code >> 32), static_cast<unsigned>(code),
                static_cast<unsigned>(data >> 32), static_cast<unsigned>(data));
  context.fake_stack = nullptr;
  context.stack_bottom = stack;
  context.stack_bytes = bytes;
}

static void jump(Context& from, Context& to) { ::swapcontext(&from.state, &to.state); }

#endif

void switch_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
  jump(from, to);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#else
  jump(from, to);
#endif
}

void context_entered() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void describe_own_stack([[maybe_unused]] Context& context) {
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  ::pthread_getattr_np(::pthread_self(), &attributes);
  void* bottom = nullptr;
  ::pthread_attr_getstack(&attributes, &bottom, &context.stack_bytes);
  ::pthread_attr_destroy(&attributes);
  context.stack_bottom = bottom;
#endif
}

Stacks::~Stacks() {
  for (void* mapping : mappings_) ::munmap(mapping, batch * (bytes_ + guard_bytes));
}

void* Stacks::take() {
  if (free_.empty()) {
    const std::size_t step = bytes_ + guard_bytes;
    void* mapping = ::mmap(nullptr, batch * step, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    mappings_.push_back(mapping);
    for (std::size_t i = 0; i < batch; ++i) {
      auto* bottom = static_cast<std::byte*>(mapping) + i * step;
      if (mappings_.size() <= guarded_batches) ::mprotect(bottom, guard_bytes, PROT_NONE);
      free_.push_back(bottom + guard_bytes);
    }
  }
  void* stack = free_.back();
  free_.pop_back();
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, bytes_);  // frames that were never left
#endif
  return stack;
}

}  // namespace cudadent::emulator
