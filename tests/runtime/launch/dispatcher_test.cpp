#include "runtime/launch/dispatcher.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/operators/specialization.h"
#include "tests/support/allocations.h"
#include "tests/support/errors.h"
#include "tests/support/twice.h"

namespace cudadent {
namespace {

using namespace tests;

// An operator with an optional input and a scalar; its template has nothing to compile or run here.
constexpr const char* manifest = R"manifest({
  "op": "add",
  "dtypes": { "dtype": {"values": ["f32", "f64"]} },
  "options": { "mode": ["plain", "loud"] },
  "tensors": {
    "x": { "shape": ["m", "n"], "dtype": "dtype" },
    "bias": { "shape": ["n"], "dtype": "dtype", "optional": true },
    "y": { "shape": ["m", "n"], "dtype": "dtype", "role": "output" } },
  "scalars": { "alpha": {"default": 1.5} } })manifest";

struct Seen {
  std::atomic<int> launches{0}, compiles{0}, choices{0};
  bool takes_plans = false;    // executables launch with other numbers than they were prepared for
  std::atomic<int> others{0};  // launches in which they did
  std::int64_t first_number = 0;  // of the last of them, the argument that is a number
  std::vector<void*> tensors;     // of the last launch
  double alpha = 0;
  bool keep = true;  // the two above; not from several threads
};

class FakeExecutable : public Executable {
 public:
  explicit FakeExecutable(Seen& seen) : seen_(seen) {}
  void launch(const LaunchArguments& arguments) const override {
    ++seen_.launches;
    if (!seen_.keep) return;
    for (std::size_t i = 0; i < 3; ++i) seen_.tensors[i] = arguments.tensors[i];
    seen_.alpha = arguments.scalars[0];
  }
  bool launch_with(const LaunchPlan& plan, const LaunchArguments& arguments) const override {
    if (!seen_.takes_plans) return false;
    ++seen_.others;
    launch(arguments);
    if (!seen_.keep) return true;
    for (const auto& argument : plan.launches.at(0).arguments)
      if (argument.kind == Argument::Kind::i32) seen_.first_number = argument.integer;
    return true;
  }

 private:
  Seen& seen_;
};

class FakeModule : public Module {};

class FakeBackend : public Backend {
 public:
  explicit FakeBackend(Seen& seen) : seen_(seen) {
    device_.backend = "host";
    device_.name = "a fake device";
    device_.architecture = "fake";
  }
  bool is_capturing = false;

  [[nodiscard]] const Device& device() const noexcept override { return device_; }
  std::string compiler() override { return "none"; }
  Binary compile(const Specialization& specialization) override {
    ++seen_.compiles;
    Binary binary;
    binary.specialization_hash = specialization.hash;
    return binary;
  }
  std::shared_ptr<const Module> load(const Binary&) override {
    return std::make_shared<FakeModule>();
  }
  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module>,
                                            const LaunchPlan&) override {
    return std::make_unique<FakeExecutable>(seen_);
  }
  Buffer allocate(std::size_t) override { return {}; }
  void copy_to_device(void*, const void*, std::size_t) override {}
  void copy_to_host(void*, const void*, std::size_t) override {}
  void fill(void*, std::byte, std::size_t) override {}
  void synchronize() override {}
  bool capturing(Stream) override { return is_capturing; }
  [[nodiscard]] std::string measurement() const override { return "none"; }
  std::vector<double> time(const Executable&, const LaunchArguments&, int) override { return {}; }

 private:
  Seen& seen_;
  Device device_;
};

class FakeSource : public ConfigurationSource {
 public:
  explicit FakeSource(Seen& seen) : seen_(seen) {}
  std::optional<Error> error;
  const Device* device = nullptr;                 // that templates must fit, if they need
  std::function<void(const Problem&)> meanwhile;  // what happens while it makes up its mind
  Choice choose(const OperatorEntry& op, const Problem& problem) override {
    ++seen_.choices;
    if (meanwhile) meanwhile(problem);
    if (error) throw *error;
    const auto fits = [&](const auto& kernel) {
      return device == nullptr || why_unfit(*kernel, problem, *device).empty();
    };
    const auto kernel = std::find_if(op.templates.begin(), op.templates.end(), fits);
    return {*kernel, {}, 1e-6, Provenance::tuned};
  }

 private:
  Seen& seen_;
};

