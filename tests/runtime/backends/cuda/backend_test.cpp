// The CUDA backend against a driver made of functions: argument packing, tensor maps, workspaces,
// limits, clean-up and errors, on machines without a GPU.
#include "runtime/backends/cuda/backend.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "runtime/backends/cuda/executable.h"
#include "tests/support/allocations.h"
#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/fake_driver.h"

using namespace cudadent;
using namespace cudadent::cuda;
using cudadent::test::FakeDriver;
using cudadent::test::FakeLaunch;
using cudadent::test::FakeTensorMap;
using Kind = Argument::Kind;

namespace {

struct Fixture {
  FakeDriver driver;
  std::unique_ptr<Backend> backend;

  explicit Fixture(int capability = 90) {
    driver->capability = capability;
    backend = make_cuda_backend(0, driver.table, NvrtcSearch{});
  }
  std::unique_ptr<const Executable> prepare(const LaunchPlan& plan) {
    Binary binary;
    binary.image.resize(64);
    binary.architecture = backend->device().architecture;
    binary.compiler = "nvrtc 13.0.88";
    return backend->prepare(backend->load(binary), plan);
  }
};

void* pointer(std::uintptr_t value) { return reinterpret_cast<void*>(value); }

KernelLaunch launch_of(std::string entry, std::vector<Argument> arguments) {
  KernelLaunch launch;
  launch.entry = std::move(entry);
  launch.grid = {4, 2, 1};
  launch.block = {128, 1, 1};
  launch.arguments = std::move(arguments);
  return launch;
}

TensorMapPlan map_of_tensor(std::int32_t tensor) {
  TensorMapPlan map;
  map.name = "a_map";
  map.index = tensor;
  map.dtype = DataType::bf16;
  map.dimensions = {512, 256};
  map.strides = {1024};
  map.box = {64, 128};
  map.swizzle = 128;
  map.l2_promotion = 256;
  return map;
}

// One kernel with every kind of argument.
LaunchPlan full_plan() {
  LaunchPlan plan;
  plan.workspaces = {{.name = "partials", .bytes = 1000},
                     {.name = "unused", .bytes = 0, .zeroed = Zeroed::every_launch},
                     {.name = "counters", .bytes = 16, .zeroed = Zeroed::every_launch}};
  plan.tensor_maps = {map_of_tensor(0)};
  plan.launches = {launch_of("every", {{.kind = Kind::tensor_map, .index = 0},
                                       {.kind = Kind::tensor, .index = 1},
                                       {.kind = Kind::workspace, .index = 0},
                                       {.kind = Kind::workspace, .index = 1},
                                       {.kind = Kind::workspace, .index = 2},
                                       {.kind = Kind::scalar, .index = 0},
                                       {.kind = Kind::i32, .integer = -7},
                                       {.kind = Kind::i64, .integer = std::int64_t{1} << 40},
                                       {.kind = Kind::f32, .real = 0.5}})};
  return plan;
}

void expect(ErrorCode code, const std::string& part, const auto& action) {
  CAPTURE(part);
  try {
    action();
    FAIL("no error");
  } catch (const Error& error) {
    CHECK_MESSAGE(error.code() == code, error.what());
    CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
  }
}

}  // namespace

