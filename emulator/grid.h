// One launch of a kernel on the emulator: its blocks, warps and threads, and everything they share.
//
// Threads are fibers of the calling thread. One runs until it waits for others (a barrier, the lanes
// of its warp, a copy); which continues then is drawn from the schedule's seed, as is how late copies
// and matrix products that run on their own are carried out. A program that synchronises as it must
// gives the same result whatever the seed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "emulator/device/interface.h"
#include "emulator/fiber.h"
#include "emulator/memory.h"
#include "emulator/schedule.h"
#include "emulator/tensor_map.h"
#include "runtime/language/device.h"

namespace cudadent::emulator {

struct LaunchRequest {
  std::string name;
  const EntryFacts* facts = nullptr;
  const void** thread_slot = nullptr;  // where the kernel's code looks for the running thread
  std::array<unsigned, 3> grid{}, block{}, cluster{1, 1, 1};
  unsigned shared_memory = 0;
  void* const* arguments = nullptr;
  Device device;
  Schedule schedule;
};

// Of a grid, cluster or block, in parts.
inline unsigned volume(const std::array<unsigned, 3>& sides) {
  return sides[0] * sides[1] * sides[2];
}

struct Fiber;
struct Warp;
struct Block;
struct Cluster;
class Grid;

enum class WaitKind : std::uint8_t { lanes, barrier, cluster, mbarrier, wgmma, registers, spin };

// ---------------------------------------------------------------------------- asynchronous work

struct CopyAsync {
  void* shared;
  const void* global;
  int bytes, source_bytes;
};
struct CopyGroup {
  std::vector<CopyAsync> copies;
};

// A bulk or tensor load to one block, until its bytes have arrived.
struct PendingLoad {
  bool is_tensor = false;
  TensorCopy tensor{};
  BulkCopy bulk{};
  TensorMapFacts map;
  Block* block = nullptr;  // that it arrives in
  U32 offset = 0, barrier_offset = 0;
};

struct PendingStore {
  enum class State : std::uint8_t { issued, read, written };
  bool is_tensor = false;
  TensorCopy tensor{};
  BulkCopy bulk{};
  TensorMapFacts map;
  State state = State::issued;
  Block* block = nullptr;
  std::vector<std::byte> bytes;
};
using StoreGroup = std::vector<std::shared_ptr<PendingStore>>;

// One wgmma of a warpgroup.
struct WarpgroupStep {
  WarpgroupProduct product{};
  unsigned joined = 0;  // warps, a bit each
  bool done = false;
  std::array<float*, 128> d{};
  std::array<const U32*, 128> a{};
  std::array<std::array<U32, 4>, 128> a_values{};
  std::vector<float> a_matrix, b;  // 64 by k and k by n, when they have been read
  std::vector<float> values;       // 64 by n: what d held, then the result
  std::array<bool, 4> chained{};   // d was being computed already: no values of its own
};

struct Warpgroup {
  std::deque<WarpgroupStep> steps;
  std::uint64_t first = 0;  // number of steps.front()
  std::uint64_t executed = 0;
  std::array<std::uint64_t, 4> joined{};               // steps issued, by warp
  std::array<std::vector<std::uint64_t>, 4> groups{};  // by warp: steps issued when it was closed
  std::array<bool, 4> fenced{};
  std::vector<Fiber*> waiters;
};

// ---------------------------------------------------------------------------- synchronisation

struct Collective {
  const char* instruction;
  void (*execute)(Grid&, Warp&, Collective&);
  U32 mask = 0, arrived = 0;
  std::array<void*, 32> payload{};
};

std::string lanes_text(U32 lanes);  // "0-3,7"

struct BlockBarrier {
  const char* instruction = nullptr;
  int threads = 0;  // expected; 0: all
  int arrived = 0, votes = 0;
  std::vector<Fiber*> waiters;
  std::array<U32, 32> lanes{};  // that arrived, by warp
};

struct MBarrier {
  U32 address = 0;
  int expected = 0, pending = 0;
  std::int64_t bytes = 0;  // still to come
  std::uint64_t phase = 0;
  const Fiber* unfenced = nullptr;  // who initialised it without mbarrier_init_fence yet
  std::vector<Fiber*> waiters;
};

// ---------------------------------------------------------------------------- threads

struct Fiber {
  Context context;
  void* stack = nullptr;
  Thread view{};
  Grid* grid = nullptr;
  Warp* warp = nullptr;
  int lane = 0;
  bool done = false;

  WaitKind waits_for = WaitKind::spin;
  const char* instruction = "";
  U32 detail = 0, detail2 = 0;
  Votes votes{};

