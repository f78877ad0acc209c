// Copies that run on their own: cp.async, and the copy engine's bulk and tensor copies.
//
// Until somebody has waited for them their destination holds NaNs, and their source is read at the
// last moment, unless chance has them carried out before.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "emulator/grid.h"
#include "emulator/matrices.h"

namespace cudadent::emulator {

namespace {

constexpr int poison = 0xFF;

// Adds an element in memory to another.
void add_element(cuda::TensorMapType type, std::byte* to, const std::byte* from) {
  const auto as_float = [&](Element element) {
    store_element(element, to, load_element(element, to) + load_element(element, from));
  };
  const auto as = [&](auto zero) {
    decltype(zero) a, b;
    std::memcpy(&a, to, sizeof a);
    std::memcpy(&b, from, sizeof b);
    a += b;
    std::memcpy(to, &a, sizeof a);
  };
  switch (type) {
    case cuda::TensorMapType::bf16:
      return as_float(Element::bf16);
    case cuda::TensorMapType::f16:
      return as_float(Element::f16);
    case cuda::TensorMapType::f32:
      return as(0.0F);
    case cuda::TensorMapType::f64:
      return as(0.0);
    case cuda::TensorMapType::u64:
    case cuda::TensorMapType::i64:
      return as(std::uint64_t{});
    default:
      return as(std::uint32_t{});
  }
}

// Calls row(offset of the row in the box, its first element in the tensor or null when the row lies
// outside, the coordinate of its first element).
template <class Row>
void for_each_row(const TensorMapFacts& map, const int (&at)[5], Row&& row) {
  std::array<std::uint32_t, 5> index{};
  std::uint32_t rows = 1;
  for (int i = 1; i < map.rank; ++i) rows *= map.box[i];
  for (std::uint32_t number = 0; number < rows; ++number) {
    std::uint32_t rest = number;
    bool inside = true;
    std::byte* address = map.base;
    for (int i = 1; i < map.rank; ++i) {
      index[static_cast<std::size_t>(i)] = rest % map.box[i];
      rest /= map.box[i];
      const std::int64_t coordinate = std::int64_t{at[i]} + index[static_cast<std::size_t>(i)];
      inside =
          inside && coordinate >= 0 && coordinate < static_cast<std::int64_t>(map.dimensions[i]);
      address += coordinate * static_cast<std::int64_t>(map.strides[i - 1]);
    }
    row(number * map.row_bytes(), inside ? address : nullptr);
  }
}

// The elements of a row of a box that lie inside the tensor: first and last + 1.
std::pair<int, int> inside_row(const TensorMapFacts& map, int x) {
  const auto length = static_cast<std::int64_t>(map.dimensions[0]);
  const auto first = std::clamp<std::int64_t>(-std::int64_t{x}, 0, map.box[0]);
  const auto last = std::clamp<std::int64_t>(length - x, first, map.box[0]);
  return {static_cast<int>(first), static_cast<int>(last)};
}

}  // namespace

// ------------------------------------------------------------------------------- cp.async

void Grid::copy_async(U32 shared, const void* global, int bytes, int source_bytes) {
  need(80, "cp.async");
  const SharedPlace place =
      place_of(shared, static_cast<U32>(bytes), static_cast<U32>(bytes), "cp.async");
  if (place.block != &own_block()) raise("cp.async to another block's shared memory");
  if (source_bytes > 0) {
    check_alignment(global, static_cast<U32>(bytes), "cp.async from");
    if (!memory_.contains(global, static_cast<std::size_t>(source_bytes)))
      raise(fmt::format("cp.async of {} bytes at {}, which are not all in one allocation",
                        source_bytes, global));
  }
  std::memset(place.pointer(), poison, static_cast<std::size_t>(bytes));
  self().open_copies.copies.push_back({place.pointer(), global, bytes, source_bytes});
}

void Grid::perform(const CopyGroup& group) {
  for (const CopyAsync& copy : group.copies) {
    std::memset(copy.shared, 0, static_cast<std::size_t>(copy.bytes));
    if (copy.source_bytes > 0)
      std::memcpy(copy.shared, copy.global, static_cast<std::size_t>(copy.source_bytes));
  }
}

void Grid::copy_async_commit() {
  Fiber& fiber = self();
  fiber.copy_groups.push_back(std::exchange(fiber.open_copies, {}));
  if (!random_.happens(request_.schedule.early)) return;
  for (CopyGroup& group : fiber.copy_groups) perform(std::exchange(group, {}));
}

void Grid::copy_async_wait(int pending) {
  Fiber& fiber = self();
  while (fiber.copy_groups.size() > static_cast<std::size_t>(pending)) {
    perform(fiber.copy_groups.front());
    fiber.copy_groups.pop_front();
  }
}

// Arrives when all copies issued before have been made: they are made now.
void Grid::copy_async_arrive(U32 barrier, bool counted) {
  Fiber& fiber = self();
  for (CopyGroup& group : fiber.copy_groups) perform(std::exchange(group, {}));
  perform(std::exchange(fiber.open_copies, {}));
  if (!counted) {  // the arrival is not among those the barrier was initialised for
    MBarrier& target = mbarrier_at(place_of(barrier, 8, 8, "cp.async.mbarrier.arrive"),
                                   "cp.async.mbarrier.arrive");
    ++target.pending;
  }
  mbarrier_arrive(barrier, 1, 0, "cp.async.mbarrier.arrive");
}

// ------------------------------------------------------------------------------- loads

void Grid::tensor_prefetch(const void* map) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0)
    raise("prefetch.tensormap of an address that is not 64-byte aligned");
}