TEST_CASE("the device's facts come from its attributes") {
  const Fixture hopper;
  const Device& device = hopper.backend->device();
  CHECK(device.name == "Fake GPU");
  CHECK(device.architecture == "sm_90a");
  CHECK(device.sm == 90);
  CHECK(device.sm_count == 132);
  CHECK(device.max_shared_memory == 232448);
  CHECK(device.l1_bytes == 256 * 1024);
  CHECK(device.memory_bandwidth == doctest::Approx(4.917e12).epsilon(0.001));
  CHECK(device.driver == "13.0");
  CHECK(device.uuid == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
  CHECK(Fixture(80).backend->device().architecture == "sm_80");
  CHECK(Fixture(121).backend->device().architecture == "sm_121a");
}

TEST_CASE("a launch passes every kind of argument as the kernel expects it") {
  Fixture fixture;
  fixture.driver->kernels["every"].parameter_bytes = {128, 8, 8, 8, 8, 4, 4, 8, 4};
  const auto executable = fixture.prepare(full_plan());
  CHECK(fixture.driver->kernels["every"].loaded);
  const std::vector<void*> tensors{pointer(0x1000), pointer(0x2000)};
  const std::vector<double> scalars{1e-6};
  executable->launch({.tensors = tensors, .scalars = scalars, .stream = pointer(0x77)});

  REQUIRE(fixture.driver->launches.size() == 1);
  const FakeLaunch& launch = fixture.driver->launches[0];
  CHECK(launch.kernel == "every");
  CHECK(launch.grid == std::array<unsigned, 3>{4, 2, 1});
  CHECK(launch.block == std::array<unsigned, 3>{128, 1, 1});
  CHECK(launch.stream == pointer(0x77));
  CHECK(launch.parameter<void*>(1) == pointer(0x2000));
  CHECK(launch.parameter<float>(5) == 1e-6F);
  CHECK(launch.parameter<std::int32_t>(6) == -7);
  CHECK(launch.parameter<std::int64_t>(7) == std::int64_t{1} << 40);
  CHECK(launch.parameter<float>(8) == 0.5F);

  // The zeroed workspace comes first in one allocation; the one of no bytes is null.
  const auto counters = launch.parameter<DevicePointer>(4);
  CHECK(launch.parameter<DevicePointer>(2) == counters + 256);
  CHECK(launch.parameter<DevicePointer>(3) == 0);
  CHECK(fixture.driver->last_stream_bytes == 256 + 1024);
  CHECK(fixture.driver->count("cuMemsetD8Async") == 1);
  CHECK(fixture.driver->stream_memory.empty());

  FakeTensorMap map;
  std::memcpy(&map, launch.parameters[0].data(), sizeof map);
  CHECK(map.address == 0x1000);
  CHECK(map.type == static_cast<std::uint32_t>(TensorMapType::bf16));
  CHECK(map.rank == 2);
  CHECK(map.swizzle == 3);
  CHECK(map.l2_promotion == 3);
  CHECK(map.dimensions[0] == 512);
  CHECK(map.stride == 1024);
  CHECK(map.box[1] == 128);
}

TEST_CASE("a tensor map is encoded again only when its pointer changes") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {128};
  LaunchPlan plan;
  plan.tensor_maps = {map_of_tensor(0)};
  plan.launches = {launch_of("k", {{.kind = Kind::tensor_map, .index = 0}})};
  const auto executable = fixture.prepare(plan);
  const auto launch = [&](std::uintptr_t address) {
    const std::vector<void*> tensors{pointer(address)};
    executable->launch({.tensors = tensors, .scalars = {}});
    FakeTensorMap map;
    std::memcpy(&map, fixture.driver->launches.back().parameters[0].data(), sizeof map);
    return map.address;
  };
  for (int i = 0; i < 3; ++i) CHECK(launch(0x1000) == 0x1000);
  CHECK(fixture.driver->encodes == 1);
  CHECK(launch(0x2000) == 0x2000);
  CHECK(launch(0x1000) == 0x1000);
  CHECK(fixture.driver->encodes == 3);

  // A failed encoding is not taken for a good one afterwards.
  expect(ErrorCode::launch_failed, "a_map", [&] { launch(0x3001); });
  CHECK(launch(0x1000) == 0x1000);
}

TEST_CASE("a tensor map of a workspace follows the workspace") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {128, 8};
  LaunchPlan plan;
  plan.workspaces = {{.name = "w", .bytes = 4096}};
  plan.tensor_maps = {map_of_tensor(0)};
  plan.tensor_maps[0].of_workspace = true;
  plan.launches = {launch_of(
      "k", {{.kind = Kind::tensor_map, .index = 0}, {.kind = Kind::workspace, .index = 0}})};
  const auto executable = fixture.prepare(plan);
  executable->launch({});
  FakeTensorMap map;
  std::memcpy(&map, fixture.driver->launches[0].parameters[0].data(), sizeof map);
  CHECK(map.address == fixture.driver->launches[0].parameter<std::uint64_t>(1));
  CHECK(map.address != 0);
}

TEST_CASE("an optional tensor that is left out is null, and its map is not encoded") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {128, 8};
  LaunchPlan plan;
  plan.tensor_maps = {map_of_tensor(0)};
  plan.launches = {
      launch_of("k", {{.kind = Kind::tensor_map, .index = 0}, {.kind = Kind::tensor, .index = 0}})};
  const auto executable = fixture.prepare(plan);
  const std::vector<void*> tensors{nullptr};
  executable->launch({.tensors = tensors, .scalars = {}});
  CHECK(fixture.driver->encodes == 0);
  CHECK(fixture.driver->launches[0].parameter<void*>(1) == nullptr);
}

TEST_CASE("a tensor without elements has no map: the kernel gets zeros") {
  LaunchPlan plan;
  plan.tensor_maps = {map_of_tensor(0)};
  plan.tensor_maps[0].dimensions[0] = 0;
  plan.launches = {launch_of("k", {{.kind = Kind::tensor_map, .index = 0}})};
  CHECK(lay_out(plan).tensor_maps.at(0).rank == 0);  // never encoded
}

