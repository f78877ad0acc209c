// A worker as its parent sees it: a process and the channel to it, greeted and of this version.
#pragma once

#include <memory>

#include "runtime/backends/worker/channel.h"
#include "runtime/backends/worker/messages.h"
#include "runtime/backends/worker/process.h"

namespace cudadent::worker {

struct Peer {
  Channel channel;
  std::unique_ptr<Process> process;  // null when a thread of this process serves (tests)
};

// What came back: `body` is what Reply::done carries after the state of the device.
// Throws Error for Reply::failed, after `loss` is set; ProtocolError for what is neither.
Reader results_of(const Message& answer, Loss& loss);

// How a peer that no longer answers ended, for a message ("was ended by signal 11 (SIGSEGV…)"); kills it.
struct Ending {
  std::string how;
  std::string last_words;  // of stderr
  bool killed = false;     // from outside: what it was doing is not to blame (Process::was_killed)
};
Ending end_of(Peer& peer, const ChannelError& error);

// Starts the program and greets it; `welcome` is filled for Task::measure. The worker gets a scratch folder
// when it compiles. Throws Error(device_unavailable), or what opening the device in the worker throws.
Peer start_peer(const std::filesystem::path& program, const Hello& hello, Welcome* welcome);
// The greeting alone, of a peer that is there.
void greet(Peer& peer, const std::string& name, const Hello& hello, Welcome* welcome);

// Bytes of memory this process may use: the machine's, or what its control group allows.
std::uint64_t usable_memory();

}  // namespace cudadent::worker
