#include "runtime/backends/worker/channel.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "runtime/base/cancellation.h"

namespace cudadent::worker {

namespace {

using Reason = ChannelError::Reason;

// Ahead of every message, in both directions and of all versions.
struct Header {
  std::uint32_t magic;
  std::uint32_t kind;
  std::uint64_t bytes;
};
static_assert(sizeof(Header) == 16);
constexpr std::uint32_t magic = 0x31776463;  // "cdw1"

// What is made room for ahead of its arrival.
constexpr std::size_t step = std::size_t{4} << 20;

[[noreturn]] void fail(const char* attempted) {
  const int error = errno;
  if (error == EPIPE || error == ECONNRESET)
    throw ChannelError(Reason::closed, "the other end is closed");
  throw ChannelError(Reason::closed, fmt::format("{}: {}", attempted, std::strerror(error)));
}

// How long to wait before looking again whether the answer is still wanted.
constexpr int look_again = 50;  // milliseconds

int milliseconds_until(Deadline deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

bool for_now_only() { return errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK; }

}  // namespace

void File::close() noexcept {
  if (number_ >= 0) ::close(std::exchange(number_, -1));
}

Deadline deadline_in(double seconds) {
  constexpr double a_year = 365.0 * 24 * 3600;
  if (!(seconds > 0) || seconds > a_year) return std::nullopt;
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::pair<File, File> connected_sockets() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  std::pair<File, File> files{File(ends[0]), File(ends[1])};
  const int bytes = 1 << 20;  // fewer turns for large copies; a wish only
  for (const int end : ends) ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  return files;
}

// Returns when the socket may be ready, which a caller finds out by trying.
void Channel::wait(short events, Deadline deadline) const {
  if (deadline && Clock::now() >= *deadline)
    throw ChannelError(Reason::timed_out, "no answer in time");
  if (Cancellation::asked()) throw ChannelError(Reason::cancelled, "cancelled");
  int limit = milliseconds_until(deadline);
  if (Cancellation::possible()) limit = limit < 0 ? look_again : std::min(limit, look_again);
  pollfd what{socket_.get(), events, 0};
  if (::poll(&what, 1, limit) < 0 && errno != EINTR) fail("poll");
}

void Channel::receive_all(std::span<std::byte> bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const auto received = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (received > 0)
      bytes = bytes.subspan(static_cast<std::size_t>(received));
    else if (received == 0)
      throw ChannelError(Reason::closed, "the other end is closed");
    else if (for_now_only())
      wait(POLLIN, deadline);
    else
      fail("recv");
  }
}

void Channel::send(std::uint32_t kind, std::span<const std::byte> first,
                   std::span<const std::byte> second, Deadline deadline) {
  const std::uint64_t bytes = first.size() + second.size();
  if (bytes > longest_body)
    throw ChannelError(Reason::nonsense, fmt::format("a message of {} bytes", bytes));
  const Header header{magic, kind, bytes};
  std::array<std::span<const std::byte>, 3> parts{std::as_bytes(std::span(&header, 1)), first,
                                                  second};
  for (;;) {
    std::array<iovec, parts.size()> pieces{};
    msghdr message{};
    message.msg_iov = pieces.data();
    for (const auto part : parts)
      if (!part.empty())
        pieces[message.msg_iovlen++] = {const_cast<std::byte*>(part.data()), part.size()};
    if (message.msg_iovlen == 0) return;
    const auto sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (!for_now_only()) fail("send");
      wait(POLLOUT, deadline);
    }
    auto left = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
    for (auto& part : parts) {
      const std::size_t gone = std::min(left, part.size());
      part = part.subspan(gone);
      left -= gone;
    }
  }
}

Message Channel::receive(Deadline deadline) {
  Header header{};
  receive_all(std::as_writable_bytes(std::span(&header, 1)), deadline);
  if (header.magic != magic || header.bytes > longest_body)
    throw ChannelError(Reason::nonsense, "what was received is no message");
  Message message{.kind = header.kind, .body = {}};
  while (message.body.size() < header.bytes) {
    const std::size_t old = message.body.size();
    message.body.resize(old + std::min<std::size_t>(header.bytes - old, std::max(step, old)));
    receive_all(std::span(message.body).subspan(old), deadline);
  }
  return message;
}

bool Channel::open() const {
  pollfd what{socket_.get(), 0, 0};
  return ::poll(&what, 1, 0) >= 0 && (what.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

}  // namespace cudadent::worker
