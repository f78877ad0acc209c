// wgmma: matrix products of a warpgroup, which run on their own.
//
// The products of a warpgroup are carried out in order. One can be carried out once all four warps
// have issued it; it is when a warp waits for it, or when chance has it before. From when it is issued
// until then its accumulators hold NaNs.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "emulator/grid.h"
#include "emulator/matrices.h"

namespace cudadent::emulator {

namespace {

// A shared-memory matrix descriptor (PTX ISA, "Matrix Descriptor Format").
struct Descriptor {
  std::uint32_t start, leading, stride, base_offset, swizzle_bytes;

  explicit Descriptor(std::uint64_t word)
      : start(static_cast<std::uint32_t>(word & 0x3fff) << 4),
        leading(static_cast<std::uint32_t>(word >> 16 & 0x3fff) << 4),
        stride(static_cast<std::uint32_t>(word >> 32 & 0x3fff) << 4),
        base_offset(static_cast<std::uint32_t>(word >> 49 & 7)),
        swizzle_bytes(std::array{0U, 128U, 64U, 32U}[word >> 62]) {}

  // Where element (row, k) lies before swizzling, `bytes` each; a row is one of m or n.
  [[nodiscard]] std::uint32_t address(std::uint32_t row, std::uint32_t k, std::uint32_t bytes,
                                      bool transposed) const {
    if (!transposed) {
      const std::uint32_t along = k * bytes;
      if (swizzle_bytes == 0)  // 8 rows of 16 bytes lie together
        return start + row / 8 * stride + row % 8 * 16 + along / 16 * leading + along % 16;
      return start + row / 8 * stride + row % 8 * swizzle_bytes + along;
    }
    if (swizzle_bytes == 0) {
      const std::uint32_t run = 16 / bytes;
      return start + row / run * stride + k / 8 * leading + k % 8 * 16 + row % run * bytes;
    }
    const std::uint32_t run = swizzle_bytes / bytes;
    return start + row / run * leading + k / 8 * stride + k % 8 * swizzle_bytes + row % run * bytes;
  }
};

struct Operand {
  Element element;
  std::uint64_t descriptor;
  bool transposed;
  int rows, k;
};

// Calls f(index of the accumulator, row, column) for those that a thread of a warpgroup holds.
template <class F>
void for_accumulators(int thread, int n, F&& f) {
  const int warp = thread / 32, lane = thread % 32;
  for (int i = 0; i < n / 2; ++i)
    f(i, 16 * warp + i / 2 % 2 * 8 + lane / 4, i / 4 * 8 + lane % 4 * 2 + i % 2);
}

}  // namespace

Warpgroup& Grid::own_warpgroup() {
  return own_block().warpgroups[static_cast<std::size_t>(self().warp->index / 4)];
}

void Grid::wgmma_fence() {
  collective(0xffffffffU, true, "wgmma.fence", nullptr, [](Grid&, Warp& warp, Collective&) {
    Warpgroup& group = warp.block->warpgroups[static_cast<std::size_t>(warp.index / 4)];
    group.fenced[static_cast<std::size_t>(warp.index % 4)] = true;
  });
}

void Grid::wgmma(const WarpgroupProduct& product) {
  if (request_.device.sm != 90) raise_missing("wgmma");
  const bool sizes = product.n % 8 == 0 && product.n >= 8 && product.n <= 256 &&
                     product.k * bytes_of(product.a) == 32 &&
                     bytes_of(product.a) == bytes_of(product.b);
  if (!sizes) raise(fmt::format("wgmma of m64n{}k{}", product.n, product.k));
  if ((product.a_transposed || product.b_transposed) && bytes_of(product.a) != 2)
    raise("wgmma transposes operands of 16-bit elements only");
  WarpgroupProduct mine = product;
  collective(0xffffffffU, true, "wgmma", &mine,
             [](Grid& grid, Warp& warp, Collective& lanes) { grid.join(warp, lanes); });
}

// A warp issues a product that other warps of the warpgroup may have issued already.
void Grid::join(Warp& warp, const Collective& lanes) {
  Block& block = *warp.block;
  Warpgroup& group = block.warpgroups[static_cast<std::size_t>(warp.index / 4)];
  const auto quarter = static_cast<std::size_t>(warp.index % 4);
  const auto number = group.joined[quarter]++;
  if (number - group.first == group.steps.size()) group.steps.emplace_back();
  WarpgroupStep& step = group.steps[number - group.first];
  const auto of = [&](std::size_t lane) -> const WarpgroupProduct& {
    return *static_cast<const WarpgroupProduct*>(lanes.payload[lane]);
  };
  if (step.joined == 0) {
    step.product = of(0);
    step.values.resize(place_in(step.product.n, 64, 0));
  }
  // Is d the result of a product that is still under way?
  for (std::size_t i = number - group.first; i-- > 0 && !group.steps[i].done;)
    if (group.steps[i].d[32 * quarter] == of(0).d) step.chained[quarter] = true;
  if (!step.chained[quarter] && !group.fenced[quarter])
    raise("wgmma without a wgmma_fence since its accumulators were last touched");

  const WarpgroupProduct& first = step.product;
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const WarpgroupProduct& mine = of(lane);
    if (mine.a_descriptor != first.a_descriptor || mine.b_descriptor != first.b_descriptor ||
        mine.n != first.n || mine.accumulate != first.accumulate ||
        (mine.a_registers == nullptr) != (first.a_registers == nullptr))
      raise("wgmma with other descriptors than the rest of its warpgroup");
    const std::size_t thread = 32 * quarter + lane;
    step.d[thread] = mine.d;
    step.a[thread] = mine.a_registers;
    if (mine.a_registers != nullptr)
      std::copy_n(mine.a_registers, 4, step.a_values[thread].begin());
    if (step.chained[quarter]) continue;
    for_accumulators(static_cast<int>(thread), first.n, [&](int i, int row, int column) {
      step.values[place_in(first.n, row, column)] = mine.accumulate ? mine.d[i] : 0;
      mine.d[i] = std::bit_cast<float>(0xffffffffU);
    });
  }
  // The first warp to issue it has seen to it that the operands are there.
  if (step.joined == 0 && random_.happens(request_.schedule.early)) read_operands(step, block);
  step.joined |= 1U << quarter;
  if (step.joined != 15) return;
  for (Fiber* fiber : std::exchange(group.waiters, {})) wake(*fiber);
  if (random_.happens(request_.schedule.early))
    while (execute_next(group, block)) {
    }
}