  bool cluster_arrived = false;
  std::uint64_t cluster_phase = 0;

  CopyGroup open_copies;
  std::deque<CopyGroup> copy_groups;
  StoreGroup open_stores;
  std::deque<StoreGroup> store_groups;
};

struct Warp {
  Block* block = nullptr;
  int index = 0;
  U32 existing = 0, exited = 0, runnable = 0;
  int registers = 0;  // a thread
  std::vector<Collective> collectives;
  std::array<Fiber*, 32> fibers{};
  std::size_t ready_index = 0;
  bool ready = false;
  [[nodiscard]] U32 live() const { return existing & ~exited; }
};

// A variable in shared memory.
struct SharedVariable {
  U32 offset = 0, bytes = 0;
  const char* name = "";
};

struct Block {
  Cluster* cluster = nullptr;
  int rank = 0;  // in the cluster
  Extents index{};
  int live = 0;
  bool exited = false;
  std::byte* shared = nullptr;  // address 0 of the block's shared memory
  U32 dynamic_offset = 0, dynamic_bytes = 0;
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;
  std::array<BlockBarrier, 16> barriers;
  std::deque<MBarrier> mbarriers;
  int free_registers = 0;
  std::vector<Fiber*> register_waiters;
  // 16-byte granules written by a thread that has not made them visible to the async proxy.
  std::map<U32, const Fiber*> unfenced_writes;
};

struct Cluster {
  std::vector<Block> blocks;
  std::deque<Fiber> fibers;
  int live = 0, arrived = 0;
  std::uint64_t phase = 0;
  std::vector<Fiber*> waiters;
};

// ---------------------------------------------------------------------------- the launch

// Shared memory begins behind what the system keeps for itself; its address 0 is never one of a
// variable. What lies between variables is marked.
inline constexpr U32 first_shared_address = 1024;
inline constexpr int shared_guard = 0xDB;

class Grid final : public Machine {
 public:
  Grid(LaunchRequest request, GlobalMemory& memory);
  ~Grid();
  Grid(const Grid&) = delete;
  Grid& operator=(const Grid&) = delete;

  // Returns when every block has exited. Throws Error(launch_failed) that says what a thread did
  // that the hardware would not have forgiven, or what they all wait for.
  void run();

  void* static_shared(const void* declaration, U64 bytes, U64 alignment, const char* name) override;
  void* dynamic_shared(U64 alignment, const char* name) override;
  U32 shared_address(const void* pointer) override;
  void* shared_pointer(U32 address, U32 bytes, U32 alignment, const char* instruction) override;
  void shared_written(U32 address, U32 bytes) override;

  U32 exchange(U32 mask, U64 value, U64 (&all)[32], const char* instruction) override;
  void load_matrix(U32* out, int count, bool transposed, U32 address) override;
  void store_matrix(U32 address, const U32* values, int count, bool transposed) override;
  void multiply(const WarpProduct& product, float* d, const U32* a, const U32* b) override;

  void barrier_sync(int index, int threads, const char* instruction) override;
  void barrier_arrive(int index, int threads) override;
  Votes barrier_count(int index, int threads, bool predicate, const char* instruction) override;

  int cluster_rank() override;
  int cluster_blocks() override;
  U32 cluster_address(U32 address, int rank) override;
  void cluster_arrive() override;
  void cluster_wait() override;

  void mbarrier_init(U32 barrier, int arrivals) override;
  void mbarrier_init_fence() override;
  void mbarrier_arrive(U32 barrier, int arrivals, int expected_bytes,
                       const char* instruction) override;
  bool mbarrier_test(U32 barrier, U32 parity) override;
  void mbarrier_wait(U32 barrier, U32 parity) override;

  void copy_async(U32 shared, const void* global, int bytes, int source_bytes) override;
  void copy_async_commit() override;
  void copy_async_wait(int pending) override;
  void copy_async_arrive(U32 barrier, bool counted) override;
  void tensor_prefetch(const void* map) override;
  void tensor_load(const TensorCopy& copy) override;
  void tensor_store(const TensorCopy& copy) override;
  void bulk_load(const BulkCopy& copy) override;
  void bulk_store(const BulkCopy& copy) override;
  void bulk_commit() override;
  void bulk_wait(int pending, bool until_read) override;
  void async_proxy_fence() override;

  void wgmma_fence() override;
  void wgmma(const WarpgroupProduct& product) override;
  void wgmma_commit() override;
  void wgmma_wait(int pending) override;
  void registers(int count, bool increase) override;

  void yield(const char* instruction) override;
  [[noreturn]] void fail(const char* what) override;
  [[noreturn]] void fail_at(U32 line, const char* what) override;
  void check_alignment(const void* pointer, U32 alignment, const char* what) override;