std::vector<Block*> Grid::targets_of(U32 blocks, const SharedPlace& single,
                                     const char* instruction) {
  if (blocks == 0) return {single.block};
  auto& all = own_block().cluster->blocks;
  if (blocks >> all.size() != 0)
    raise(fmt::format("{} to blocks {:#x} of a cluster of {}", instruction, blocks, all.size()));
  std::vector<Block*> targets;
  for (std::size_t i = 0; i < all.size(); ++i)
    if ((blocks >> i & 1U) != 0) targets.push_back(&all[i]);
  return targets;
}

// The copies of a multicast arrive in each block at a time of their own.
void Grid::start_load(PendingLoad load, U32 shared, U32 barrier, U32 blocks, U32 bytes,
                      U32 alignment, const char* instruction) {
  need(90, instruction);
  const SharedPlace place = place_of(shared, bytes, alignment, instruction);
  const SharedPlace waiting = place_of(barrier, 8, 8, instruction);
  load.offset = place.offset;
  load.barrier_offset = waiting.offset;
  if (blocks == 0 && place.block != waiting.block)
    raise(fmt::format("{} to one block with the mbarrier of another", instruction));
  for (Block* block : targets_of(blocks, place, instruction)) {
    const U32 rank = static_cast<U32>(block->rank + 1) << 24;
    const MBarrier& target =
        mbarrier_at(place_of(rank | load.barrier_offset, 8, 8, instruction), instruction);
    if (target.unfenced != nullptr)
      raise(
          fmt::format("{} with the mbarrier at {:#x}, which was initialised without "
                      "mbarrier_init_fence",
                      instruction, load.barrier_offset));
    const SharedPlace target_place = place_of(rank | load.offset, bytes, alignment, instruction);
    std::memset(target_place.pointer(), poison, bytes);
    load.block = block;
    loads_.push_back(load);
    if (random_.happens(request_.schedule.early)) arrive_load(loads_.size() - 1);
  }
}

void Grid::tensor_load(const TensorCopy& copy) {
  PendingLoad load;
  load.is_tensor = true;
  load.tensor = copy;
  if (const auto why = read_tensor_map(copy.map, load.map); !why.empty())
    raise(fmt::format("{}: {}", copy.instruction, why));
  if (load.map.rank != copy.rank)
    raise(fmt::format("{} with a tensor map of {} dimensions", copy.instruction, load.map.rank));
  if (load.map.swizzle_bytes > 0 && load.map.row_bytes() != load.map.swizzle_bytes)
    raise(fmt::format("{}: a box row of {} bytes with a swizzle of {} is not emulated",
                      copy.instruction, load.map.row_bytes(), load.map.swizzle_bytes));
  const U32 bytes = load.map.box_bytes(), alignment = load.map.alignment();
  start_load(load, copy.shared, copy.barrier, copy.blocks, bytes, alignment, copy.instruction);
}