class FakeStore : public BinaryStore {
 public:
  std::optional<Binary> find_binary(const std::string& hash) override {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(hash);
    return found == kept_.end() ? std::nullopt : std::optional(found->second);
  }
  void put_binary(const Binary& binary) override {
    const std::lock_guard lock(mutex_);
    kept_[binary.specialization_hash] = binary;
  }

 private:
  std::mutex mutex_;  // misses of several problems come at once
  std::map<std::string, Binary> kept_;
};

constexpr const char* strided_manifest = R"manifest({
  "op": "add",
  "dtypes": { "dtype": {"values": ["f32", "f64"]} },
  "options": { "mode": ["plain", "loud"] },
  "tensors": {
    "x": { "shape": ["batch?", "m", "n"], "strides": ["x_batch", "x_row", 1], "dtype": "dtype" },
    "bias": { "shape": ["n"], "dtype": "dtype", "optional": true, "any_alignment": true },
    "y": { "shape": ["batch?", "m", "n"], "strides": ["y_batch", "y_row", 1], "dtype": "dtype",
           "role": "output" } },
  "scalars": { "alpha": {"default": 1.5} } })manifest";

struct Fixture {
  Folder folder;
  const char* text = manifest;
  Seen seen;
  FakeBackend backend{seen};
  FakeSource source{seen};
  FakeStore store;
  TemplateLibrary library;
  std::atomic<bool> cancelled{false};
  Dispatcher dispatcher;

  // `add_templates` may write others into the folder, before it is read.
  explicit Fixture(
      const char* operator_text = manifest,
      void (*add_templates)(const Folder&) = [](const Folder&) {})
      : text(operator_text),
        library(folders(add_templates)),
        dispatcher(backend, library, source, store, [this] { return cancelled.load(); }) {
    seen.tensors.resize(3);
  }
  std::vector<std::filesystem::path> folders(void (*add_templates)(const Folder&)) const {
    folder.write("add/op.json", text);
    folder.write("add/plain.json", R"({ "template": "plain", "backend": "host",
        "launches": [{ "entry": "add", "grid": [1], "args": ["x", "bias", "y", "alpha"] }] })");
    folder.write("add/plain.cpp", "");
    add_templates(folder);
    return {folder.path()};
  }
  void launch(const std::vector<Tensor>& tensors, const Values& options = {}) {
    dispatcher.launch(*dispatcher.bind("add", options), tensors, nullptr, {});
  }
  bool refuses(std::initializer_list<std::string_view> parts, const std::vector<Tensor>& tensors) {
    return fails(ErrorCode::invalid_argument, parts, [&] { launch(tensors); });
  }
};

alignas(16) std::array<double, 4096> memory{};

Tensor tensor(std::initializer_list<std::int64_t> shape, DataType dtype = DataType::f32) {
  return {memory.data(), dtype, shape};
}
Tensor output(std::initializer_list<std::int64_t> shape, DataType dtype = DataType::f32) {
  return {memory.data() + memory.size() / 2, dtype, shape};
}
std::vector<Tensor> plain(std::int64_t m = 4, std::int64_t n = 8) {
  return {tensor({m, n}), Tensor(), output({m, n})};
}

TEST_CASE("a problem is resolved once, then launched from the table") {
  Fixture fixture;
  for (int i = 0; i < 5; ++i) fixture.launch(plain());
  CHECK(fixture.seen.choices == 1);
  CHECK(fixture.seen.compiles == 1);
  CHECK(fixture.seen.launches == 5);
  // Other memory, same problem.
  auto moved = plain();
  moved[2].data = memory.data() + 1024;
  fixture.launch(moved);
  CHECK(fixture.seen.choices == 1);
  CHECK(fixture.seen.tensors == std::vector<void*>{moved[0].data, nullptr, moved[2].data});
}

TEST_CASE("optional tensors right before the outputs that end the list need not be given") {
  Fixture fixture;
  const auto all = plain();
  for (int i = 0; i < 2; ++i) fixture.launch({all[0], all[2]});
  CHECK(fixture.seen.tensors == std::vector<void*>{all[0].data, nullptr, all[2].data});
  CHECK(fixture.seen.choices == 1);
  auto elsewhere = all[2];
  elsewhere.device = 1;
  CHECK(fixture.refuses({"add: y is in cuda:1"}, {all[0], elsewhere}));
  CHECK(fixture.refuses({"y is missing"}, {all[0]}));
}

