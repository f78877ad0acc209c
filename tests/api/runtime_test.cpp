// What a user of the public header sees; templates of one's own, so that little has to be compiled.
#include <cudadent/cudadent.h>
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/folder.h"
#include "tests/support/processes.h"

namespace {

using cudadent::DataType;
using cudadent::ErrorCode;
using cudadent::OnMiss;
using cudadent::Provenance;
using cudadent::Tensor;
using cudadent::tests::eventually;
using cudadent::tests::fails;
using cudadent::tests::Folder;
using cudadent::tests::start_child;
using cudadent::tests::wait_for;

// y = alpha x, in two ways that are equally right.
struct Fixture {
  Folder folder;

  Fixture() {
    folder.write("scale/op.json", R"manifest({
  "op": "scale",
  "doc": "y = alpha x",
  "dtypes": { "dtype": {"values": ["f32"]} },
  "options": { "sign": ["keep", "flip"] },
  "tensors": {
    "x": { "shape": ["n"], "dtype": "dtype", "doc": "what is scaled" },
    "y": { "shape": ["n"], "dtype": "dtype", "role": "output" } },
  "scalars": { "alpha": {"default": 2} } })manifest");
    folder.write("scale/host_reference.json",
                 R"manifest({
  "template": "host_reference",
  "backend": "host",
  "compile_time": ["sign"],
  "parameters": { "BACKWARDS": [false, true] },
  "launches": [{"entry": "scale", "grid": [1], "args": ["x", "y", "n", "alpha"]}] })manifest");
    folder.write("scale/host_reference.cpp", R"(
void scale(const Block&, const float* x, float* y, int n, float alpha) {
  const float factor = sign == sign_kind::flip ? -alpha : alpha;
  for (int i = 0; i < n; ++i) y[BACKWARDS ? n - 1 - i : i] = factor * x[BACKWARDS ? n - 1 - i : i];
}
)");
  }
  cudadent::RuntimeOptions options(OnMiss on_miss = OnMiss::nearest) const {
    cudadent::RuntimeOptions options;
    options.device = "host";
    options.cache = folder / "cache.db";
    options.template_paths = {folder.path()};
    options.on_miss = on_miss;
    options.tuning.budget.seconds = 30;
    return options;
  }
};

struct Data {
  alignas(16) std::array<float, 4> x{1, 2, 3, 4};
  alignas(16) std::array<float, 4> y{};
  Tensor in{x.data(), DataType::f32, {4}}, out{y.data(), DataType::f32, {4}};
};

const cudadent::Values four{{"n", std::int64_t{4}}, {"dtype", "f32"}};

TEST_CASE("an operator launches, with its options and scalars") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options());
  CHECK(!runtime.device_name().empty());
  const auto scale = runtime.op("scale");
  Data data;
  scale({data.in, data.out});
  CHECK(data.y == std::array<float, 4>{2, 4, 6, 8});
  const std::array<double, 1> alpha{10};
  scale({data.in, data.out}, nullptr, alpha);
  CHECK(data.y == std::array<float, 4>{10, 20, 30, 40});
  runtime.op("scale", {{"sign", "flip"}})({data.in, data.out});
  CHECK(data.y == std::array<float, 4>{-2, -4, -6, -8});
}

TEST_CASE("an operator says what it takes") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options());
  const auto scale = runtime.op("scale", {{"sign", "flip"}});
  CHECK(scale.name() == "scale");
  CHECK(scale.tensors() == std::vector<std::string>{"x", "y"});
  const auto info = scale.info();
  CHECK(info.doc == "y = alpha x");
  REQUIRE(info.tensors.size() == 2);
  CHECK(info.tensors[0].doc == "what is scaled");
  CHECK(info.tensors[0].shape == std::vector<std::string>{"n"});
  CHECK(info.tensors[1].output);
  CHECK(info.dtypes.at(0).allowed == std::vector<std::string>{"f32"});
  CHECK(info.options.at(0).bound == cudadent::Value("flip"));
  CHECK(info.scalars.at(0).otherwise == 2);
}

