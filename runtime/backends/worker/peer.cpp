#include "runtime/backends/worker/peer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <system_error>

namespace cudadent::worker {

namespace {

using Reason = ChannelError::Reason;

// A CUDA context on a machine with many devices takes seconds.
constexpr double greeting_seconds = 60;

template <class Enum>
Enum take_enum(Reader& reader, Enum last) {
  const auto value = reader.take<Enum>();
  if (value > last) throw ProtocolError("a number that has no meaning here");
  return value;
}

std::string with_last_words(std::string message, const std::string& words) {
  const auto end = words.find_last_not_of(" \n");
  if (end == std::string::npos) return message;
  const auto start = words.rfind('\n', end);
  return message + ": " + words.substr(start == std::string::npos ? 0 : start + 1, end - start);
}

[[noreturn]] void no_worker(const std::string& name, const std::string& why,
                            const std::string& detail = {}) {
  throw Error(ErrorCode::device_unavailable,
              fmt::format("cannot start the worker program {}: {}. CUDADENT_WORKER names another "
                          "one, or \"none\" to do without.",
                          name, why),
              detail);
}

}  // namespace

Reader results_of(const Message& answer, Loss& loss) {
  Reader reader(answer.body);
  const auto kind = static_cast<Reply>(answer.kind);
  if (kind != Reply::done && kind != Reply::failed)
    throw ProtocolError("an answer that is neither a result nor an error");
  loss = take_enum(reader, Loss::timeout);
  if (kind == Reply::done) return reader;
  const auto code = take_enum(reader, ErrorCode::internal);
  std::string message, detail;
  reader(message, detail);
  reader.expect_end();
  throw Error(code, message, detail);
}

Ending end_of(Peer& peer, const ChannelError& error) {
  peer.channel.close();
  const double grace = error.reason() == Reason::closed ? 5 : 0;  // so long may dying take
  Ending ending;
  if (peer.process == nullptr) {
    ending.how = error.what();
    return ending;
  }
  ending.how = peer.process->end(grace);
  ending.last_words = peer.process->errors();
  ending.killed = peer.process->was_killed();
  if (error.reason() == Reason::nonsense)
    ending.how = fmt::format("was ended since it made no sense ({})", error.what());
  ending.how = with_last_words(ending.how, ending.last_words);
  return ending;
}

void greet(Peer& peer, const std::string& name, const Hello& hello, Welcome* welcome) {
  Writer writer;
  writer(hello);
  try {
    const auto deadline = deadline_in(greeting_seconds);
    peer.channel.send(static_cast<std::uint32_t>(Verb::hello), writer.bytes(), deadline);
    const Message answer = peer.channel.receive(deadline);
    try {
      Loss loss = Loss::none;
      Reader reader = results_of(answer, loss);
      if (const auto other = reader.take<std::string>(); other != hello.version)
        no_worker(name, fmt::format("it is of version {}, but this is cudadent {}", other,
                                    hello.version));
      if (welcome != nullptr) reader(*welcome);
      reader.expect_end();
    } catch (const ProtocolError& error) {
      throw ChannelError(Reason::nonsense, error.what());
    }
  } catch (const ChannelError& error) {
    const Ending ending = end_of(peer, error);
    if (error.reason() == Reason::cancelled)
      throw Error(ErrorCode::cancelled, "cancelled while a worker process was starting");
    no_worker(name,
              error.reason() == Reason::timed_out
                  ? fmt::format("it was not ready within {} s", greeting_seconds)
                  : "it " + ending.how,
              ending.last_words);
  }
}

Peer start_peer(const std::filesystem::path& program, const Hello& hello, Welcome* welcome) {
  try {
    auto [ours, theirs] = connected_sockets();
    Peer peer{.channel = Channel(std::move(ours)), .process = nullptr};
    const bool compiles = hello.task == Task::compile;
    peer.process = std::make_unique<Process>(
        program, std::move(theirs), compiles ? make_scratch_folder() : std::filesystem::path());
    greet(peer, program.string(), hello, welcome);
    return peer;
  } catch (const std::system_error& error) {
    no_worker(program.string(), error.what());
  }
}

std::uint64_t usable_memory() {
  auto bytes = static_cast<std::uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L)) *
               static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  for (const char* name :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::uint64_t limit = 0;  // "max" is no number
    if (std::ifstream(name) >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
}

}  // namespace cudadent::worker