 private:
  struct SharedPlace {
    Block* block;
    U32 offset;
    [[nodiscard]] std::byte* pointer() const { return block->shared + offset; }
  };

  // Blocks, threads, and who runs next.
  static void run_fiber(void* fiber);
  void run_all();
  [[noreturn]] void abandon(const char* what, const void* address);
  void admit_cluster();
  void start_block(Block& block, const Extents& index);
  void retire_clusters();
  void check_left_behind(const Block& block);
  void exit_thread(Fiber& fiber);
  void exit_block(Block& block);
  Fiber* choose();
  Warp* choose_warp();
  void resume(Fiber& fiber);
  void wait(WaitKind kind, const char* instruction, U32 detail = 0, U32 detail2 = 0);
  void wake(Fiber& fiber);
  void make_ready(Warp& warp);
  void unmake_ready(Warp& warp);
  void need(int sm, const char* instruction) {
    if (request_.device.sm < sm) [[unlikely]]
      raise_missing(instruction);
  }
  [[noreturn]] void raise_missing(const char* instruction);
  Fiber& self() { return *running_; }
  Block& own_block() { return *running_->warp->block; }
  [[nodiscard]] unsigned resident_limit() const;
  [[nodiscard]] std::size_t arena_bytes() const;

  // Reports.
  [[noreturn]] void report_deadlock();
  [[nodiscard]] std::string describe_wait(const Fiber& fiber);
  [[nodiscard]] std::string describe(const Fiber& fiber) const;
  [[noreturn]] void raise(const std::string& what);

  // Lanes.
  void collective(U32 mask, bool aligned, const char* instruction, void* payload,
                  void (*execute)(Grid&, Warp&, Collective&));
  void complete(Warp& warp, std::size_t index);

  // Barriers.
  BlockBarrier& barrier_at(int index, const char* instruction);
  void arrive_at(BlockBarrier& barrier, int index, int threads, bool predicate,
                 const char* instruction);
  void complete_if_all_there(Block& block, BlockBarrier& barrier, int index);
  void complete_cluster_barrier(Cluster& cluster);
  MBarrier& mbarrier_at(SharedPlace place, const char* instruction);
  void settle(MBarrier& barrier, const char* instruction);
  void bytes_arrived(SharedPlace barrier, std::int64_t bytes, const char* instruction);

  // Shared memory.
  SharedPlace place_of(U32 address, U32 bytes, U32 alignment, const char* instruction);
  void check_inside(const Block& block, U32 offset, U32 bytes, const char* instruction);
  // The global side of a bulk copy: aligned, whole, and in one allocation.
  void check_bulk(const BulkCopy& copy);
  void check_fenced(const Block& block, U32 offset, U32 bytes, const char* instruction);
  void lay_out(Block& block, U32 offset, U32 bytes);

  // Copies.
  void perform(const CopyGroup& group);
  void arrive_load(std::size_t index);
  void read_source(PendingStore& store);
  void write_result(PendingStore& store);
  void issue(std::shared_ptr<PendingStore> store);
  std::vector<Block*> targets_of(U32 blocks, const SharedPlace& single, const char* instruction);
  void start_load(PendingLoad load, U32 shared, U32 barrier, U32 blocks, U32 bytes, U32 alignment,
                  const char* instruction);
  bool advance_asynchronous();

  // Warpgroups.
  Warpgroup& own_warpgroup();
  void join(Warp& warp, const Collective& collective);
  void read_operands(WarpgroupStep& step, Block& block);
  void read_registers(WarpgroupStep& step);
  bool execute_next(Warpgroup& group, Block& block);

  LaunchRequest request_;
  GlobalMemory& memory_;
  Random random_;
  Stacks& stacks_;
  std::vector<std::uint32_t> cluster_order_;
  std::size_t next_cluster_ = 0;
  std::vector<std::unique_ptr<Cluster>> resident_;
  std::vector<std::byte*> arenas_, free_arenas_;
  std::map<const void*, SharedVariable> variables_;  // the same in every block
  U32 variables_end_ = 0;
  std::vector<Warp*> ready_;
  std::vector<Fiber*> spinning_;
  Warp* current_warp_ = nullptr;
  const Warp* last_warp_ = nullptr;  // of WarpOrder::one_last
  Context main_;
  Fiber* running_ = nullptr;
  std::exception_ptr failure_;
  std::uint64_t spins_without_progress_ = 0;
  std::vector<PendingLoad> loads_;
  std::vector<std::shared_ptr<PendingStore>> stores_;
};

}  // namespace cudadent::emulator
