#include "runtime/backends/worker/compile_workers.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "runtime/base/cancellation.h"
#include "runtime/devices/devices.h"

namespace cudadent::worker {

namespace {

using Reason = ChannelError::Reason;

}  // namespace

// The right to have one process compile.
class CompileWorkers::Seat {
 public:
  explicit Seat(CompileWorkers& workers) : workers_(workers) {
    while (!workers.seats_free_.try_acquire_for(std::chrono::milliseconds(50)))
      Cancellation::check();
  }
  ~Seat() { workers_.seats_free_.release(); }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;

 private:
  CompileWorkers& workers_;
};

CompileWorkers::CompileWorkers(const Environment& environment, const WorkerOptions& options)
    : options_(options),
      hello_{.version = std::string(version()),
             .task = Task::compile,
             .device = options.device,
             .environment = environment,
             .memory_limit = usable_memory() / 2},
      seats_free_(options.compile_processes > 0
                      ? options.compile_processes
                      : std::max(static_cast<int>(std::thread::hardware_concurrency()), 1)) {}

const Hello& CompileWorkers::hello() {
  const std::lock_guard lock(hello_mutex_);
  if (const auto device = parse_device_name(hello_.device); device && !hello_complete_)
    name_compiler(*device->kind, hello_.environment);
  hello_complete_ = true;
  return hello_;
}

std::optional<Peer> CompileWorkers::take_idle() {
  const std::lock_guard lock(mutex_);
  while (!idle_.empty()) {
    Peer peer = std::move(idle_.back());
    idle_.pop_back();
    if (peer.channel.open()) return peer;
  }
  return std::nullopt;
}

template <class Result>
Result CompileWorkers::ask(Verb verb, const std::string& what, const Writer& request) {
  const Seat seat(*this);
  return ask_seated<Result>(verb, what, request);
}

template <class Result>
Result CompileWorkers::ask_seated(Verb verb, const std::string& what, const Writer& request) {
  std::optional<Peer> idle = take_idle();
  const bool was_idle = idle.has_value();
  Peer peer = was_idle ? std::move(*idle) : start_peer(options_.program, hello(), nullptr);
  const auto keep = [&] {
    peer.process->errors();
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(peer));
  };
  try {
    const auto deadline = deadline_in(options_.compile_timeout);
    peer.channel.send(static_cast<std::uint32_t>(verb), request.bytes(), deadline);
    const Message answer = peer.channel.receive(deadline);
    try {
      Loss loss = Loss::none;
      Reader reader = results_of(answer, loss);
      auto result = reader.take<Result>();
      reader.expect_end();
      keep();
      return result;
    } catch (const ProtocolError& error) {
      throw ChannelError(Reason::nonsense, error.what());
    }
  } catch (const Error&) {  // the compiler's own
    keep();
    throw;
  } catch (const ChannelError& error) {
    const Ending ending = end_of(peer, error);
    // It may have died while idle and looked alive for another moment. There are only so many of those.
    if (was_idle && error.reason() == Reason::closed)
      return ask_seated<Result>(verb, what, request);
    if (error.reason() == Reason::timed_out)
      throw Error(ErrorCode::timed_out,
                  fmt::format("{}: the compiler took over {} s and was ended", what,
                              options_.compile_timeout),
                  ending.last_words);
    if (error.reason() == Reason::cancelled)
      throw Error(ErrorCode::cancelled, fmt::format("{}: cancelled while it was compiled", what));
    // Whether it crashed on this text or for what the machine had no room for, nobody can tell.
    throw Error(ErrorCode::machine_failed,
                fmt::format("{}: the compiler's process {}", what, ending.how), ending.last_words);
  }
}

std::string CompileWorkers::name() {
  const std::lock_guard lock(name_mutex_);
  if (name_.empty()) name_ = ask<std::string>(Verb::compiler, "the compiler's name", {});
  return name_;
}

Binary CompileWorkers::compile(const Specialization& specialization) {
  CompileRequest request{.description = specialization.description,
                         .architecture = specialization.architecture,
                         .source = specialization.source,
                         .hash = specialization.hash,
                         .compile_options = specialization.compile_options,
                         .entries = specialization.entries};
  if (const auto* kernel = specialization.kernel_template.get()) {
    request.op = kernel->op;
    request.kernel_template = kernel->name;
  }
  Writer writer;
  writer(request);
  return ask<Binary>(Verb::compile, specialization.description, writer);
}

}  // namespace cudadent::worker