TEST_CASE("a plan of two kernels launches both, in order, with shared arguments") {
  Fixture fixture;
  fixture.driver->kernels["first"].parameter_bytes = {8, 8};
  fixture.driver->kernels["second"].parameter_bytes = {8, 8, 4};
  LaunchPlan plan;
  plan.workspaces = {{.name = "partials", .bytes = 64}};
  plan.launches = {launch_of("first", {{.kind = Kind::tensor, .index = 0},
                                       {.kind = Kind::workspace, .index = 0}}),
                   launch_of("second", {{.kind = Kind::workspace, .index = 0},
                                        {.kind = Kind::tensor, .index = 1},
                                        {.kind = Kind::i32, .integer = 3}})};
  const auto executable = fixture.prepare(plan);
  const std::vector<void*> tensors{pointer(0x10), pointer(0x20)};
  executable->launch({.tensors = tensors, .scalars = {}});
  REQUIRE(fixture.driver->launches.size() == 2);
  const FakeLaunch& first = fixture.driver->launches[0];
  const FakeLaunch& second = fixture.driver->launches[1];
  CHECK(first.kernel == "first");
  CHECK(first.parameter<void*>(0) == pointer(0x10));
  CHECK(second.parameter<void*>(1) == pointer(0x20));
  CHECK(second.parameter<std::int32_t>(2) == 3);
  CHECK(first.parameter<DevicePointer>(1) == second.parameter<DevicePointer>(0));
  CHECK(fixture.driver->count("cuMemAllocFromPoolAsync") == 1);
}

TEST_CASE("an empty plan launches nothing and needs nothing") {
  Fixture fixture;
  const auto executable = fixture.prepare({});
  executable->launch({});
  CHECK(fixture.driver->launches.empty());
  CHECK(fixture.backend->time(*executable, {}, 1).size() == 1);
}

TEST_CASE("clusters are launched with their attribute, and large ones allowed first") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  plan.launches[0].cluster = {2, 1, 1};
  fixture.prepare(plan)->launch({});
  CHECK(fixture.driver->launches[0].cluster == std::array<unsigned, 3>{2, 1, 1});
  CHECK(fixture.driver->count("cuLaunchKernelEx") == 1);
  CHECK_FALSE(fixture.driver->kernels["k"].non_portable_cluster);

  plan.launches[0].grid = {16, 1, 1};
  plan.launches[0].cluster = {16, 1, 1};
  fixture.prepare(plan);
  CHECK(fixture.driver->kernels["k"].non_portable_cluster);
}

TEST_CASE("a second executable never lowers the shared memory a first one was allowed") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  Binary binary;
  const auto module = fixture.backend->load(binary);
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  for (const unsigned bytes : {100000U, 60000U}) {
    plan.launches[0].shared_memory = bytes;
    fixture.backend->prepare(module, plan);
  }
  CHECK(fixture.driver->kernels["k"].max_dynamic_shared == 100000);
}

TEST_CASE("what the device cannot do is refused by name before it is launched") {
  Fixture fixture;
  auto& kernel = fixture.driver->kernels["k"];
  kernel.static_shared = 1000;
  kernel.max_threads = 256;
  kernel.registers = 200;
  const auto refused = [&](const std::string& part, const auto& change) {
    LaunchPlan plan;
    plan.launches = {launch_of("k", {})};
    change(plan.launches[0]);
    expect(ErrorCode::launch_failed, part, [&] { fixture.prepare(plan); });
  };
  refused("'k'", [](KernelLaunch& launch) { launch.block = {512, 1, 1}; });
  refused("200 registers", [](KernelLaunch& launch) { launch.block = {512, 1, 1}; });
  refused("232448 a block", [](KernelLaunch& launch) { launch.shared_memory = 232000; });
  refused("65536 blocks in y", [](KernelLaunch& launch) { launch.grid = {1, 65536, 1}; });
  refused("a side of 0", [](KernelLaunch& launch) { launch.grid = {0, 1, 1}; });
  refused("no multiple", [](KernelLaunch& launch) { launch.cluster = {3, 1, 1}; });
  refused("at most 16", [](KernelLaunch& launch) { launch.cluster = {32, 1, 1}; });

  Fixture ampere(80);
  ampere.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  plan.launches[0].cluster = {2, 1, 1};
  expect(ErrorCode::launch_failed, "in clusters", [&] { ampere.prepare(plan); });
}