TEST_CASE("what tells problems apart") {
  Fixture fixture;
  fixture.launch(plain());
  int expected = 1;
  const auto is_new = [&](const std::vector<Tensor>& tensors, const Values& options = {}) {
    fixture.launch(tensors, options);
    fixture.launch(tensors, options);
    return fixture.seen.choices == ++expected;
  };
  CHECK(is_new(plain(8, 4)));
  CHECK(is_new({tensor({4, 8}, DataType::f64), Tensor(), output({4, 8}, DataType::f64)}));
  CHECK(is_new({tensor({4, 8}), tensor({8}), output({4, 8})}));
  auto unaligned = plain();
  unaligned[0].data = reinterpret_cast<float*>(memory.data()) + 1;
  CHECK(is_new(unaligned));
  CHECK(is_new(plain(), {{"mode", std::string("loud")}}));
  fixture.launch(plain());
  CHECK(fixture.seen.choices == expected);
}

TEST_CASE("strides tell problems apart where an operator has them") {
  Fixture fixture(strided_manifest);
  fixture.launch(plain());
  int expected = 1;
  const auto is_new = [&](const std::vector<Tensor>& tensors) {
    fixture.launch(tensors);
    fixture.launch(tensors);
    return fixture.seen.choices == ++expected;
  };
  const auto with = [](std::initializer_list<std::int64_t> shape,
                       std::initializer_list<std::int64_t> x,
                       std::initializer_list<std::int64_t> y) {
    std::vector<Tensor> tensors{tensor(shape), Tensor(), output(shape)};
    std::copy(x.begin(), x.end(), tensors[0].strides.begin());
    std::copy(y.begin(), y.end(), tensors[2].strides.begin());
    return tensors;
  };
  CHECK(is_new(with({4, 8}, {12, 1}, {8, 1})));
  CHECK(is_new(with({4, 8}, {8, 1}, {12, 1})));
  CHECK(is_new(with({4, 8}, {16, 1}, {8, 1})));
  CHECK(is_new(with({2, 4, 8}, {32, 8, 1}, {32, 8, 1})));
  CHECK(is_new(with({2, 4, 8}, {0, 8, 1}, {32, 8, 1})));
  CHECK(is_new(with({2, 4, 8}, {0, 8, 1}, {40, 8, 1})));
  // A tensor without the leading dimension is another than one with a stride of 0.
  CHECK(is_new({tensor({4, 8}), Tensor(), output({2, 4, 8})}));
  // What is never stepped over tells nothing apart.
  fixture.launch(with({1, 4, 8}, {32, 8, 1}, {32, 8, 1}));
  fixture.launch(with({1, 4, 8}, {5, 8, 1}, {7, 8, 1}));
  CHECK(fixture.seen.choices == ++expected);
  fixture.launch(plain());
  CHECK(fixture.seen.choices == expected);
  // Only where the manifest says so.
  auto bias = plain();
  bias[1] = tensor({8});
  bias[1].strides = {2};
  CHECK(fixture.refuses({"bias is not contiguous"}, bias));
  CHECK(fixture.refuses({"y has shape", "share memory"}, with({4, 8}, {8, 1}, {7, 1})));
}

