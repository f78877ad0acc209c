// What a kernel compiled for the emulator and the emulator know of each other.
//
// The kernel's side is one translation unit without standard headers, so neither has this file. The
// kernel calls the machine it runs on through virtual functions; what the machine is asked to do, it
// does for the thread that is running.
#pragma once

namespace cudadent::emulator {

using U32 = unsigned int;
using U64 = unsigned long long;

struct Extents {
  U32 x, y, z;
};

enum class Element : unsigned char { bf16, f16, tf32, e4m3, e5m2, f32 };

// A warp's matrix product d += a · b: d is 16 by 8, a is 16 by k, b is k by 8, and a thread holds the
// fragments of the PTX ISA, "Warp Level Matrix Instructions". Both operands may differ in type only
// when they are 8-bit floats.
struct WarpProduct {
  Element a, b;
  int k;
};

// A warpgroup's matrix product d = a · b (+ d when `accumulate`): d is 64 by n. A thread of it gives
// the address of its n / 2 accumulators.
struct WarpgroupProduct {
  Element a, b;
  int n, k;
  bool accumulate;
  bool a_transposed, b_transposed;  // m (or n) is innermost in shared memory
  U64 a_descriptor, b_descriptor;
  const U32* a_registers;  // 4 of this thread when a is not in shared memory, else null
  float* d;
};

// A copy between a box of a tensor and shared memory.
struct TensorCopy {
  const void* map;
  U32 shared;
  int rank;
  int coordinates[5];
  U32 barrier;  // of loads
  U32 blocks;   // of the cluster, a bit each; 0: the one that `shared` is an address of
  bool add;     // of stores
  const char* instruction;
};

// A copy of bytes that lie side by side.
struct BulkCopy {
  void* global;
  U32 shared;
  U32 bytes;
  U32 barrier;
  U32 blocks;
  bool add_f32;
  const char* instruction;
};

// Of the threads that met at a barrier.
struct Votes {
  int holds;  // for so many the predicate holds
  int threads;
};

class Machine {
 public:
  // Shared memory. `declaration` tells the variables of a kernel apart.
  virtual void* static_shared(const void* declaration, U64 bytes, U64 alignment,
                              const char* name) = 0;
  virtual void* dynamic_shared(U64 alignment, const char* name) = 0;
  virtual U32 shared_address(const void* pointer) = 0;
  // Of any block of the cluster; checked.
  virtual void* shared_pointer(U32 address, U32 bytes, U32 alignment, const char* instruction) = 0;
  virtual void shared_written(U32 address, U32 bytes) = 0;

  // Lanes of a warp. `all` gets the values of the lanes that take part, which are returned.
  virtual U32 exchange(U32 mask, U64 value, U64 (&all)[32], const char* instruction) = 0;
  virtual void load_matrix(U32* out, int count, bool transposed, U32 address) = 0;
  virtual void store_matrix(U32 address, const U32* values, int count, bool transposed) = 0;
  virtual void multiply(const WarpProduct& product, float* d, const U32* a, const U32* b) = 0;

  // Threads of a block; `threads` is 0 for all that have not exited.
  virtual void barrier_sync(int index, int threads, const char* instruction) = 0;
  virtual void barrier_arrive(int index, int threads) = 0;
  virtual Votes barrier_count(int index, int threads, bool predicate, const char* instruction) = 0;

  // Blocks of a cluster.
  virtual int cluster_rank() = 0;
  virtual int cluster_blocks() = 0;
  virtual U32 cluster_address(U32 address, int rank) = 0;
  virtual void cluster_arrive() = 0;
  virtual void cluster_wait() = 0;

  // mbarriers.
  virtual void mbarrier_init(U32 barrier, int arrivals) = 0;
  virtual void mbarrier_init_fence() = 0;
  virtual void mbarrier_arrive(U32 barrier, int arrivals, int expected_bytes,
                               const char* instruction) = 0;
  virtual bool mbarrier_test(U32 barrier, U32 parity) = 0;
  virtual void mbarrier_wait(U32 barrier, U32 parity) = 0;

  // Copies. A group's number counts back from the latest.
  virtual void copy_async(U32 shared, const void* global, int bytes, int source_bytes) = 0;
  virtual void copy_async_commit() = 0;
  virtual void copy_async_wait(int pending) = 0;
  virtual void copy_async_arrive(U32 barrier, bool counted) = 0;
  virtual void tensor_prefetch(const void* map) = 0;
  virtual void tensor_load(const TensorCopy& copy) = 0;
  virtual void tensor_store(const TensorCopy& copy) = 0;
  virtual void bulk_load(const BulkCopy& copy) = 0;
  virtual void bulk_store(const BulkCopy& copy) = 0;
  virtual void bulk_commit() = 0;
  virtual void bulk_wait(int pending, bool until_read) = 0;
  virtual void async_proxy_fence() = 0;

  // Warpgroups.
  virtual void wgmma_fence() = 0;
  virtual void wgmma(const WarpgroupProduct& product) = 0;
  virtual void wgmma_commit() = 0;
  virtual void wgmma_wait(int pending) = 0;
  virtual void registers(int count, bool increase) = 0;

  // Lets other threads run: what a thread that waits for memory to change has to call.
  virtual void yield(const char* instruction) = 0;
  [[noreturn]] virtual void fail(const char* what) = 0;
  [[noreturn]] virtual void fail_at(U32 line,
                                    const char* what) = 0;  // of the specialization's source
  virtual void check_alignment(const void* pointer, U32 alignment, const char* what) = 0;

 protected:
  ~Machine() = default;
};

// What a thread sees of itself.
struct Thread {
  Extents thread_index, block_index, block_extents, grid_extents;
  Machine* machine;
};

// What a compiled kernel tells of itself.
struct EntryFacts {
  void (*call)(void* const* arguments);
  const U32* parameter_bytes;   // ends with a 0
  U32 max_threads, min_blocks;  // of __launch_bounds__; 0 without
};

}  // namespace cudadent::emulator
