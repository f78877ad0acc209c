// What two processes say to each other, and what becomes of a backend whose worker makes no sense.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/worker/remote_backend.h"
#include "runtime/backends/worker/serve.h"
#include "tests/support/errors.h"
#include "tests/support/fake_driver.h"
#include "tests/support/fates.h"

namespace cudadent {
namespace {

using namespace tests;
using namespace worker;
using Reason = ChannelError::Reason;

Device some_device() { return make_host_backend(host_environment())->device(); }

template <class Action>
std::optional<Reason> reason_of(const Action& action) {
  try {
    action();
  } catch (const ChannelError& error) {
    return error.reason();
  }
  return std::nullopt;
}

TEST_CASE("what was written is read") {
  LaunchPlan plan;
  plan.workspaces = {{.name = "partials", .bytes = 100, .zeroed = Zeroed::every_launch}};
  plan.tensor_maps.push_back({.name = "a_map",
                              .of_workspace = true,
                              .index = 3,
                              .dtype = DataType::bf16,
                              .dimensions = {512, 256},
                              .strides = {1024},
                              .box = {64, 128},
                              .swizzle = 128,
                              .l2_promotion = 256});
  KernelLaunch launch{.entry = "kernel",
                      .grid = {1, 2, 3},
                      .block = {4, 5, 6},
                      .cluster = {2, 1, 1},
                      .shared_memory = 7};
  launch.arguments = {{.kind = Argument::Kind::f32, .real = 0.5},
                      {.kind = Argument::Kind::i64, .integer = std::int64_t{1} << 40}};
  plan.launches = {launch};
  Writer writer;
  writer(plan, some_device(), std::string("the end"));
  Reader reader(writer.bytes());
  const auto read = reader.take<LaunchPlan>();
  const auto device = reader.take<Device>();
  CHECK(reader.take<std::string>() == "the end");
  reader.expect_end();
  CHECK(device.facts() == some_device().facts());
  CHECK(device.kind() == some_device().kind());
  REQUIRE(read.tensor_maps.size() == 1);
  CHECK(read.tensor_maps[0].name == "a_map");
  CHECK(read.tensor_maps[0].of_workspace);
  CHECK(read.tensor_maps[0].strides == std::vector<std::uint64_t>{1024});
  CHECK(read.tensor_maps[0].l2_promotion == 256);
  REQUIRE(read.launches.size() == 1);
  CHECK(read.launches[0].cluster == launch.cluster);
  CHECK(read.launches[0].arguments[0].real == 0.5);
  CHECK(read.launches[0].arguments[1].integer == std::int64_t{1} << 40);
  CHECK(read.workspaces[0].zeroed == Zeroed::every_launch);
}

TEST_CASE("a message cut short anywhere is refused, and so is one with a length beyond it") {
  Binary binary;
  binary.image.resize(100);
  binary.resources = {{.entry = "a"}, {.entry = "b"}};
  binary.log = "a warning";
  Writer writer;
  writer(binary);
  for (std::size_t count = 0; count < writer.bytes().size(); ++count) {
    Reader reader(writer.bytes().first(count));
    CHECK_THROWS_AS(reader.take<Binary>(), ProtocolError);
  }
  Reader longer(writer.bytes());
  longer.take<std::string>();
  CHECK_THROWS_AS(longer.expect_end(), ProtocolError);
  Writer absurd;
  absurd(~std::size_t{0}, 1);
  CHECK_THROWS_AS(Reader(absurd.bytes()).take<std::string>(), ProtocolError);
  CHECK_THROWS_AS(Reader(absurd.bytes()).take<std::vector<double>>(), ProtocolError);
  CHECK_THROWS_AS(Reader(absurd.bytes()).take<std::vector<std::string>>(), ProtocolError);
}

TEST_CASE("messages arrive whole, however they are cut up on their way") {
  auto [here, there] = connected_sockets();
  Channel channel(std::move(here)), other(std::move(there));
  std::vector<std::byte> body(20'000'000, std::byte{7});
  body.back() = std::byte{8};
  std::jthread sender([&] {
    channel.send(5, body, {});
    channel.send(6, std::span(body).first(3), std::span(body).last(2), {});
    channel.send(7, {}, {});
  });
  CHECK(other.receive({}).body == body);
  const Message second = other.receive({});
  CHECK(second.kind == 6);
  CHECK(second.body ==
        std::vector{std::byte{7}, std::byte{7}, std::byte{7}, std::byte{7}, std::byte{8}});
  CHECK(other.receive({}).body.empty());
}

TEST_CASE("a channel says why it failed") {
  auto [here, there] = connected_sockets();
  Channel channel(std::move(here));
  CHECK(reason_of([&] { channel.receive(deadline_in(0.01)); }) == Reason::timed_out);
  // Full: nobody reads.
  CHECK(reason_of([&] {
          channel.send(1, std::vector<std::byte>(100'000'000), deadline_in(0.05));
        }) == Reason::timed_out);
  CHECK(channel.open());
  there.close();
  CHECK(!channel.open());
  CHECK(reason_of([&] { channel.receive({}); }) == Reason::closed);
  CHECK(reason_of([&] { channel.send(1, {}, {}); }) == Reason::closed);  // and no SIGPIPE
}

TEST_CASE("a header that makes no sense is refused before anything is made room for") {
  for (const std::uint64_t bytes : {~std::uint64_t{0}, longest_body + 1}) {
    auto [here, there] = connected_sockets();
    const struct {
      char magic[4] = {'c', 'd', 'w', '1'};
      std::uint32_t kind = 1;
      std::uint64_t bytes = 0;
    } header{.bytes = bytes};
    REQUIRE(::send(there.get(), &header, sizeof header, MSG_NOSIGNAL) == sizeof header);
    Channel channel(std::move(here));
    CHECK(reason_of([&] { channel.receive({}); }) == Reason::nonsense);
  }
}

// ------------------------------------------------------------------------------------- odd programs

struct OddProgram {
  Folder folder;
  Environment environment = host_environment();
  // Runs in place of the worker; the socket is file 3.
  [[nodiscard]] WorkerOptions doing(const std::string& commands) const {
    const auto script = folder.write("worker", "#!/bin/sh\n" + commands + "\n");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    return {.program = script};
  }
  [[nodiscard]] bool is_refused(const WorkerOptions& options,
                                std::initializer_list<std::string_view> parts) const {
    return fails(ErrorCode::device_unavailable, parts,
                 [&] { make_worker_backend(environment, options); });
  }
};

TEST_CASE("a program that is no worker is refused with what it did") {
  const OddProgram odd;
  CHECK(odd.is_refused({.program = "/no/such/worker"}, {
                                                           "/no/such/worker",
                                                           "No such file",
                                                       }));
  CHECK(odd.is_refused(odd.doing("exit 7"), {"exited with status 7", "CUDADENT_WORKER"}));
  CHECK(
      odd.is_refused(odd.doing("echo I am no worker >&2; exit 7"), {"status 7", "I am no worker"}));
  CHECK(odd.is_refused(odd.doing("echo this is not a message at all >&3; sleep 30"), {"no sense"}));
  CHECK(odd.is_refused(odd.doing("kill -SEGV $$"), {"signal 11"}));
}

TEST_CASE("a worker of another version is refused by its number") {
  const OddProgram odd;
  // Reply::done, no loss, a version.
  Writer body;
  body(Loss::none, std::string("0.0.7"));
  auto [here, there] = connected_sockets();
  Channel(std::move(here)).send(static_cast<std::uint32_t>(Reply::done), body.bytes(), {});
  std::string text(1000, '\0');
  text.resize(static_cast<std::size_t>(::recv(there.get(), text.data(), text.size(), 0)));
  const auto message = odd.folder.write("message", text);
  CHECK(odd.is_refused(odd.doing(fmt::format("cat {} >&3; sleep 30", message.string())),
                       {"version 0.0.7", std::string(version())}));
}

TEST_CASE("a worker refuses a parent of another version") {
  auto [here, there] = connected_sockets();
  Channel channel(std::move(here)), other(std::move(there));
  Writer writer;
  writer(Hello{.version = "9.9.9"});
  channel.send(static_cast<std::uint32_t>(Verb::hello), writer.bytes(), {});
  CHECK_THROWS_AS(serve(other), Error);
  Loss loss = Loss::none;
  const Message answer = channel.receive({});
  CHECK(results_of(answer, loss).take<std::string>() == version());
}

TEST_CASE("the worker program is found, named or turned off") {
  std::string why;
  CHECK(find_worker_program({}, &why).filename() == "cudadent-worker");
  CHECK(why.empty());
  Environment environment;
  environment.worker = "/bin/sh";
  CHECK(find_worker_program(environment, &why) == "/bin/sh");
  // One that was named and is not there is not replaced by another.
  for (const char* name : {"/no/such/worker", "/", "/etc/passwd"}) {
    environment.worker = name;
    CHECK(fails(ErrorCode::device_unavailable, {"CUDADENT_WORKER", name, "cudadent-worker"},
                [&] { find_worker_program(environment, &why); }));
  }
  environment.worker = "none";
  CHECK(find_worker_program(environment, &why).empty());
  CHECK(mentions(why, {"CUDADENT_WORKER"}));
}

// ------------------------------------------------------------------------------------- in one process

// A worker that is a thread of this process, with a device of the test's.
class ThreadWorkers {
 public:
  explicit ThreadWorkers(OpenDevice open) : open_(std::move(open)) {}
  [[nodiscard]] std::unique_ptr<Backend> backend() {
    WorkerOptions options;
    options.device = "cuda";
    return make_remote_backend({}, options, [this](Welcome& welcome) { return start(welcome); });
  }