namespace {

// rows × k floats of an operand in shared memory. Complains through `complain`.
template <class Complain>
std::vector<float> decode(const Operand& operand, const std::byte* shared, Complain&& complain) {
  const Descriptor descriptor(operand.descriptor);
  const auto bytes = static_cast<std::uint32_t>(bytes_of(operand.element));
  if (descriptor.base_offset != 0) complain("wgmma: a base offset is not emulated");
  const std::uint32_t rows_mask = descriptor.swizzle_bytes / 16 - 1;
  if (descriptor.swizzle_bytes != 0 && (descriptor.start >> 7 & rows_mask) != 0)
    complain(
        fmt::format("wgmma: an operand with a swizzle of {} bytes at {:#x}: its pattern does not "
                    "begin at a multiple of {}",
                    descriptor.swizzle_bytes, descriptor.start, 8 * descriptor.swizzle_bytes));
  std::vector<float> values(static_cast<std::size_t>(operand.rows * operand.k));
  for (int row = 0; row < operand.rows; ++row)
    for (int k = 0; k < operand.k; ++k) {
      const auto linear =
          descriptor.address(static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(k), bytes,
                             operand.transposed);
      const auto at = swizzled(linear, descriptor.swizzle_bytes);
      values[place_in(operand.k, row, k)] = load_element(operand.element, shared + at);
    }
  return values;
}

}  // namespace

// Reads what lies in shared memory.
void Grid::read_operands(WarpgroupStep& step, Block& block) {
  const WarpgroupProduct& product = step.product;
  const int n = product.n, k = product.k;
  const auto complain = [&](const std::string& what) { raise(what); };
  const auto operand = [&](Element element, std::uint64_t word, bool transposed, int rows) {
    const Descriptor descriptor(word);
    const auto bytes = static_cast<std::uint32_t>(bytes_of(element));
    U32 low = ~0U, high = 0;
    for (const auto row : {0U, static_cast<U32>(rows - 1)})
      for (const auto at : {0U, static_cast<U32>(k - 1)}) {
        const U32 address = descriptor.address(row, at, bytes, transposed);
        low = std::min(low, address / 16 * 16);
        high = std::max(high, address / 16 * 16 + 16);
      }
    check_inside(block, low, high - low, "wgmma");
    check_fenced(block, low, high - low, "wgmma");
    return decode(Operand{element, word, transposed, rows, k}, block.shared, complain);
  };
  if (product.a_registers == nullptr)
    step.a_matrix = operand(product.a, product.a_descriptor, product.a_transposed, 64);
  const auto rows = operand(product.b, product.b_descriptor, product.b_transposed, n);
  step.b.resize(rows.size());
  for (int column = 0; column < n; ++column)
    for (int at = 0; at < k; ++at) step.b[place_in(n, at, column)] = rows[place_in(k, column, at)];
}

// Reads what lies in registers, as late as can be: they must not have changed.
void Grid::read_registers(WarpgroupStep& step) {
  const WarpgroupProduct& product = step.product;
  step.a_matrix.resize(place_in(product.k, 64, 0));
  const int per = 4 / bytes_of(product.a);
  for (int thread = 0; thread < 128; ++thread) {
    const auto& held = step.a_values[static_cast<std::size_t>(thread)];
    if (!std::equal(held.begin(), held.end(), step.a[static_cast<std::size_t>(thread)]))
      raise("wgmma: registers of a were changed while it was under way");
    for (int word = 0; word < 4; ++word)
      for (int e = 0; e < per; ++e) {
        const int row = thread / 32 * 16 + thread % 32 / 4 + word % 2 * 8;
        const int column = word / 2 * 4 * per + thread % 4 * per + e;
        const auto* bytes =
            reinterpret_cast<const std::byte*>(&held[static_cast<std::size_t>(word)]);
        step.a_matrix[place_in(product.k, row, column)] =
            load_element(product.a, bytes + e * bytes_of(product.a));
      }
  }
}

