// Device memory that kernels find zero and leave zero, so that nothing has to zero it between launches.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "runtime/backends/cuda/driver.h"

namespace cudadent::cuda {

class Gpu;

// What a GPU has of it. A piece belongs to one stream for good: launches on a stream run one after another,
// so that what was zero after one is zero before the next, and a piece that is given back may go to another
// executable while the stream still works on it. Safe to use from several threads.
class KeptMemory {
 public:
  struct Piece {
    std::uint64_t stream_id = 0;
    DevicePointer pointer = 0;
    std::size_t bytes = 0;
  };

  // A piece of at least `bytes`, zeroed in the order of the stream: what a candidate that failed has left in
  // it does no harm. Throws Error(launch_failed).
  Piece take(const Gpu& gpu, Stream stream, std::uint64_t stream_id, std::size_t bytes);
  void give_back(const Piece& piece);
  // To be called once, before the pool is destroyed.
  void free_all(const Driver& driver, Stream stream) noexcept;

 private:
  std::mutex lock_;
  std::vector<Piece> free_, all_;
};

// A module's pieces, for each of the streams that its kernels were launched on: one, or where a launch needed more
// than was there, larger ones too. Whatever a kernel used of a piece is zero again for the next, so that launches
// whose workspaces differ in size share it.
class KeptPieces {
 public:
  KeptPieces() = default;
  KeptPieces(const KeptPieces&) = delete;
  KeptPieces& operator=(const KeptPieces&) = delete;

  // A piece of the stream, of at least so many bytes. 0 where none can be kept: while the stream is
  // being captured, since the graph may run on other streams at any time; where the driver does not tell
  // streams apart; for more than 32 MiB; and where kernels have been launched on very many streams.
  DevicePointer on(const Gpu& gpu, Stream stream, std::size_t bytes);
  void give_back(const Gpu& gpu);

 private:
  static constexpr std::size_t most_pieces = 32;

  std::array<KeptMemory::Piece, most_pieces> pieces_;
  std::atomic<std::size_t> count_ = 0;  // of pieces_ that are ready: finding one takes no lock
  std::mutex adding_;
};

}  // namespace cudadent::cuda
