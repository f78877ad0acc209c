#include "runtime/backends/worker/serve.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <map>
#include <new>

#include "runtime/backends/worker/process.h"
#include "runtime/devices/devices.h"

namespace cudadent::worker {

namespace {

DeviceName device_of(const Hello& hello) {
  const auto device = parse_device_name(hello.device);
  if (!device)
    throw Error(ErrorCode::invalid_argument, fmt::format("unknown device \"{}\"; expected {}",
                                                         hello.device, device_name_forms()));
  return *device;
}

std::unique_ptr<Backend> open_device_of(const Hello& hello) {
  return open_backend(device_of(hello), hello.environment, [](LogLevel, std::string_view message) {
    fmt::print(stderr, "{}{}\n", worker_note, message);
  });
}

// Of this process and of each it starts. Sanitizers reserve more than any machine has.
void limit_memory(std::uint64_t bytes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  (void)bytes;
#else
  if (bytes == 0) return;
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > bytes) limit.rlim_max = bytes;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_DATA, &limit);
#endif
}

// ------------------------------------------------------------------------------------- measuring

class Measuring {
 public:
  explicit Measuring(Backend& backend) : backend_(backend) {}

  // Does what a request asks and adds its results to the answer.
  void answer(Verb verb, Reader& request, Writer& results) {
    for (const auto& release : request.take<std::vector<Release>>()) let_go(release);
    switch (verb) {
      case Verb::load: {
        const auto binary = request.take<Binary>();
        modules_[++last_] = backend_.load(binary);
        return results(last_);
      }
      case Verb::prepare: {
        const auto& module = find(modules_, request.take<std::uint64_t>());
        const auto plan = request.take<LaunchPlan>();
        executables_[++last_] = backend_.prepare(module, plan);
        return results(last_);
      }
      case Verb::allocate: {
        Buffer buffer = backend_.allocate(request.take<std::uint64_t>());
        const auto address = reinterpret_cast<std::uint64_t>(buffer.data());
        buffers_[address] = std::move(buffer);
        return results(address);
      }
      case Verb::write: {
        void* device = pointer(request.take<std::uint64_t>());
        request(bytes_);
        return backend_.copy_to_device(device, bytes_.data(), bytes_.size());
      }
      case Verb::read: {
        const void* device = pointer(request.take<std::uint64_t>());
        bytes_.resize(request.take<std::uint64_t>());
        backend_.copy_to_host(bytes_.data(), device, bytes_.size());
        return results(bytes_);
      }
      case Verb::fill: {
        void* device = pointer(request.take<std::uint64_t>());
        const auto value = request.take<std::byte>();
        return backend_.fill(device, value, request.take<std::uint64_t>());
      }
      case Verb::synchronize:
        return backend_.synchronize();
      case Verb::launch: {
        const auto launch = request.take<LaunchRequest>();
        return find(executables_, launch.executable)->launch(arguments(launch));
      }
      case Verb::time: {
        const auto launch = request.take<LaunchRequest>();
        const auto& executable = *find(executables_, launch.executable);
        return results(backend_.time(executable, arguments(launch), request.take<int>()));
      }
      default:
        throw ProtocolError("a request that is none of a measuring worker's");
    }
  }

 private:
  static void* pointer(std::uint64_t address) {
    return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
  }
  template <class Handle>
  static const Handle& find(const std::map<std::uint64_t, Handle>& handles, std::uint64_t id) {
    const auto found = handles.find(id);
    if (found == handles.end()) throw ProtocolError("a handle that was never given out");
    return found->second;
  }
  void let_go(const Release& release) {
    switch (release.kind) {
      case Release::Kind::buffer:
        buffers_.erase(release.id);
        return;
      case Release::Kind::module:
        modules_.erase(release.id);
        return;
      case Release::Kind::executable:
        executables_.erase(release.id);
        return;
    }
  }
  // Valid until the next call.
  LaunchArguments arguments(const LaunchRequest& request) {
    tensors_.clear();
    for (const auto address : request.tensors) tensors_.push_back(pointer(address));
    return {tensors_, request.scalars, nullptr};
  }

  Backend& backend_;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, Buffer> buffers_;
  std::map<std::uint64_t, std::shared_ptr<const Module>> modules_;
  std::map<std::uint64_t, std::unique_ptr<const Executable>> executables_;
  std::vector<void*> tensors_;
  std::vector<std::byte> bytes_;
};

// ------------------------------------------------------------------------------------- compiling