TEST_CASE("a manifest whose arguments do not fit the kernel is told so") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {8, 4};
  const auto prepare = [&](std::vector<Argument> arguments) {
    LaunchPlan plan;
    plan.launches = {launch_of("k", std::move(arguments))};
    fixture.prepare(plan);
  };
  const Argument tensor{.kind = Kind::tensor};
  const Argument integer{.kind = Kind::i32};
  prepare({tensor, integer});
  const auto code = ErrorCode::invalid_manifest;
  expect(code, "more parameters than the manifest's 1", [&] { prepare({tensor}); });
  expect(code, "it has 2 parameters, the manifest 3", [&] { prepare({tensor, integer, integer}); });
  expect(code, "parameter 1 has 4 bytes in the kernel, 8", [&] { prepare({tensor, tensor}); });
  expect(code, "workspace 0 of 0", [&] { prepare({{.kind = Kind::workspace}, integer}); });

  LaunchPlan plan;
  plan.launches = {launch_of("missing", {})};
  expect(code, "no kernel 'missing'", [&] { fixture.prepare(plan); });

  // A driver that cannot tell is believed.
  fixture.driver.table.function_parameter = nullptr;
  fixture.backend = make_cuda_backend(0, fixture.driver.table, NvrtcSearch{});
  CHECK_NOTHROW(prepare({tensor}));
}

TEST_CASE("tensor maps the hardware cannot do are refused with the rule they break") {
  const auto refused = [](const std::string& part, const auto& change) {
    LaunchPlan plan;
    plan.tensor_maps = {map_of_tensor(0)};
    change(plan.tensor_maps[0]);
    CHECK_NOTHROW(lay_out(plan));  // no kernel uses it
    plan.launches = {launch_of("k", {{.kind = Kind::tensor_map, .index = 0}})};
    expect(ErrorCode::launch_failed, part, [&] { lay_out(plan); });
  };
  refused("a box of 257", [](TensorMapPlan& map) { map.box[1] = 257; });
  refused("more than its swizzle", [](TensorMapPlan& map) { map.box[0] = 128; });
  refused("stride of 1000", [](TensorMapPlan& map) { map.strides[0] = 1000; });
  refused("swizzle of 16", [](TensorMapPlan& map) { map.swizzle = 16; });
  refused("L2 promotion of 32", [](TensorMapPlan& map) { map.l2_promotion = 32; });
  refused("a stride for each", [](TensorMapPlan& map) { map.strides.clear(); });
}

TEST_CASE("workspaces are freed and blocks released when a launch fails") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {8};
  LaunchPlan plan;
  plan.workspaces = {{.name = "w", .bytes = 64, .zeroed = Zeroed::every_launch}};
  plan.launches = {launch_of("k", {{.kind = Kind::workspace, .index = 0}})};
  const auto executable = fixture.prepare(plan);
  for (const std::string symbol :
       {"cuLaunchKernel", "cuMemsetD8Async", "cuMemAllocFromPoolAsync"}) {
    CAPTURE(symbol);
    fixture.driver->failures[symbol] = Result::out_of_memory;
    // More often than there are argument blocks: none may stay taken.
    for (int i = 0; i < 10; ++i)
      expect(ErrorCode::machine_failed, "Fake GPU", [&] { executable->launch({}); });
    fixture.driver->failures.clear();
    CHECK(fixture.driver->stream_memory.empty());
    CHECK(fixture.driver->context_stack().empty());
  }
  CHECK_NOTHROW(executable->launch({}));
  CHECK(fixture.backend->lost() == Loss::none);
}

TEST_CASE("a workspace that kernels leave zero is zeroed once for each stream") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {8, 8};
  LaunchPlan plan;
  plan.workspaces = {{.name = "partials", .bytes = 64},
                     {.name = "counters", .bytes = 64, .zeroed = Zeroed::kept}};
  plan.launches = {launch_of(
      "k", {{.kind = Kind::workspace, .index = 0}, {.kind = Kind::workspace, .index = 1}})};
  const auto zeroed = [&] { return fixture.driver->count("cuMemsetD8Async"); };
  const auto counters = [&] { return fixture.driver->launches.back().parameter<DevicePointer>(1); };
  int streams[2];
  auto executable = fixture.prepare(plan);
  for (int i = 0; i < 3; ++i)
    executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[0]});
  CHECK(zeroed() == 1);
  const auto first = counters();
  executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[1]});
  CHECK(zeroed() == 2);
  CHECK(counters() != first);
  executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[0]});
  CHECK(counters() == first);

  SUBCASE("a graph that is being captured gets its own") {
    fixture.driver->capture = CaptureStatus::active;
    executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[0]});
    CHECK(zeroed() == 3);
    CHECK(counters() != first);
  }
  SUBCASE("so does a launch that may not touch its stream while another is captured") {
    fixture.driver->failures["cuStreamIsCapturing"] = Result::stream_capture_implicit;
    executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[0]});
    CHECK(zeroed() == 3);
    CHECK(counters() != first);
  }
  SUBCASE("the next executable may take it over, zeroed again") {
    executable.reset();
    executable = fixture.prepare(plan);
    executable->launch({.tensors = {}, .scalars = {}, .stream = &streams[0]});
    CHECK(counters() == first);
    CHECK(zeroed() == 3);
  }
  SUBCASE("all is given back in the end") {
    executable.reset();
    fixture.backend.reset();
    CHECK(fixture.driver->stream_memory.empty());
  }
}