TEST_CASE("scalars may be bound by name, and given for one launch") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options());
  const auto triple = runtime.op("scale", {{"alpha", 3.0}});
  Data data;
  const std::array<Tensor, 2> tensors{data.in, data.out};
  triple.launch(tensors);
  CHECK(data.y[0] == 3);
  const std::array<double, 1> five{5}, as_bound{std::nan("")};
  triple.launch(tensors, nullptr, five);
  CHECK(data.y[0] == 5);
  triple.launch(tensors, nullptr, as_bound);
  CHECK(data.y[0] == 3);
}

TEST_CASE("a database that cannot be used costs a warning, and no launch") {
  const Fixture fixture;
  auto options = fixture.options(OnMiss::tune);
  options.tuning.budget.trials = 2;
  options.tuning.isolation = cudadent::Isolation::in_process;
  fixture.folder.write("cache.db", std::string(10'000, 'x'));
  std::vector<std::string> warnings;
  options.log = [&](cudadent::LogLevel level, std::string_view message) {
    if (level == cudadent::LogLevel::warning && message.find("cache.db") != message.npos)
      warnings.emplace_back(message);
  };
  {
    cudadent::Runtime runtime(options);
    Data data;
    CHECK(!runtime.winner("scale", four));
    runtime.op("scale")({data.in, data.out});
    CHECK(data.y == std::array<float, 4>{2, 4, 6, 8});
    // What was found out is known, and found again.
    REQUIRE(runtime.winner("scale", four));
    CHECK(runtime.winner("scale", four)->provenance == Provenance::cached);
    runtime.op("scale", {{"sign", "flip"}})({data.in, data.out});
    CHECK(data.y == std::array<float, 4>{-2, -4, -6, -8});
  }
  REQUIRE(warnings.size() == 1);
  CHECK(cudadent::tests::mentions(
      warnings[0], {"cache.db", "not an SQLite database", "CUDADENT_CACHE", "kept in memory"}));
}

TEST_CASE("preparing says what a launch will do; only then is it known") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options());
  const auto scale = runtime.op("scale");
  Data data;
  const std::array<Tensor, 2> tensors{data.in, data.out};
  CHECK(!scale.try_launch(tensors));
  CHECK(data.y[0] == 0);
  const auto explanation = scale.prepare(tensors);
  CHECK(explanation.problem == "scale n=4 dtype=f32");
  CHECK(explanation.winner.provenance == Provenance::defaulted);
  CHECK(data.y[0] == 0);
  CHECK(scale.try_launch(tensors));
  CHECK(data.y[0] == 2);
}

TEST_CASE("tuning is remembered, by this runtime and the next") {
  const Fixture fixture;
  Data data;
  {
    cudadent::Runtime runtime(fixture.options());
    const auto scale = runtime.op("scale");
    CHECK(!runtime.winner("scale", four));
    const std::array<Tensor, 2> tensors{data.in, data.out};
    CHECK(scale.prepare(tensors).winner.provenance == Provenance::defaulted);
    const auto result = runtime.tune("scale", four);
    CHECK(result.trials.size() == 2);
    CHECK(result.candidates == 2);
    // The operator in hand launches the winner from now on.
    CHECK(scale.prepare(tensors).winner.provenance == Provenance::cached);
    CHECK(scale.prepare(tensors).winner.configuration == result.winner.configuration);
  }
  cudadent::Runtime runtime(fixture.options(OnMiss::fail));
  CHECK(runtime.winner("scale", four)->provenance == Provenance::cached);
  runtime.op("scale")({data.in, data.out});
  CHECK(data.y == std::array<float, 4>{2, 4, 6, 8});
}

TEST_CASE("the first launch of a problem tunes it, if that is the policy") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options(OnMiss::tune));
  Data data;
  runtime.op("scale")({data.in, data.out});
  CHECK(data.y == std::array<float, 4>{2, 4, 6, 8});
  CHECK(runtime.winner("scale", four));
}

TEST_CASE("many threads share a runtime") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options());
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&] {
        const auto scale = runtime.op("scale");
        for (int i = 0; i < 20; ++i) {
          Data data;
          scale({data.in, data.out});
          if (data.y != std::array<float, 4>{2, 4, 6, 8}) ++wrong;
        }
      });
  }
  CHECK(wrong == 0);
}