Specialization specialization_of(CompileRequest request) {
  Specialization specialization;
  if (!request.kernel_template.empty()) {
    KernelTemplate named;
    named.op = std::move(request.op);
    named.name = std::move(request.kernel_template);
    specialization.kernel_template = std::make_shared<const KernelTemplate>(std::move(named));
  }
  specialization.description = std::move(request.description);
  specialization.architecture = std::move(request.architecture);
  specialization.source = std::move(request.source);
  specialization.hash = std::move(request.hash);
  specialization.compile_options = std::move(request.compile_options);
  specialization.entries = std::move(request.entries);
  return specialization;
}

template <class Compiler>
void answer_with(Compiler& compiler, Verb verb, Reader& request, Writer& results) {
  if (verb == Verb::compiler) return results(compiler.name());
  if (verb != Verb::compile) throw ProtocolError("a request that is none of a compile worker's");
  results(compiler.compile(specialization_of(request.take<CompileRequest>())));
}

// ------------------------------------------------------------------------------------- answering

using Answer = std::function<void(Verb, Reader&, Writer&)>;
using State = std::function<Loss()>;

void send_failure(Channel& channel, Loss loss, ErrorCode code, const std::string& message,
                  const std::string& detail) {
  Writer writer;
  writer(loss, code, message, detail);
  channel.send(static_cast<std::uint32_t>(Reply::failed), writer.bytes(), {});
}

// `state` is asked after the work is done.
void answer_one(Channel& channel, const Message& request, const Answer& answer,
                const State& state) {
  Writer results;
  try {
    Reader reader(request.body);
    answer(static_cast<Verb>(request.kind), reader, results);
  } catch (const Error& error) {
    return send_failure(channel, state(), error.code(), error.what(), error.detail());
  } catch (const std::bad_alloc&) {
    return send_failure(channel, state(), ErrorCode::machine_failed,
                        "the worker process has no memory left", {});
  } catch (const std::exception& error) {
    return send_failure(channel, state(), ErrorCode::internal,
                        fmt::format("in the worker process: {}", error.what()), {});
  }
  Writer writer;
  writer(state());
  channel.send(static_cast<std::uint32_t>(Reply::done), writer.bytes(), results.bytes(), {});
}

[[noreturn]] void serve_for_ever(Channel& channel, const Answer& answer, const State& state) {
  for (;;) answer_one(channel, channel.receive({}), answer, state);
}

[[noreturn]] void compile_for(Channel& channel, const Hello& hello, const Answer& welcome) {
  const State never_lost = [] { return Loss::none; };
  const auto compiler =
      make_compiler(*device_of(hello).kind, hello.environment, Supervision::by_caller);
  answer_one(channel, {}, welcome, never_lost);
  serve_for_ever(
      channel,
      [&](Verb verb, Reader& request, Writer& results) {
        answer_with(*compiler, verb, request, results);
      },
      never_lost);
}

[[noreturn]] void measure_for(Channel& channel, const Hello& hello, const OpenDevice& open) {
  std::unique_ptr<Backend> backend;
  const State state = [&] { return backend == nullptr ? Loss::none : backend->lost(); };
  answer_one(
      channel, {},
      [&](Verb, Reader&, Writer& results) {
        backend = open(hello);
        results(std::string(version()), Welcome{backend->device(), backend->measurement(),
                                                backend->compiling_disturbs_timing()});
      },
      state);
  if (backend == nullptr) throw Error(ErrorCode::device_unavailable, "there is no device");
  Measuring measuring(*backend);
  serve_for_ever(
      channel,
      [&](Verb verb, Reader& request, Writer& results) {
        measuring.answer(verb, request, results);
      },
      state);
}

}  // namespace

void serve(Channel& channel) { serve(channel, open_device_of); }

void serve(Channel& channel, const OpenDevice& open) {
  const Message message = channel.receive({});
  const Answer welcome = [](Verb, Reader&, Writer& results) { results(std::string(version())); };
  Reader reader(message.body);
  Hello hello;
  // Only the version is sure to be where another version has it.
  if (message.kind != static_cast<std::uint32_t>(Verb::hello) ||
      Reader(message.body).take<std::string>() != version()) {
    answer_one(channel, {}, welcome, [] { return Loss::none; });
    throw Error(ErrorCode::internal, "asked for by another version");
  }
  reader(hello);
  limit_memory(hello.memory_limit);
  if (hello.task == Task::compile) compile_for(channel, hello, welcome);
  measure_for(channel, hello, open);
}

}  // namespace cudadent::worker