namespace {

// The same kernels, arguments and tensor maps as full_plan(), other numbers.
LaunchPlan other_plan(std::uint32_t blocks) {
  LaunchPlan plan = full_plan();
  plan.workspaces[0].bytes = 100 * blocks;
  plan.tensor_maps[0].dimensions = {512, blocks};
  plan.tensor_maps[0].box = {64, 64};
  plan.launches[0].grid = {blocks, 1, 2};
  plan.launches[0].block = {64, 2, 1};
  plan.launches[0].arguments[6].integer = blocks;
  plan.launches[0].arguments[7].integer = 1000 * blocks;
  plan.launches[0].arguments[8].real = 1.0 / blocks;
  return plan;
}

}  // namespace

TEST_CASE("an executable launches other numbers as if they had been prepared") {
  Fixture fixture;
  fixture.driver->kernels["every"].parameter_bytes = {128, 8, 8, 8, 8, 4, 4, 8, 4};
  const auto executable = fixture.prepare(full_plan());
  const std::vector<void*> tensors{pointer(0x1000), pointer(0x2000)};
  const std::vector<double> scalars{1e-6};
  const LaunchArguments arguments{.tensors = tensors, .scalars = scalars, .stream = nullptr};
  const auto& launches = fixture.driver->launches;
  for (const std::uint32_t blocks : {7U, 300U, 1U, 0x10000U}) {
    CAPTURE(blocks);
    const LaunchPlan plan = other_plan(blocks);
    REQUIRE(executable->launch_with(plan, arguments));
    const std::size_t bytes = fixture.driver->last_stream_bytes;
    fixture.prepare(plan)->launch(arguments);
    const FakeLaunch &launch = launches.end()[-2], &expected = launches.back();
    CHECK(launch.grid == expected.grid);
    CHECK(launch.block == expected.block);
    CHECK(bytes == fixture.driver->last_stream_bytes);
    for (const std::size_t i : {0, 1, 3, 5, 6, 7, 8})  // the others are where workspaces lie
      CHECK(launch.parameters[i] == expected.parameters[i]);
    CHECK(launch.parameter<DevicePointer>(2) - launch.parameter<DevicePointer>(4) == 256);
  }
  // What was prepared is as it was.
  executable->launch(arguments);
  CHECK(launches.back().grid == std::array<unsigned, 3>{4, 2, 1});
  CHECK(launches.back().parameter<std::int32_t>(6) == -7);
  CHECK(fixture.driver->stream_memory.empty());
}

TEST_CASE("numbers that an executable was not prepared for are left to be prepared") {
  Fixture fixture;
  fixture.driver->kernels["every"].parameter_bytes = {128, 8, 8, 8, 8, 4, 4, 8, 4};
  const auto executable = fixture.prepare(full_plan());
  const std::vector<void*> tensors{pointer(0x1000), pointer(0x2000)};
  const std::vector<double> scalars{1e-6};
  const LaunchArguments arguments{.tensors = tensors, .scalars = scalars, .stream = nullptr};
  const auto launches = [&](const auto& change) {
    LaunchPlan plan = other_plan(9);
    change(plan);
    return executable->launch_with(plan, arguments);
  };
  CHECK(!launches([](LaunchPlan& plan) { plan.launches[0].grid[1] = 65536; }));
  CHECK(!launches([](LaunchPlan& plan) { plan.launches[0].block = {1024, 2, 1}; }));
  CHECK(!launches([](LaunchPlan& plan) { plan.launches[0].shared_memory = 1024; }));
  CHECK(!launches([](LaunchPlan& plan) { plan.launches[0].cluster = {3, 1, 1}; }));
  CHECK(!launches([](LaunchPlan& plan) { plan.tensor_maps[0].box[1] = 257; }));
  CHECK(!launches([](LaunchPlan& plan) { plan.tensor_maps[0].strides[0] = 1000; }));
  CHECK(fixture.driver->launches.empty());
  // None of them has left anything behind; a map of nothing is none.
  CHECK(launches([](LaunchPlan&) {}));
  CHECK(fixture.driver->launches.back().parameter<std::int32_t>(6) == 9);
  CHECK(launches([](LaunchPlan& plan) { plan.tensor_maps[0].dimensions[1] = 0; }));
  FakeTensorMap map;
  CHECK(launches([](LaunchPlan& plan) { plan.tensor_maps[0].dimensions[1] = 5; }));
  std::memcpy(&map, fixture.driver->launches.back().parameters[0].data(), sizeof map);
  CHECK(map.dimensions[1] == 5);
}