 private:
  Peer start(Welcome& welcome) {
    auto [here, there] = connected_sockets();
    threads_.emplace_back([this, channel = Channel(std::move(there))]() mutable {
      try {
        serve(channel, open_);
      } catch (const std::exception&) {  // the other end has hung up
      }
    });
    Peer peer{.channel = Channel(std::move(here)), .process = nullptr};
    greet(peer, "a thread", {.version = std::string(version()), .device = "cuda"}, &welcome);
    return peer;
  }

  OpenDevice open_;
  std::vector<std::jthread> threads_;
};

LaunchPlan simple_plan() {
  LaunchPlan plan;
  KernelLaunch launch;
  launch.entry = "simple";
  launch.grid = {4, 2, 1};
  launch.arguments = {{.kind = Argument::Kind::tensor, .index = 0},
                      {.kind = Argument::Kind::scalar, .index = 0}};
  plan.launches = {launch};
  return plan;
}

TEST_CASE("a context that is beyond use is a loss; a new worker has a new one") {
  test::FakeDriver driver;
  driver->kernels["simple"].parameter_bytes = {8, 4};
  ThreadWorkers workers(
      [&](const Hello&) { return make_cuda_backend(0, driver.table, cuda::NvrtcSearch{}); });
  const auto backend = workers.backend();
  CHECK(backend->device().name == "Fake GPU");
  CHECK(backend->measurement() == "cuda events, L2 flushed by reads, 2");
  Binary binary;
  binary.image.resize(64);
  binary.architecture = backend->device().architecture;
  const auto launch_once = [&] {
    const auto executable = backend->prepare(backend->load(binary), simple_plan());
    const Buffer buffer = backend->allocate(16);
    const std::array<void*, 1> tensors{buffer.data()};
    const std::array<double, 1> scalars{0.5};
    executable->launch({tensors, scalars, nullptr});
    const std::lock_guard lock(driver->mutex);
    REQUIRE(!driver->launches.empty());
    CHECK(driver->launches.back().parameter<void*>(0) == buffer.data());
    CHECK(driver->launches.back().parameter<float>(1) == 0.5F);
    CHECK(driver->launches.back().grid == std::array<unsigned, 3>{4, 2, 1});
  };
  launch_once();

  // The last worker may still be busy ending.
  const auto fail_with = [&](std::map<std::string, cuda::Result> failures) {
    const std::lock_guard lock(driver->mutex);
    driver->failures = std::move(failures);
  };
  // Refused, but none the worse for it.
  fail_with({{"cuMemAlloc_v2", cuda::Result::out_of_memory}});
  CHECK_THROWS_AS(backend->allocate(16), Error);
  CHECK(backend->lost() == Loss::none);
  fail_with({});

  fail_with({{"cuCtxSynchronize", cuda::Result::illegal_address}});
  CHECK_THROWS_AS(backend->synchronize(), Error);
  CHECK(backend->lost() == Loss::fault);
  fail_with({});
  CHECK(fails(ErrorCode::launch_failed, {"gone"}, [&] { backend->synchronize(); }));
  REQUIRE(backend->recover());
  launch_once();
}

TEST_CASE("a worker that answers nonsense is lost") {
  const auto device = some_device();
  const auto start = [&](const std::vector<std::byte>& answer, Reply kind) {
    return [&, answer, kind](Welcome& welcome) {
      auto [here, there] = connected_sockets();
      welcome.device = device;
      Channel other(std::move(there));
      other.send(static_cast<std::uint32_t>(kind), answer, {});  // before it is asked
      return Peer{.channel = Channel(std::move(here)), .process = nullptr};
    };
  };
  std::vector<std::vector<std::byte>> bodies{
      {}, {std::byte{9}}, {std::byte{0}}, std::vector<std::byte>(5)};
  for (const auto& body : bodies)
    for (const Reply kind : {Reply::done, Reply::failed, static_cast<Reply>(1)}) {
      const auto backend = make_remote_backend({}, {}, start(body, kind));
      CHECK(fails(ErrorCode::launch_failed, {"allocate memory"}, [&] { backend->allocate(1); }));
      CHECK(backend->lost() == Loss::fault);
    }
}

}  // namespace
}  // namespace cudadent
