// CUDA C++ for the system's compiler: keywords, built-in variables, types and functions that the
// templates use. Comes before a specialization's source, which is compiled with it as it is but for
// the changes of translate.h. No standard headers: templates may use any of their names, and compile
// faster.
#pragma once

#include "arithmetic.h"
#include "interface.h"

// ------------------------------------------------------------------------------- keywords

#define __device__
#define __host__
#define __global__
#define __constant__
#define __managed__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) alignas(bytes)
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __builtin_assume(condition)
#define CUDADENT_EMULATOR 1

// ------------------------------------------------------------------------------- the thread

namespace emulated_detail {
using namespace cudadent::emulator;
inline const Thread* thread = nullptr;  // the running one; the emulator sets it
inline Machine& machine() { return *thread->machine; }
}  // namespace emulated_detail

extern "C" __attribute__((visibility("default"))) inline const void*
cudadent_emulator_thread_slot() {
  return &emulated_detail::thread;
}
// So that the slot's function exists.
__attribute__((used)) static const void* (*const cudadent_emulator_keep)() =
    &cudadent_emulator_thread_slot;

#define threadIdx (emulated_detail::thread->thread_index)
#define blockIdx (emulated_detail::thread->block_index)
#define blockDim (emulated_detail::thread->block_extents)
#define gridDim (emulated_detail::thread->grid_extents)
constexpr int warpSize = 32;

// ------------------------------------------------------------------------------- warps

namespace emulated_detail {

template <typename T>
U64 to_word(T value) {
  static_assert(sizeof(T) <= 8);
  U64 word = 0;
  __builtin_memcpy(&word, &value, sizeof value);
  return word;
}
template <typename T>
T from_word(U64 word) {
  T value;
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}

inline int lane() {
  const Thread& self = *thread;
  return static_cast<int>(
      (self.thread_index.x +
       self.block_extents.x * (self.thread_index.y + self.block_extents.y * self.thread_index.z)) &
      31u);
}

// What a lane reads from one that does not take part: nothing that could pass for a result.
constexpr U64 nothing = ~0ull;

template <typename T>
T from_lane(unsigned mask, T value, int source, const char* name) {
  U64 all[32];
  const U32 present = machine().exchange(mask, to_word(value), all, name);
  return from_word<T>(present >> source & 1u ? all[source] : nothing);
}

}  // namespace emulated_detail

// A lane whose source lies outside its segment keeps its own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = emulated_detail::lane() & ~(width - 1);
  return emulated_detail::from_lane(mask, value, first + (source & (width - 1)), "__shfl_sync");
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32) {
  const int lane = emulated_detail::lane(), first = lane & ~(width - 1);
  const int source = lane ^ flip;
  return emulated_detail::from_lane(mask, value, source < first + width ? source : lane,
                                    "__shfl_xor_sync");
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = emulated_detail::lane(), first = lane & ~(width - 1);
  const int source = lane - static_cast<int>(delta);
  return emulated_detail::from_lane(mask, value, source >= first ? source : lane, "__shfl_up_sync");
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = emulated_detail::lane(), first = lane & ~(width - 1);
  const int source = lane + static_cast<int>(delta);
  return emulated_detail::from_lane(mask, value, source < first + width ? source : lane,
                                    "__shfl_down_sync");
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  emulated_detail::U64 all[32];
  const unsigned present =
      emulated_detail::machine().exchange(mask, predicate != 0, all, "__ballot_sync");
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if (present >> i & 1u && all[i] != 0) result |= 1u << i;
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulated_detail::U64 all[32];
  emulated_detail::machine().exchange(mask, 0, all, "__syncwarp");
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  emulated_detail::U64 all[32];
  const auto word = emulated_detail::to_word(value);
  const unsigned present = emulated_detail::machine().exchange(mask, word, all, "__match_any_sync");
  unsigned result = 0;
  for (int i = 0; i < 32; ++i)
    if (present >> i & 1u && all[i] == word) result |= 1u << i;
  return result;
}