TEST_CASE("a workspace that kernels leave zero serves launches of several sizes") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {8};
  LaunchPlan plan;
  plan.workspaces = {{.name = "counters", .bytes = 64, .zeroed = Zeroed::kept}};
  plan.launches = {launch_of("k", {{.kind = Kind::workspace, .index = 0}})};
  const auto zeroed = [&] { return fixture.driver->count("cuMemsetD8Async"); };
  const auto executable = fixture.prepare(plan);
  executable->launch({});
  for (const std::size_t bytes : {128, 4096, 5000, 8000, 64, 6000, 8192}) {
    plan.workspaces[0].bytes = bytes;
    CHECK(executable->launch_with(plan, {}));
  }
  CHECK(zeroed() == 2);  // of 4096 and of 8192 bytes
  // Executables of one module have them together.
  executable->launch({});
  CHECK(zeroed() == 2);
}

TEST_CASE("ever new numbers allocate nothing") {
  if (!tests::allocations()) {
    MESSAGE("SKIPPED: a sanitizer's build cannot count allocations");
    return;
  }
  Fixture fixture;
  fixture.driver->kernels["every"].parameter_bytes = {128, 8, 8, 8, 8, 4, 4, 8, 4};
  LaunchPlan prepared = full_plan(), plan = other_plan(3);
  // A stream's memory is the fake's own affair, which allocates.
  for (auto* each : {&prepared, &plan})
    for (auto& workspace : each->workspaces) workspace.zeroed = Zeroed::kept;
  const auto executable = fixture.prepare(prepared);
  const std::vector<void*> tensors{pointer(0x1000), pointer(0x2000)};
  const std::vector<double> scalars{1e-6};
  const LaunchArguments arguments{.tensors = tensors, .scalars = scalars, .stream = nullptr};
  REQUIRE(executable->launch_with(plan, arguments));
  fixture.driver->quiet = true;
  const auto before = tests::allocations();
  for (std::uint32_t blocks = 4; blocks < 300; ++blocks) {
    plan.launches[0].grid[0] = blocks;
    plan.launches[0].arguments[6].integer = blocks;
    plan.tensor_maps[0].dimensions[1] = blocks;
    plan.workspaces[0].bytes = 10 * blocks;
    REQUIRE(executable->launch_with(plan, arguments));
  }
  CHECK(tests::allocations() == before);
  fixture.driver->quiet = false;
}

TEST_CASE("a launch says what was launched, why it failed, and whether the device is lost") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  const auto executable = fixture.prepare(plan);
  fixture.driver->failures["cuLaunchKernel"] = Result::illegal_address;
  try {
    executable->launch({});
    FAIL("no error");
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(text.find("launch 'k' (grid 4x2x1, block 128x1x1") != std::string::npos);
    CHECK(text.find("CUDA_ERROR_ILLEGAL_ADDRESS (700): made to fail") != std::string::npos);
    CHECK(text.find("only a new process recovers") != std::string::npos);
    CHECK(error.detail() == "CUDA_ERROR_ILLEGAL_ADDRESS");
  }
  CHECK(fixture.backend->lost() == Loss::fault);
}

TEST_CASE("a thread without a context gets one for the launch; one that has it pays one query") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  const auto executable = fixture.prepare(plan);
  fixture.driver->calls.clear();
  executable->launch({});
  CHECK(fixture.driver->calls == std::vector<std::string>{"cuCtxGetCurrent", "cuCtxPushCurrent_v2",
                                                          "cuLaunchKernel", "cuCtxPopCurrent_v2"});
  Context context = nullptr;
  fixture.driver.table.primary_context_retain(&context, 0);
  fixture.driver->context_stack() = {context};
  fixture.driver->calls.clear();
  executable->launch({});
  CHECK(fixture.driver->calls == std::vector<std::string>{"cuCtxGetCurrent", "cuLaunchKernel"});
}

