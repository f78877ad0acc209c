#include "runtime/backends/cuda/kept_memory.h"

#include <algorithm>
#include <bit>

#include "runtime/backends/cuda/gpu.h"

namespace cudadent::cuda {

namespace {

// Pieces come in few sizes, so that one that was given back is soon of use again.
constexpr std::size_t smallest_piece = 4096;
// What is larger is zeroed before each launch: it takes a fraction of what uses so much, and would stay. A tile
// of f32 sums for each multiprocessor of an H200 is smaller (stream-K: 16.5 MiB of 128×256, 24.8 of 256×192):
// zeroing that would take about 5 µs, much of what it is for.
constexpr std::size_t largest_piece = std::size_t{32} << 20;

}  // namespace

KeptMemory::Piece KeptMemory::take(const Gpu& gpu, Stream stream, std::uint64_t stream_id,
                                   std::size_t bytes) {
  const std::size_t size = std::bit_ceil(std::max(bytes, smallest_piece));
  const std::scoped_lock lock(lock_);
  Piece piece{stream_id, 0, size};
  const auto found = std::find_if(free_.begin(), free_.end(), [&](const Piece& one) {
    return one.stream_id == stream_id && one.bytes == size;
  });
  if (found != free_.end()) {
    piece = *found;
    free_.erase(found);
  } else {
    gpu.check(gpu.driver.pool_allocate(&piece.pointer, size, gpu.pool, stream),
              "allocate a kernel's workspace");
    all_.push_back(piece);
  }
  const Result zeroed = gpu.driver.fill(piece.pointer, 0, size, stream);
  if (zeroed != Result::success) free_.push_back(piece);
  gpu.check(zeroed, "zero a kernel's workspace");
  return piece;
}

void KeptMemory::give_back(const Piece& piece) {
  const std::scoped_lock lock(lock_);
  free_.push_back(piece);
}

void KeptMemory::free_all(const Driver& driver, Stream stream) noexcept {
  for (const Piece& piece : all_) driver.pool_free(piece.pointer, stream);
  all_.clear();
  free_.clear();
}

DevicePointer KeptPieces::on(const Gpu& gpu, Stream stream, std::size_t bytes) {
  // Two calls to the driver: the id that comes with a stream's capture status is the capture's.
  std::uint64_t stream_id = 0;
  if (bytes > largest_piece || gpu.driver.stream_id == nullptr || gpu.capturing(stream) ||
      gpu.driver.stream_id(stream, &stream_id) != Result::success)
    return 0;
  const auto find = [&](std::size_t first, std::size_t end) -> DevicePointer {
    for (std::size_t i = first; i < end; ++i)
      if (pieces_[i].stream_id == stream_id && pieces_[i].bytes >= bytes) return pieces_[i].pointer;
    return 0;
  };
  const std::size_t known = count_.load(std::memory_order_acquire);
  if (const DevicePointer found = find(0, known); found != 0) return found;
  const std::scoped_lock lock(adding_);
  const std::size_t count = count_.load(std::memory_order_relaxed);
  if (const DevicePointer found = find(known, count); found != 0) return found;
  if (count == most_pieces) return 0;
  pieces_[count] = gpu.kept_memory.take(gpu, stream, stream_id, bytes);
  count_.store(count + 1, std::memory_order_release);
  return pieces_[count].pointer;
}

void KeptPieces::give_back(const Gpu& gpu) {
  for (std::size_t i = 0; i < count_; ++i) gpu.kept_memory.give_back(pieces_[i]);
  count_ = 0;
}

}  // namespace cudadent::cuda
