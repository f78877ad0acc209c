// Messages over a socket between two processes, with deadlines. Never raises SIGPIPE, takes interrupted
// calls and short reads as they come, and allocates no more than has arrived.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cudadent::worker {

// An open file, closed when destroyed.
class File {
 public:
  File() = default;
  explicit File(int number) noexcept : number_(number) {}
  ~File() { close(); }
  File(File&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  File& operator=(File&& other) noexcept {
    if (this != &other) {
      close();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  [[nodiscard]] int get() const noexcept { return number_; }
  void close() noexcept;

 private:
  int number_ = -1;
};

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;  // nothing: wait for ever

// `seconds` from now; nothing when that is 0 or less, or further away than a clock can tell.
Deadline deadline_in(double seconds);

class ChannelError : public std::runtime_error {
 public:
  enum class Reason : std::uint8_t { closed, timed_out, nonsense, cancelled };
  ChannelError(Reason reason, const std::string& message)
      : std::runtime_error(message), reason_(reason) {}
  [[nodiscard]] Reason reason() const noexcept { return reason_; }

 private:
  Reason reason_;
};

struct Message {
  std::uint32_t kind = 0;
  std::vector<std::byte> body;
};

// One thread at a time.
class Channel {
 public:
  explicit Channel(File socket) : socket_(std::move(socket)) {}

  // Both throw ChannelError: cancelled when a Cancellation of this thread was asked while they waited. After that the channel is of no more use: half a message may be on its way.
  // A body may be in two parts, so that a large one need not be copied.
  void send(std::uint32_t kind, std::span<const std::byte> body, Deadline deadline) {
    send(kind, body, {}, deadline);
  }
  void send(std::uint32_t kind, std::span<const std::byte> first, std::span<const std::byte> second,
            Deadline deadline);
  Message receive(Deadline deadline);

  // Whether the other end is still there, or has at least left something to read.
  [[nodiscard]] bool open() const;
  void close() noexcept { socket_.close(); }
  [[nodiscard]] int socket() const noexcept { return socket_.get(); }

 private:
  void receive_all(std::span<std::byte> bytes, Deadline deadline);
  void wait(short events, Deadline deadline) const;

  File socket_;
};

// A message's body is no longer than this, in bytes: a compiled image is the longest there is.
inline constexpr std::uint64_t longest_body = std::uint64_t{1} << 30;

// Two connected sockets, not inherited by programs started from here. Throws std::system_error.
std::pair<File, File> connected_sockets();

}  // namespace cudadent::worker