TEST_CASE("threads launch one executable at once, each with its own arguments") {
  Fixture fixture;
  fixture.driver->kernels["k"].parameter_bytes = {128, 8, 8, 4};
  LaunchPlan plan;
  plan.tensor_maps = {map_of_tensor(0)};
  plan.launches = {launch_of("k", {{.kind = Kind::tensor_map, .index = 0},
                                   {.kind = Kind::tensor, .index = 0},
                                   {.kind = Kind::tensor, .index = 1},
                                   {.kind = Kind::i32, .integer = 9}})};
  const auto executable = fixture.prepare(plan);
  constexpr int thread_count = 8, repeats = 200;  // more threads than argument blocks
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t)
    threads.emplace_back([&, t] {
      const auto address = static_cast<std::uintptr_t>(0x1000 * (t + 1));
      const std::vector<void*> tensors{pointer(address), pointer(address + 8)};
      for (int i = 0; i < repeats; ++i) executable->launch({.tensors = tensors, .scalars = {}});
    });
  for (auto& thread : threads) thread.join();
  CHECK(fixture.driver->launches.size() == thread_count * repeats);
  int torn = 0;
  for (const FakeLaunch& launch : fixture.driver->launches) {
    FakeTensorMap map;
    std::memcpy(&map, launch.parameters[0].data(), sizeof map);
    const auto address = launch.parameter<std::uint64_t>(1);
    torn += map.address != address || launch.parameter<std::uint64_t>(2) != address + 8 ||
            launch.parameter<std::int32_t>(3) != 9;
  }
  CHECK(torn == 0);
}

TEST_CASE("timing flushes before each run, waits once a batch, and gives seconds") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  const auto executable = fixture.prepare(plan);
  const auto seconds = fixture.backend->time(*executable, {.tensors = {}, .scalars = {}}, 40);
  CHECK(seconds == std::vector<double>(40, 0.25e-3));
  CHECK(fixture.driver->count("cuStreamSynchronize") == 2);
  const auto& launches = fixture.driver->launches;
  REQUIRE(launches.size() == 80);
  for (std::size_t i = 0; i < launches.size(); ++i) {
    CHECK(launches[i].kernel == (i % 2 == 0 ? "cudadent_read" : "k"));
    CHECK(launches[i].stream != nullptr);
  }
  // The fake GPU's cache is small: what is read is what hides the host's latency.
  CHECK(std::size_t{launches[0].grid[0]} * launches[0].block[0] * 16 == std::size_t{64} << 20);

  auto& calls = fixture.driver->calls;
  calls.erase(std::remove(calls.begin(), calls.end(), "cuCtxGetCurrent"), calls.end());
  const auto flush = std::find(calls.begin(), calls.end(), "cuLaunchKernel");
  CHECK(std::vector<std::string>(flush, flush + 4) ==
        std::vector<std::string>{"cuLaunchKernel", "cuEventRecord", "cuLaunchKernel",
                                 "cuEventRecord"});
  CHECK(fixture.backend->time(*executable, {}, 0).empty());

  fixture.driver->failures["cuStreamSynchronize"] = Result::launch_failed;
  expect(ErrorCode::launch_failed, "only a new process recovers",
         [&] { fixture.backend->time(*executable, {}, 3); });
  CHECK(fixture.backend->lost() == Loss::fault);
}

TEST_CASE("memory is copied, filled and freed") {
  Fixture fixture;
  {
    const Buffer buffer = fixture.backend->allocate(16);
    CHECK(buffer.bytes() == 16);
    std::array<unsigned char, 16> values{}, back{};
    std::iota(values.begin(), values.end(), static_cast<unsigned char>(1));
    fixture.backend->copy_to_device(buffer.data(), values.data(), 16);
    fixture.backend->fill(buffer.data(), std::byte{0xee}, 4);
    fixture.backend->copy_to_host(back.data(), buffer.data(), 16);
    CHECK(back[3] == 0xee);
    CHECK(back[4] == 5);
    const Buffer empty = fixture.backend->allocate(0);
    CHECK(fixture.driver->memory.size() == 2);
  }
  CHECK(fixture.driver->memory.empty());

  fixture.driver->failures["cuMemAlloc_v2"] = Result::out_of_memory;
  expect(ErrorCode::machine_failed, "Free device memory",
         [&] { fixture.backend->allocate(1 << 20); });
}