// Carries out the warpgroup's next product; false when there is none that all warps have issued.
bool Grid::execute_next(Warpgroup& group, Block& block) {
  const std::size_t index = group.executed - group.first;
  if (index >= group.steps.size() || group.steps[index].joined != 15) return false;
  WarpgroupStep& step = group.steps[index];
  const WarpgroupProduct& product = step.product;
  const int n = product.n, k = product.k;

  if (step.b.empty()) read_operands(step, block);
  if (product.a_registers != nullptr) read_registers(step);
  const std::vector<float>&a = step.a_matrix, &b = step.b;
  for (int row = 0; row < 64; ++row) {
    float* sums = step.values.data() + place_in(n, row, 0);
    for (int at = 0; at < k; ++at) {
      const float factor = a[place_in(k, row, at)];
      const float* values = b.data() + place_in(n, at, 0);
      for (int column = 0; column < n; ++column) sums[column] += factor * values[column];
    }
  }
  step.done = true;
  ++group.executed;

  // To the next product of the same accumulators, or to the accumulators.
  for (std::size_t quarter = 0; quarter < 4; ++quarter) {
    WarpgroupStep* next = nullptr;
    for (std::size_t i = index + 1; i < group.steps.size() && next == nullptr; ++i)
      if ((group.steps[i].joined >> quarter & 1U) != 0 &&
          group.steps[i].d[32 * quarter] == step.d[32 * quarter])
        next = &group.steps[i];
    for (std::size_t thread = 32 * quarter; thread < 32 * (quarter + 1); ++thread)
      for_accumulators(static_cast<int>(thread), n, [&](int i, int row, int column) {
        const float value = step.values[place_in(n, row, column)];
        if (next == nullptr)
          step.d[thread][i] = value;
        else if (next->product.accumulate)
          next->values[place_in(n, row, column)] = value;
      });
  }
  while (!group.steps.empty() && group.steps.front().done) {
    group.steps.pop_front();
    ++group.first;
  }
  return true;
}

void Grid::wgmma_commit() {
  collective(0xffffffffU, true, "wgmma.commit_group", nullptr, [](Grid&, Warp& warp, Collective&) {
    Warpgroup& group = warp.block->warpgroups[static_cast<std::size_t>(warp.index / 4)];
    const auto quarter = static_cast<std::size_t>(warp.index % 4);
    group.groups[quarter].push_back(group.joined[quarter]);
  });
}

void Grid::wgmma_wait(int pending) {
  collective(0xffffffffU, true, "wgmma.wait_group", nullptr, [](Grid&, Warp& warp, Collective&) {
    Warpgroup& group = warp.block->warpgroups[static_cast<std::size_t>(warp.index / 4)];
    group.fenced[static_cast<std::size_t>(warp.index % 4)] = false;
  });
  Warpgroup& group = own_warpgroup();
  const auto& groups = group.groups[static_cast<std::size_t>(self().warp->index % 4)];
  if (groups.size() <= static_cast<std::size_t>(pending)) return;
  const auto wanted = groups[groups.size() - 1 - static_cast<std::size_t>(pending)];
  while (group.executed < wanted) {
    if (execute_next(group, own_block())) continue;
    group.waiters.push_back(&self());
    wait(WaitKind::wgmma, "wgmma.wait_group");
  }
}

// ------------------------------------------------------------------------------- setmaxnreg

void Grid::registers(int count, bool increase) {
  need(90, "setmaxnreg");
  if (count % 8 != 0 || count < 24 || count > 256)
    raise(fmt::format("setmaxnreg of {}: a multiple of 8 from 24 to 256", count));
  Warp& warp = *self().warp;
  collective(0xffffffffU, true, increase ? "setmaxnreg.inc" : "setmaxnreg.dec", nullptr,
             [](Grid&, Warp&, Collective&) {});
  Block& block = own_block();
  if (self().lane == 0) {
    if (increase ? count < warp.registers : count > warp.registers)
      raise(fmt::format("setmaxnreg.{} to {} from {}", increase ? "inc" : "dec", count,
                        warp.registers));
    while (increase && block.free_registers < 32 * (count - warp.registers)) {
      block.register_waiters.push_back(&self());
      wait(WaitKind::registers, "setmaxnreg.inc", static_cast<U32>(count));
    }
    block.free_registers -= 32 * (count - warp.registers);
    warp.registers = count;
    for (Fiber* fiber : std::exchange(block.register_waiters, {})) wake(*fiber);
  }
  collective(0xffffffffU, true, "setmaxnreg", nullptr, [](Grid&, Warp&, Collective&) {});
}

}  // namespace cudadent::emulator