// As four is, of another bucket.
cudadent::Values of_size(std::int64_t n) { return {{"n", n}, {"dtype", "f32"}}; }

TEST_CASE("while one thread tunes, another launches what is known and prepares what is cached") {
  const Fixture fixture;
  const auto options = fixture.options(OnMiss::tune);
  { cudadent::Runtime(options).tune("scale", of_size(3)); }
  cudadent::Runtime runtime(options);
  const auto scale = runtime.op("scale");
  Data data;
  scale({data.in, data.out});
  std::atomic<bool> begun{false}, enough{false};
  cudadent::TuneOptions slow = options.tuning;
  slow.on_progress = [&](const cudadent::TuneProgress&) {
    begun = true;
    while (!enough) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  std::jthread tuner([&] { runtime.tune("scale", of_size(2), slow); });
  REQUIRE(eventually([&] { return begun.load(); }));
  scale({data.in, data.out});
  const std::array<Tensor, 2> three{Tensor(data.x.data(), DataType::f32, {3}),
                                    Tensor(data.y.data(), DataType::f32, {3})};
  CHECK(scale.prepare(three).winner.provenance == Provenance::cached);
  CHECK(!enough);
  enough = true;
}

TEST_CASE("in the child of a fork everything works, whatever threads did as it came") {
  const Fixture fixture;
  auto options = fixture.options(OnMiss::tune);
  options.tuning.isolation = cudadent::Isolation::in_process;
  auto runtime = std::make_unique<cudadent::Runtime>(options);
  const auto scale = runtime->op("scale");
  Data data;
  scale({data.in, data.out});
  std::atomic<bool> begun{false}, end{false};
  cudadent::TuneOptions slow = options.tuning;
  slow.on_progress = [&](const cudadent::TuneProgress&) {
    begun = true;
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  std::jthread tuner([&] { runtime->tune("scale", of_size(2), slow); });
  std::jthread launcher([&] {
    Data own;
    while (!end) scale({own.in, own.out});
  });
  REQUIRE(eventually([&] { return begun.load(); }));
  CHECK(wait_for(start_child([&] {
          Data own;
          scale({own.in, own.out});
          if (own.y != std::array<float, 4>{2, 4, 6, 8}) return false;
          runtime->op("scale", {{"sign", "flip"}})({own.in, own.out});  // new: tuned here
          if (own.y != std::array<float, 4>{-2, -4, -6, -8}) return false;
          // What a thread of the parent's is tuning, and is to go on tuning.
          if (runtime->tune("scale", of_size(2)).trials.empty()) return false;
          runtime.reset();
          return true;
        })) == 0);
  end = true;
  launcher.join();
  tuner.join();
  CHECK(runtime->winner("scale", of_size(2)));
}

TEST_CASE("errors have codes") {
  const Fixture fixture;
  cudadent::Runtime runtime(fixture.options(OnMiss::fail));
  Data data;
  constexpr auto invalid = ErrorCode::invalid_argument;
  CHECK(fails(invalid, {"no operator \"scales\"", "scale"}, [&] { runtime.op("scales"); }));
  CHECK(fails(invalid, {"sign=up"}, [&] { runtime.op("scale", {{"sign", "up"}}); }));
  CHECK(fails(invalid, {"unknown name \"m\""},
              [&] { runtime.tune("scale", {{"m", std::int64_t{1}}}); }));
  CHECK(fails(invalid, {"y is missing"}, [&] { runtime.op("scale")({data.in}); }));
  CHECK(fails(ErrorCode::not_tuned, {"scale n=4"},
              [&] { runtime.op("scale")({data.in, data.out}); }));
  auto options = fixture.options();
  options.device = "tpu";
  CHECK(fails(invalid, {"\"tpu\"", "host"}, [&] { cudadent::Runtime{options}; }));
  options.device = "cuda:1000000";
  CHECK(fails(ErrorCode::device_unavailable, {}, [&] { cudadent::Runtime{options}; }));
}

TEST_CASE("the library has a version") { CHECK(cudadent::version() == CUDADENT_VERSION); }

}  // namespace