TEST_CASE("everything is given back, in whatever order things die, even when the driver refuses") {
  for (const bool refuses : {false, true}) {
    CAPTURE(refuses);
    Fixture fixture;
    fixture.driver->kernels["k"];
    LaunchPlan plan;
    plan.launches = {launch_of("k", {})};
    auto executable = fixture.prepare(plan);
    Buffer buffer = fixture.backend->allocate(8);
    fixture.backend->time(*executable, {}, 1);
    if (refuses)
      for (const char* symbol :
           {"cuMemFree_v2", "cuLibraryUnload", "cuStreamDestroy_v2", "cuEventDestroy_v2",
            "cuCtxPushCurrent_v2", "cuMemPoolDestroy", "cuDevicePrimaryCtxRelease_v2"})
        fixture.driver->failures[symbol] = Result::deinitialized;
    fixture.backend.reset();  // the executable and the buffer keep the context
    CHECK(fixture.driver->contexts == 1);
    executable.reset();
    buffer = Buffer();
    CHECK(fixture.driver->count("cuDevicePrimaryCtxRelease_v2") == 1);
    if (refuses) continue;
    CHECK(fixture.driver->contexts == 0);
    CHECK(fixture.driver->libraries == 0);
    CHECK(fixture.driver->events == 0);
    CHECK(fixture.driver->streams == 0);
    CHECK(fixture.driver->pools == 0);
    CHECK(fixture.driver->memory.empty());
  }
}

TEST_CASE("in the child of a fork every use is an error at once, and the driver is left alone") {
  Fixture fixture;
  fixture.driver->kernels["k"];
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  auto executable = fixture.prepare(plan);
  Buffer buffer = fixture.backend->allocate(8);
  fixture.backend->time(*executable, {}, 1);
  const auto calls = fixture.driver->calls;
  CHECK(tests::wait_for(tests::start_child([&] {
          const auto refuses = [&](const auto& action) {
            return tests::fails(ErrorCode::device_unavailable, {"Fake GPU", "fork", "spawn"},
                                action);
          };
          bool well = refuses([&] { executable->launch({}); });
          well &= refuses([&] { fixture.backend->allocate(8); });
          well &= refuses([&] { fixture.backend->compile({}); });
          well &= refuses([&] { (void)fixture.backend->capturing(nullptr); });
          well &= refuses([&] { fixture.backend->time(*executable, {}, 1); });
          well &= refuses([&] { fixture.prepare(plan); });
          executable.reset();
          buffer = Buffer();
          fixture.backend.reset();
          return well && fixture.driver->calls == calls;
        })) == 0);
  executable->launch({});
}

TEST_CASE(
    "capturing is asked of the driver, and a capture elsewhere counts for the default stream") {
  Fixture fixture;
  CHECK_FALSE(fixture.backend->capturing(nullptr));
  fixture.driver->capture = CaptureStatus::active;
  CHECK(fixture.backend->capturing(pointer(0x77)));
  fixture.driver->failures["cuStreamIsCapturing"] = Result::stream_capture_implicit;
  CHECK(fixture.backend->capturing(nullptr));
  fixture.driver->failures["cuStreamIsCapturing"] = Result::invalid_context;
  expect(ErrorCode::launch_failed, "captured", [&] { (void)fixture.backend->capturing(nullptr); });
}

TEST_CASE("a device that is not there, or does not open, is unavailable") {
  FakeDriver driver;
  const auto code = ErrorCode::device_unavailable;
  expect(code, "no device cuda:1: 1 CUDA device is visible",
         [&] { make_cuda_backend(1, driver.table, NvrtcSearch{}); });
  driver->failures["cuDevicePrimaryCtxRetain"] = Result::out_of_memory;
  expect(code, "open a context on Fake GPU (cuda:0)",
         [&] { make_cuda_backend(0, driver.table, NvrtcSearch{}); });
  driver->failures.clear();
  driver->failures["cuStreamCreate"] = Result::out_of_memory;
  expect(code, "create a stream", [&] { make_cuda_backend(0, driver.table, NvrtcSearch{}); });
  CHECK(driver->contexts == 0);
}

TEST_CASE("without memory pools only plans with workspaces are refused") {
  FakeDriver driver;
  driver->failures["cuMemPoolCreate"] = Result::not_supported;
  driver->kernels["k"];
  const auto backend = make_cuda_backend(0, driver.table, NvrtcSearch{});
  LaunchPlan plan;
  plan.launches = {launch_of("k", {})};
  backend->prepare(backend->load({}), plan)->launch({});
  plan.workspaces = {{.name = "w", .bytes = 64, .zeroed = Zeroed::every_launch}};
  expect(ErrorCode::unsupported, "no memory pools",
         [&] { backend->prepare(backend->load({}), plan); });
}

TEST_CASE("a driver that is missing is an error that says so, and counts no devices") {
  expect(ErrorCode::device_unavailable, "libnowhere.so.1",
         [] { load_driver_table("libnowhere.so.1"); });
  std::string why = "unset";
  const int count = cuda_device_count(&why);
  CHECK((count == 0) == !why.empty());
}