namespace emulated_detail {
template <typename T, typename F>
T reduce(unsigned mask, T value, const char* name, F&& combine) {
  U64 all[32];
  const unsigned present = machine().exchange(mask, to_word(value), all, name);
  bool first = true;
  T result{};
  for (int i = 0; i < 32; ++i) {
    if (!(present >> i & 1u)) continue;
    result = first ? from_word<T>(all[i]) : combine(result, from_word<T>(all[i]));
    first = false;
  }
  return result;
}
}  // namespace emulated_detail
#define CUDADENT_REDUCE(NAME, EXPRESSION)                                                         \
  template <typename T>                                                                           \
  T NAME(unsigned mask, T value) {                                                                \
    return emulated_detail::reduce(mask, value, #NAME, [](T a, T b) -> T { return EXPRESSION; }); \
  }
CUDADENT_REDUCE(__reduce_add_sync, a + b)
CUDADENT_REDUCE(__reduce_min_sync, b < a ? b : a)
CUDADENT_REDUCE(__reduce_max_sync, a < b ? b : a)
CUDADENT_REDUCE(__reduce_and_sync, a& b)
CUDADENT_REDUCE(__reduce_or_sync, a | b)
CUDADENT_REDUCE(__reduce_xor_sync, a ^ b)
#undef CUDADENT_REDUCE

// ------------------------------------------------------------------------------- blocks

inline void __syncthreads() { emulated_detail::machine().barrier_sync(0, 0, "__syncthreads"); }
inline int __syncthreads_count(int predicate) {
  return emulated_detail::machine()
      .barrier_count(0, 0, predicate != 0, "__syncthreads_count")
      .holds;
}
inline int __syncthreads_or(int predicate) {
  return emulated_detail::machine().barrier_count(0, 0, predicate != 0, "__syncthreads_or").holds >
         0;
}
inline int __syncthreads_and(int predicate) {
  const auto votes =
      emulated_detail::machine().barrier_count(0, 0, predicate != 0, "__syncthreads_and");
  return votes.holds == votes.threads;
}

// Memory is coherent here: fences order nothing that was not in order.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { emulated_detail::machine().yield("__nanosleep"); }
[[noreturn]] inline void __trap() { emulated_detail::machine().fail("__trap"); }
inline long long clock64() {
  static long long now = 0;
  return ++now;
}

// ------------------------------------------------------------------------------- memory

namespace emulated_detail {
template <typename T>
T checked_load(const T* address, const char* what) {
  machine().check_alignment(address, sizeof(T), what);
  return *address;
}
template <typename T>
void checked_store(T* address, T value, const char* what) {
  machine().check_alignment(address, sizeof(T), what);
  *address = value;
}
}  // namespace emulated_detail

#define CUDADENT_LOAD(NAME)                               \
  template <typename T>                                   \
  T NAME(const T* address) {                              \
    return emulated_detail::checked_load(address, #NAME); \
  }
#define CUDADENT_STORE(NAME)                               \
  template <typename T>                                    \
  void NAME(T* address, T value) {                         \
    emulated_detail::checked_store(address, value, #NAME); \
  }
CUDADENT_LOAD(__ldg)
CUDADENT_LOAD(__ldca)
CUDADENT_LOAD(__ldcg)
CUDADENT_LOAD(__ldcs)
CUDADENT_LOAD(__ldlu)
CUDADENT_STORE(__stwb)
CUDADENT_STORE(__stcg)
CUDADENT_STORE(__stcs)
CUDADENT_STORE(__stwt)
#undef CUDADENT_LOAD
#undef CUDADENT_STORE
// Read again and again by who waits for a change.
template <typename T>
T __ldcv(const T* address) {
  emulated_detail::machine().yield("__ldcv");
  return emulated_detail::checked_load(address, "__ldcv");
}

// A thread runs alone until it waits for something, so these need no atomic instruction.
#define CUDADENT_ATOMIC(NAME, EXPRESSION)  \
  template <typename T, typename U>        \
  T NAME(T* address, U given) {            \
    const T old = *address;                \
    const T value = static_cast<T>(given); \
    *address = EXPRESSION;                 \
    return old;                            \
  }
CUDADENT_ATOMIC(atomicAdd, old + value)
CUDADENT_ATOMIC(atomicSub, old - value)
CUDADENT_ATOMIC(atomicMin, value < old ? value : old)
CUDADENT_ATOMIC(atomicMax, old < value ? value : old)
CUDADENT_ATOMIC(atomicAnd, old& value)
CUDADENT_ATOMIC(atomicOr, old | value)
CUDADENT_ATOMIC(atomicXor, old ^ value)
CUDADENT_ATOMIC(atomicExch, value)
CUDADENT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
CUDADENT_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)
#undef CUDADENT_ATOMIC
template <typename T, typename U, typename V>
T atomicCAS(T* address, U expected, V value) {
  const T old = *address;
  if (old == static_cast<T>(expected))
    *address = static_cast<T>(value);
  else
    emulated_detail::machine().yield("atomicCAS");
  return old;
}
inline unsigned long long __cvta_generic_to_shared(const void* pointer) {
  return emulated_detail::machine().shared_address(pointer);
}

// ------------------------------------------------------------------------------- undefined behaviour

// What the compiler has the code call where it does what C++ does not define (-fsanitize=…). The
// system's library for that would print and go on.
namespace emulated_detail {
struct SourceLocation {
  const char* file;
  U32 line, column;
};
__attribute__((noinline, no_sanitize("undefined"))) inline void undefined(const void* where,
                                                                          const char* what) {
  machine().fail_at(static_cast<const SourceLocation*>(where)->line, what);
}
}  // namespace emulated_detail
#define CUDADENT_UNDEFINED(NAME, WHAT)                                                          \
  extern "C" __attribute__((used, no_sanitize("undefined"))) inline void __ubsan_handle_##NAME( \
      void* where, U64 = 0, U64 = 0) {                                                          \
    emulated_detail::undefined(where, WHAT);                                                    \
  }
using cudadent::emulator::U64;
CUDADENT_UNDEFINED(type_mismatch_v1, "misaligned access, or one through a null pointer")
CUDADENT_UNDEFINED(out_of_bounds, "index outside of an array")
CUDADENT_UNDEFINED(shift_out_of_bounds, "shift by as many bits as the type has, or more")
CUDADENT_UNDEFINED(divrem_overflow, "division by zero, or too large for its type")
CUDADENT_UNDEFINED(add_overflow, "sum too large for its type")
CUDADENT_UNDEFINED(sub_overflow, "difference too large for its type")
CUDADENT_UNDEFINED(mul_overflow, "product too large for its type")
CUDADENT_UNDEFINED(negate_overflow, "negation too large for its type")
CUDADENT_UNDEFINED(builtin_unreachable, "a place that is said to be out of reach")
#undef CUDADENT_UNDEFINED

// ------------------------------------------------------------------------------- entries

namespace emulated_detail {

template <int... I>
struct Indices {};
template <int N, int... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <int... I>
struct MakeIndices<0, I...> {
  using Type = Indices<I...>;
};

template <typename Function>
struct Entry;
template <typename... P>
struct Entry<void (*)(P...)> {
  static constexpr U32 sizes[] = {static_cast<U32>(sizeof(P))..., 0u};
  template <int... I>
  static void call(void (*function)(P...), void* const* arguments, Indices<I...>) {
    function(*static_cast<P*>(arguments[I])...);
  }
  static void call(void (*function)(P...), void* const* arguments) {
    call(function, arguments, typename MakeIndices<sizeof...(P)>::Type());
  }
};

struct Bounds {
  U32 max_threads = 0, min_blocks = 0;
  constexpr Bounds() = default;
  constexpr Bounds(U64 threads, U64 blocks = 1, U64 = 0)
      : max_threads(static_cast<U32>(threads)), min_blocks(static_cast<U32>(blocks)) {}
};

}  // namespace emulated_detail

#define CUDADENT_ENTRY(NAME, ...)                                         \
  extern "C" __attribute__((visibility("default")))                       \
  const cudadent::emulator::EntryFacts cudadent_emulator_entry_##NAME = { \
      [](void* const* arguments) {                                        \
        emulated_detail::Entry<decltype(&NAME)>::call(&NAME, arguments);  \
      },                                                                  \
      emulated_detail::Entry<decltype(&NAME)>::sizes,                     \
      emulated_detail::Bounds(__VA_ARGS__).max_threads,                   \
      emulated_detail::Bounds(__VA_ARGS__).min_blocks};