TEST_CASE("where a tensor of any alignment starts tells nothing apart") {
  Fixture fixture(strided_manifest);
  auto tensors = plain();
  tensors[1] = tensor({8});
  fixture.launch(tensors);
  tensors[1].data = memory.data() + 1;
  fixture.launch(tensors);
  CHECK(fixture.seen.choices == 1);
  tensors[0].data = memory.data() + 1;
  fixture.launch(tensors);
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE("thousands of problems are all found again") {
  Fixture fixture;
  const auto op = fixture.dispatcher.bind("add", {});
  for (int round = 0; round < 2; ++round)
    for (std::int64_t m = 1; m <= 2000; ++m)
      fixture.dispatcher.launch(*op, plain(m, 1), nullptr, {});
  CHECK(fixture.seen.choices == 2000);
  CHECK(fixture.seen.launches == 4000);
}

TEST_CASE("the same operator and options have the same state") {
  Fixture fixture;
  const auto state = fixture.dispatcher.bind("add", {});
  CHECK(state == fixture.dispatcher.bind("add", {{"mode", std::string("plain")}}));
  CHECK(state != fixture.dispatcher.bind("add", {{"mode", std::string("loud")}}));
  CHECK(state->tensor_names == std::vector<std::string>{"x", "bias", "y"});
  CHECK(fails(ErrorCode::invalid_argument, {"no operator \"sub\""},
              [&] { fixture.dispatcher.bind("sub", {}); }));
  CHECK(fails(ErrorCode::invalid_argument, {"mode=quiet"},
              [&] { fixture.dispatcher.bind("add", {{"mode", std::string("quiet")}}); }));
}

TEST_CASE("trying to launch does nothing for what is not known") {
  Fixture fixture;
  const auto op = fixture.dispatcher.bind("add", {});
  CHECK(!fixture.dispatcher.try_launch(*op, plain(), nullptr, {}));
  CHECK(fixture.seen.choices == 0);
  const auto explanation = fixture.dispatcher.prepare(*op, plain());
  CHECK(explanation.problem == "add m=4 n=8 dtype=f32");
  CHECK(explanation.winner.kernel_template == "plain");
  CHECK(explanation.winner.provenance == Provenance::tuned);
  CHECK(fixture.seen.launches == 0);
  CHECK(fixture.dispatcher.try_launch(*op, plain(), nullptr, {}));
  CHECK(fixture.seen.launches == 1);
  auto strided = plain();
  strided[0].strides = {100, 1};
  CHECK(!fixture.dispatcher.try_launch(*op, strided, nullptr, {}));
}

TEST_CASE("scalars") {
  Fixture fixture;
  const auto op = fixture.dispatcher.bind("add", {});
  fixture.dispatcher.launch(*op, plain(), nullptr, {});
  CHECK(fixture.seen.alpha == 1.5);
  const std::array<double, 2> given{2.5, 3.5};
  fixture.dispatcher.launch(*op, plain(), nullptr, std::span(given).first(1));
  CHECK(fixture.seen.alpha == 2.5);
  CHECK(fixture.seen.choices == 1);
  CHECK(fails(ErrorCode::invalid_argument, {"add", "2 scalars given, expected 1"},
              [&] { fixture.dispatcher.launch(*op, plain(), nullptr, given); }));
}

TEST_CASE("scalars that are not given are those bound, or the default") {
  Fixture fixture;
  const auto op = fixture.dispatcher.bind("add", {{"alpha", 7.0}});
  const std::array<double, 1> nothing{NAN};
  fixture.dispatcher.launch(*op, plain(), nullptr, {});
  CHECK(fixture.seen.alpha == 7);
  fixture.dispatcher.launch(*op, plain(), nullptr, nothing);
  CHECK(fixture.seen.alpha == 7);
  fixture.dispatcher.launch(*fixture.dispatcher.bind("add", {}), plain(), nullptr, nothing);
  CHECK(fixture.seen.alpha == 1.5);
}

TEST_CASE("a scalar of the problem tells launches apart") {
  std::string text = manifest;
  text.replace(text.find("1.5"), 3, R"(1.5, "in_problem": true)");
  Fixture fixture(text.c_str());
  const auto op = fixture.dispatcher.bind("add", {});
  const std::array<double, 1> two{2}, three{3};
  fixture.dispatcher.launch(*op, plain(), nullptr, two);
  CHECK(fixture.seen.choices == 1);
  CHECK(fixture.dispatcher.try_launch(*op, plain(), nullptr, two));
  CHECK(!fixture.dispatcher.try_launch(*op, plain(), nullptr, three));
  CHECK(!fixture.dispatcher.try_launch(*op, plain(), nullptr, {}));
  CHECK(fixture.dispatcher.prepare(*op, plain(), three).problem.ends_with("alpha=3"));
  fixture.dispatcher.launch(*op, plain(), nullptr, three);
  CHECK(fixture.seen.alpha == 3);
  CHECK(fixture.seen.choices == 2);
  CHECK(fixture.seen.compiles == 1);  // one binary for all

  // Saying the default is saying nothing.
  const std::array<double, 1> nothing{NAN}, otherwise{1.5};
  fixture.dispatcher.launch(*op, plain(), nullptr, {});
  CHECK(fixture.dispatcher.try_launch(*op, plain(), nullptr, nothing));
  CHECK(fixture.dispatcher.try_launch(*op, plain(), nullptr, otherwise));
  const std::array<double, 2> too_many{2, 3};
  CHECK(fails(ErrorCode::invalid_argument, {"add", "2 scalars given, expected 1"},
              [&] { fixture.dispatcher.launch(*op, plain(), nullptr, too_many); }));
}

TEST_CASE("an output over an input is refused, whether the problem is known or not") {
  Fixture fixture;
  const auto op = fixture.dispatcher.bind("add", {});
  auto over = plain();
  over[2].data = over[0].data;
  for (int i = 0; i < 2; ++i) {
    CHECK(fixture.refuses({"add: y shares memory with x"}, over));
    CHECK(!fixture.dispatcher.try_launch(*op, over, nullptr, {}));
    CHECK(fails(ErrorCode::invalid_argument, {"y shares memory with x"},
                [&] { fixture.dispatcher.prepare(*op, over); }));
    CHECK(fixture.seen.launches == i);
    fixture.launch(plain());
  }
  fixture.backend.is_capturing = true;
  CHECK(fixture.refuses({"add: y shares memory with x"}, over));
}

TEST_CASE("a number beyond its limits is refused, whether the problem is known or not") {
  std::string text = manifest;
  text.replace(text.find("1.5"), 3, R"(1.5, "least": 0)");
  Fixture fixture(text.c_str());
  const auto op = fixture.dispatcher.bind("add", {});
  for (int i = 0; i < 2; ++i) {
    for (const double alpha : {-0.5, double{INFINITY}, 1e200}) {
      const std::array<double, 1> given{alpha};
      CHECK(fails(ErrorCode::invalid_argument, {"add: alpha="},
                  [&] { fixture.dispatcher.launch(*op, plain(), nullptr, given); }));
      CHECK(!fixture.dispatcher.try_launch(*op, plain(), nullptr, given));
    }
    CHECK(fixture.seen.launches == i);
    fixture.launch(plain());
  }
  for (const double alpha : {-0.5, double{NAN}, double{INFINITY}})
    CHECK(fails(ErrorCode::invalid_argument, {"add: alpha="},
                [&] { fixture.dispatcher.bind("add", {{"alpha", alpha}}); }));
}

TEST_CASE("tensors that cannot be launched") {
  Fixture fixture;
  fixture.launch(plain());
  auto given = plain();
  given[0].strides = {16, 1};
  CHECK(fixture.refuses({"x is not contiguous"}, given));
  given = plain();
  given[2].device = 1;
  CHECK(fixture.refuses({"add: y is in cuda:1", "host memory", "a fake device"}, given));
  given = plain();
  given[1] = tensor({7});
  CHECK(fixture.refuses({"bias has shape [7]"}, given));
  CHECK(fixture.refuses({"x is missing"}, {}));
  CHECK(fixture.refuses({"4 tensors given"}, {Tensor(), Tensor(), Tensor(), Tensor()}));
  CHECK(fixture.refuses({"20 tensors given"}, std::vector<Tensor>(20, tensor({1}))));
  CHECK(fixture.seen.launches == 1);
}

TEST_CASE("a failed miss leaves nothing behind") {
  Fixture fixture;
  fixture.source.error = Error(ErrorCode::not_tuned, "not known");
  CHECK(fails(ErrorCode::not_tuned, {"not known"}, [&] { fixture.launch(plain()); }));
  fixture.source.error.reset();
  fixture.launch(plain());
  CHECK(fixture.seen.choices == 2);
  CHECK(fixture.seen.launches == 1);
}

TEST_CASE("a stream that is captured launches what is known and nothing else") {
  Fixture fixture;
  fixture.launch(plain());
  fixture.backend.is_capturing = true;
  fixture.launch(plain());
  CHECK(fixture.seen.launches == 2);
  CHECK(fails(ErrorCode::not_tuned, {"add", "captured", "prepare()"},
              [&] { fixture.launch(plain(5, 5)); }));
  CHECK(fixture.seen.choices == 1);
}

TEST_CASE("what was forgotten is asked for again, and compiled only once") {
  Fixture fixture;
  fixture.launch(plain());
  fixture.dispatcher.forget("another");
  fixture.launch(plain());
  CHECK(fixture.seen.choices == 1);
  fixture.dispatcher.forget("add");
  fixture.launch(plain());
  CHECK(fixture.seen.choices == 2);
  CHECK(fixture.seen.compiles == 1);  // the store had it
}

TEST_CASE("problems without elements ask nobody and launch nothing") {
  Fixture fixture;
  fixture.launch(plain(0, 8));
  CHECK(fixture.seen.choices == 0);
  CHECK(fixture.seen.launches == 0);
  CHECK(fixture.dispatcher.prepare(*fixture.dispatcher.bind("add", {}), plain(0, 8))
            .winner.kernel_template.empty());
}

TEST_CASE("many threads on known and new problems, while others forget them") {
  Fixture fixture;
  fixture.seen.keep = false;
  const auto op = fixture.dispatcher.bind("add", {});
  constexpr int threads = 4, problems = 100;
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&] {
        for (std::int64_t m = 1; m <= problems; ++m)
          fixture.dispatcher.launch(*op, plain(m, 2), nullptr, {});
      });
  }
  CHECK(fixture.seen.choices == problems);  // two threads with one new problem resolve it once
  CHECK(fixture.seen.launches == threads * problems);
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&, t] {
        for (std::int64_t m = 1; m <= problems; ++m) {
          if (t == 0 && m % 10 == 0) fixture.dispatcher.forget("add");
          fixture.dispatcher.launch(*fixture.dispatcher.bind("add", {}), plain(m, 2), nullptr, {});
        }
      });
  }
  CHECK(fixture.seen.launches == 2 * threads * problems);
}