void Grid::check_bulk(const BulkCopy& copy) {
  check_alignment(copy.global, 16, copy.instruction);
  if (copy.bytes % 16 != 0)
    raise(fmt::format("{} of {} bytes, not a multiple of 16", copy.instruction, copy.bytes));
  if (!memory_.contains(copy.global, copy.bytes))
    raise(fmt::format("{} of {} bytes at {}, which are not all in one allocation", copy.instruction,
                      copy.bytes, copy.global));
}

void Grid::bulk_load(const BulkCopy& copy) {
  PendingLoad load;
  load.bulk = copy;
  check_bulk(copy);
  start_load(load, copy.shared, copy.barrier, copy.blocks, copy.bytes, 16, copy.instruction);
}

namespace {

void load_box(const PendingLoad& load, std::byte* shared) {
  const TensorMapFacts& map = load.map;
  const auto [first, last] = inside_row(map, load.tensor.coordinates[0]);
  for_each_row(map, load.tensor.coordinates, [&](U32 offset, const std::byte* row) {
    for (int i = 0; i < map.box[0]; ++i) {
      const U32 linear = load.offset + offset + static_cast<U32>(i) * map.element_bytes;
      std::byte* to = shared + swizzled(linear, map.swizzle_bytes);
      if (row != nullptr && i >= first && i < last)
        std::memcpy(to, row + (std::int64_t{load.tensor.coordinates[0]} + i) * map.element_bytes,
                    map.element_bytes);
      else
        std::memset(to, 0, map.element_bytes);
    }
  });
}

}  // namespace

void Grid::arrive_load(std::size_t index) {
  const PendingLoad load = loads_[index];
  loads_[index] = loads_.back();
  loads_.pop_back();
  const char* instruction = load.is_tensor ? load.tensor.instruction : load.bulk.instruction;
  Block* block = load.block;
  if (block->exited)
    raise(fmt::format("{} arrives in block {} of the cluster, which has exited", instruction,
                      block->rank));
  const U32 bytes = load.is_tensor ? load.map.box_bytes() : load.bulk.bytes;
  check_fenced(*block, load.offset, bytes, instruction);
  if (load.is_tensor)
    load_box(load, block->shared);
  else
    std::memcpy(block->shared + load.offset, load.bulk.global, load.bulk.bytes);
  bytes_arrived({block, load.barrier_offset}, bytes, instruction);
}

// ------------------------------------------------------------------------------- stores

void Grid::tensor_store(const TensorCopy& copy) {
  need(90, copy.instruction);
  auto store = std::make_shared<PendingStore>();
  store->is_tensor = true;
  store->tensor = copy;
  if (const auto why = read_tensor_map(copy.map, store->map); !why.empty())
    raise(fmt::format("{}: {}", copy.instruction, why));
  const TensorMapFacts& map = store->map;
  if (map.rank != copy.rank)
    raise(fmt::format("{} with a tensor map of {} dimensions", copy.instruction, map.rank));
  if (map.swizzle_bytes > 0 && map.row_bytes() != map.swizzle_bytes)
    raise(fmt::format("{}: a box row of {} bytes with a swizzle of {} is not emulated",
                      copy.instruction, map.row_bytes(), map.swizzle_bytes));
  const SharedPlace place =
      place_of(copy.shared, map.box_bytes(), map.alignment(), copy.instruction);
  store->block = place.block;
  store->tensor.shared = place.offset;
  check_fenced(*place.block, place.offset, map.box_bytes(), copy.instruction);
  self().open_stores.push_back(std::move(store));
}

void Grid::bulk_store(const BulkCopy& copy) {
  need(90, copy.instruction);
  auto store = std::make_shared<PendingStore>();
  store->bulk = copy;
  check_bulk(copy);
  const SharedPlace place = place_of(copy.shared, copy.bytes, 16, copy.instruction);
  store->block = place.block;
  store->bulk.shared = place.offset;
  check_fenced(*place.block, place.offset, copy.bytes, copy.instruction);
  self().open_stores.push_back(std::move(store));
}

void Grid::read_source(PendingStore& store) {
  if (store.state != PendingStore::State::issued) return;
  store.state = PendingStore::State::read;
  if (!store.is_tensor) {
    const std::byte* source = store.block->shared + store.bulk.shared;
    store.bytes.assign(source, source + store.bulk.bytes);
    return;
  }
  store.bytes.resize(store.map.box_bytes());
  for (U32 i = 0; i < store.bytes.size(); ++i)
    store.bytes[i] =
        store.block->shared[swizzled(store.tensor.shared + i, store.map.swizzle_bytes)];
}

void Grid::write_result(PendingStore& store) {
  read_source(store);
  if (store.state == PendingStore::State::written) return;
  store.state = PendingStore::State::written;
  if (!store.is_tensor) {
    if (!store.bulk.add_f32) {
      std::memcpy(store.bulk.global, store.bytes.data(), store.bytes.size());
      return;
    }
    for (std::size_t i = 0; i < store.bytes.size(); i += 4)
      add_element(cuda::TensorMapType::f32, static_cast<std::byte*>(store.bulk.global) + i,
                  store.bytes.data() + i);
    return;
  }
  const TensorMapFacts& map = store.map;
  const int x = store.tensor.coordinates[0];
  // 16 bytes at a time: an H200 writes beyond the end of a row that is no multiple of it.
  const auto [first, end] = inside_row(map, x);
  const int piece = 16 / static_cast<int>(map.element_bytes);
  const int last = std::min((end + piece - 1) / piece * piece, static_cast<int>(map.box[0]));
  for_each_row(map, store.tensor.coordinates, [&](U32 offset, std::byte* row) {
    if (row == nullptr) return;
    for (int i = first; i < last; ++i) {
      std::byte* to = row + (std::int64_t{x} + i) * map.element_bytes;
      const std::byte* from = store.bytes.data() + offset + static_cast<U32>(i) * map.element_bytes;
      if (store.tensor.add)
        add_element(static_cast<cuda::TensorMapType>(map.type), to, from);
      else
        std::memcpy(to, from, map.element_bytes);
    }
  });
}

// From here on the store may happen at any time.
void Grid::issue(std::shared_ptr<PendingStore> store) {
  if (random_.happens(request_.schedule.early)) {
    write_result(*store);
  } else {
    stores_.push_back(std::move(store));
  }
}

void Grid::bulk_commit() {
  Fiber& fiber = self();
  for (const auto& store : fiber.open_stores) issue(store);
  fiber.store_groups.push_back(std::exchange(fiber.open_stores, {}));
}

void Grid::bulk_wait(int pending, bool until_read) {
  Fiber& fiber = self();
  const auto waited = static_cast<std::ptrdiff_t>(fiber.store_groups.size()) - pending;
  for (std::ptrdiff_t i = 0; i < waited; ++i)
    for (const auto& store : fiber.store_groups[static_cast<std::size_t>(i)])
      if (until_read)
        read_source(*store);
      else
        write_result(*store);
  if (!until_read)
    for (std::ptrdiff_t i = 0; i < waited; ++i) fiber.store_groups.pop_front();
  std::erase_if(stores_,
                [](const auto& store) { return store->state == PendingStore::State::written; });
}

// Carries out one thing that is under way; false when there is none.
bool Grid::advance_asynchronous() {
  const std::size_t all = loads_.size() + stores_.size();
  if (all == 0) return false;
  spins_without_progress_ = 0;
  const std::size_t index = random_.below(all);
  if (index < loads_.size()) {
    arrive_load(index);
    return true;
  }
  const auto at = stores_.begin() + static_cast<std::ptrdiff_t>(index - loads_.size());
  if ((*at)->state == PendingStore::State::issued) {
    read_source(**at);
  } else {
    write_result(**at);
    stores_.erase(at);
  }
  return true;
}

}  // namespace cudadent::emulator