// A fixture in which a thread launches a problem of 1 row that takes until end() to choose for.
struct LongMiss : Fixture {
  std::atomic<bool> begun{false}, over{false};
  std::jthread thread;

  LongMiss() {
    seen.keep = false;
    source.meanwhile = [this](const Problem& problem) {
      if (problem.values.at("m") != Value(std::int64_t{1}) || begun.exchange(true)) return;
      while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    thread = std::jthread([this] { (void)error_of([&] { launch(plain(1, 2)); }); });
    while (!begun) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~LongMiss() { over = true; }
  LongMiss(const LongMiss&) = delete;
  LongMiss& operator=(const LongMiss&) = delete;
  void end() {
    over = true;
    thread.join();
  }
};

TEST_CASE("a miss waits for no other problem's") {
  LongMiss fixture;
  fixture.launch(plain(2, 2));
  CHECK(fixture.seen.launches == 1);
  CHECK(!fixture.over);
  fixture.end();
  CHECK(fixture.seen.launches == 2);
}

TEST_CASE("a launch that waits for another thread's miss hears a cancellation, and works later") {
  LongMiss fixture;
  fixture.cancelled = true;
  CHECK(fails(ErrorCode::cancelled, {"add m=1", "cancelled", "another thread"},
              [&] { fixture.launch(plain(1, 2)); }));
  fixture.cancelled = false;
  fixture.end();
  fixture.launch(plain(1, 2));
  CHECK(fixture.seen.choices == 1);
}

TEST_CASE("when a miss fails, the next who waits for it tries") {
  LongMiss fixture;
  fixture.source.error = Error(ErrorCode::compile_failed, "no");
  std::jthread second([&] {
    CHECK(fails(ErrorCode::compile_failed, {"no"}, [&] { fixture.launch(plain(1, 2)); }));
  });
  fixture.end();
  second.join();
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE("forgetting waits for no miss, and one under way does not outlive it") {
  LongMiss fixture;
  fixture.dispatcher.forget("add");
  CHECK(!fixture.over);
  fixture.end();
  CHECK(fixture.seen.launches == 1);  // of what it found
  fixture.launch(plain(1, 2));
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE("a launch from within its own miss goes through and hides nothing") {
  Fixture fixture;
  bool within = false;
  fixture.source.meanwhile = [&](const Problem&) {
    if (!std::exchange(within, true)) fixture.launch(plain());
  };
  fixture.launch(plain());
  CHECK(fixture.seen.launches == 2);
  CHECK(fixture.seen.choices == 2);
  fixture.launch(plain());
  CHECK(fixture.seen.choices == 2);
}

// ------------------------------------------------------------------------------- buckets

// A call of m rows shares its winner with all up to the next power of two. The template "plain" is not for all.
struct BucketFixture : Fixture {
  BucketFixture() : Fixture(bucket_manifest().c_str(), write_templates) {
    seen.takes_plans = true;
    source.device = &backend.device();
    op = dispatcher.bind("add", {});
  }
  static void write_templates(const Folder& folder) {
    folder.write("add/plain.json", R"json({ "template": "plain", "backend": "host",
        "requires": ["m <= 100 or m > 128"],
        "launches": [{ "entry": "add", "grid": ["m"],
                       "args": ["x", "bias", "y", "alpha", "m"] }] })json");
    folder.write("add/rest.json", R"json({ "template": "rest", "backend": "host",
        "launches": [{ "entry": "add", "grid": ["m"],
                       "args": ["x", "bias", "y", "alpha", "2*m"] }] })json");
    folder.write("add/rest.cpp", "");
  }
  static const std::string& bucket_manifest() {
    static const std::string text = [] {
      std::string with_key = manifest;
      with_key.insert(with_key.rfind('}'), R"json(, "tuning_key": { "m": "pow2_ceil(m)" })json");
      return with_key;
    }();
    return text;
  }
  std::shared_ptr<const OperatorState> op;
  void launch_rows(std::int64_t m) { dispatcher.launch(*op, plain(m, 2), nullptr, {}); }
};

TEST_CASE("of a bucket one member is resolved, the others launch its kernels with their numbers") {
  BucketFixture fixture;
  for (std::int64_t m = 300; m <= 400; ++m) fixture.launch_rows(m);
  CHECK(fixture.seen.choices == 1);
  CHECK(fixture.seen.compiles == 1);
  CHECK(fixture.seen.launches == 101);
  CHECK(fixture.seen.others == 100);
  CHECK(fixture.seen.first_number == 400);
  CHECK(fixture.seen.alpha == 1.5);
  fixture.launch_rows(513);
  CHECK(fixture.seen.choices == 2);
  // Trying is launching too.
  CHECK(fixture.dispatcher.try_launch(*fixture.op, plain(1000, 2), nullptr, {}));
  CHECK(fixture.seen.first_number == 1000);
  CHECK(!fixture.dispatcher.try_launch(*fixture.op, plain(1025, 2), nullptr, {}));
  CHECK(!fixture.dispatcher.try_launch(*fixture.op, plain(1000, 3), nullptr, {}));
  const std::array<double, 1> alpha{7};
  fixture.dispatcher.launch(*fixture.op, plain(999, 2), nullptr, alpha);
  CHECK(fixture.seen.alpha == 7);
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE(
    "members of a bucket that come again get an entry of the table, those that do not get none") {
  BucketFixture fixture;
  fixture.launch_rows(300);
  for (int i = 0; i < 5; ++i) fixture.launch_rows(301);
  CHECK(fixture.seen.others == 2);  // then it was worth an entry
  const auto explanation = fixture.dispatcher.prepare(*fixture.op, plain(302, 2));
  CHECK(explanation.problem == "add m=302 n=2 dtype=f32");
  CHECK(explanation.winner.kernel_template == "plain");
  fixture.launch_rows(302);
  CHECK(fixture.seen.others == 2);
  // Not so many: a model that decodes meets each length some times, and never again.
  fixture.launch_rows(1025);
  for (std::int64_t m = 1026; m <= 2048; ++m)
    for (int i = 0; i < 10; ++i) fixture.launch_rows(m);
  CHECK(fixture.seen.others > 9000);
  for (std::uint64_t i = 0; i < Sightings::times_later; ++i) fixture.launch_rows(2000);
  fixture.seen.others = 0;
  fixture.launch_rows(2000);
  CHECK(fixture.seen.others == 0);
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE(
    "a member that the bucket's template is not for gets another, and so does who is like it") {
  BucketFixture fixture;
  fixture.launch_rows(70);
  fixture.launch_rows(110);  // not for "plain"
  CHECK(fixture.seen.choices == 2);
  for (const std::int64_t m : {71, 72, 73}) fixture.launch_rows(m);
  CHECK(fixture.seen.first_number == 73);
  for (const std::int64_t m : {111, 128}) fixture.launch_rows(m);
  CHECK(fixture.seen.first_number == 2 * 128);
  CHECK(fixture.seen.choices == 2);
}

TEST_CASE("what is wrong with a member of a known bucket is said as of a new problem") {
  BucketFixture fixture;
  fixture.launch_rows(300);
  auto tensors = plain(301, 2);
  tensors[2] = tensor({302, 2});
  CHECK(fixture.refuses({"y has shape [302, 2]", "m = 301 from x"}, tensors));
  tensors = plain(301, 2);
  tensors[1] = tensor({3});
  CHECK(fixture.refuses({"bias has shape [3]"}, tensors));
  CHECK(fixture.seen.launches == 1);
  // No elements: pow2_ceil(0) is 1.
  fixture.launch_rows(1);
  fixture.launch_rows(0);
  CHECK(fixture.seen.launches == 2);
}

TEST_CASE(
    "an output over an input, and a number beyond its limits, are refused in a known bucket") {
  BucketFixture fixture;
  fixture.launch_rows(300);
  auto over = plain(301, 2);
  over[2].data = over[0].data;
  CHECK(fixture.refuses({"y shares memory with x"}, over));
  const std::array<double, 1> infinite{INFINITY};
  CHECK(!fixture.dispatcher.try_launch(*fixture.op, plain(301, 2), nullptr, infinite));
  CHECK(fails(ErrorCode::invalid_argument, {"alpha=inf"},
              [&] { fixture.dispatcher.launch(*fixture.op, plain(301, 2), nullptr, infinite); }));
  CHECK(fixture.seen.launches == 1);
}

TEST_CASE("a forgotten bucket is asked for again") {
  BucketFixture fixture;
  fixture.launch_rows(300);
  fixture.launch_rows(301);
  fixture.dispatcher.forget("add");
  fixture.launch_rows(302);
  CHECK(fixture.seen.choices == 2);
  fixture.launch_rows(301);
  CHECK(fixture.seen.choices == 2);
  // Also where it is forgotten while a member is resolved: what that finds may be out of date.
  fixture.source.meanwhile = [&](const Problem&) { fixture.dispatcher.forget("add"); };
  fixture.launch_rows(1025);
  fixture.source.meanwhile = nullptr;
  fixture.launch_rows(1026);
  CHECK(fixture.seen.choices == 4);
}

TEST_CASE("a stream that is captured launches members of known buckets") {
  BucketFixture fixture;
  fixture.launch_rows(300);
  fixture.backend.is_capturing = true;
  for (int i = 0; i < 3; ++i) fixture.launch_rows(301);
  CHECK(fixture.seen.launches == 4);
  CHECK(fails(ErrorCode::not_tuned, {"captured"}, [&] { fixture.launch_rows(513); }));
}

TEST_CASE("ever new members of a bucket allocate nothing") {
  if (!allocations()) {
    MESSAGE("SKIPPED: a sanitizer's build cannot count allocations");
    return;
  }
  BucketFixture fixture;
  fixture.launch_rows(1025);
  fixture.launch_rows(1026);
  auto tensors = plain(1027, 2);
  const auto before = allocations();
  for (std::int64_t m = 1027; m <= 1500; ++m) {
    tensors[0].shape[0] = tensors[2].shape[0] = m;
    fixture.dispatcher.launch(*fixture.op, tensors, nullptr, {});
  }
  CHECK(allocations() == before);
  CHECK(fixture.seen.first_number == 1500);
  CHECK(fixture.seen.choices == 1);
}

TEST_CASE("many threads on ever new members of buckets, while others forget them") {
  BucketFixture fixture;
  fixture.seen.keep = false;
  constexpr int threads = 6, problems = 400;
  {
    std::vector<std::jthread> all;
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&, t] {
        for (std::int64_t m = 1; m <= problems; ++m) {
          if (t == 0 && m % 50 == 0) fixture.dispatcher.forget("add");
          fixture.launch_rows(m);
        }
      });
  }
  CHECK(fixture.seen.launches == threads * problems);
  CHECK(fixture.seen.others > 0);
}

// ------------------------------------------------------------------------------- allocations

TEST_CASE("a hit allocates nothing") {
  if (!allocations()) {
    MESSAGE("SKIPPED: a sanitizer's build cannot count allocations");
    return;
  }
  Fixture fixture(strided_manifest);
  const auto op = fixture.dispatcher.bind("add", {});
  const auto tensors = plain();
  auto strided = plain();
  strided[0].strides = {12, 1};
  fixture.dispatcher.launch(*op, tensors, nullptr, {});
  fixture.dispatcher.launch(*op, strided, nullptr, {});
  const auto before = allocations();
  for (int i = 0; i < 10; ++i) fixture.dispatcher.launch(*op, tensors, nullptr, {});
  for (int i = 0; i < 10; ++i) fixture.dispatcher.launch(*op, strided, nullptr, {});
  CHECK(allocations() == before);
  CHECK(fixture.seen.launches == 22);
}

TEST_CASE("nor does the host device's launch of what it has launched") {
  if (!allocations()) {
    MESSAGE("SKIPPED: a sanitizer's build cannot count allocations");
    return;
  }
  const Folder folder;
  write_twice(folder, false);
  const auto entry = TemplateLibrary({folder.path()}).find("twice");
  CountingBackend backend;
  const auto specialization = specialize(
      entry->templates[0], make_problem(entry->manifest, twice_problem(8)), {}, backend.device());
  const auto executable =
      backend.prepare(backend.load(backend.compile(specialization)), specialization.plan);
  const std::array<void*, 2> tensors{memory.data(), memory.data() + 16};
  executable->launch({tensors, {}, nullptr});
  const auto before = allocations();
  executable->launch({tensors, {}, nullptr});
  CHECK(allocations() == before);
}

}  // namespace
}  // namespace cudadent
