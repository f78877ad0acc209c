#include "runtime/backends/host/backend.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/support/child.h"
#include "tests/support/errors.h"
#include "tests/support/processes.h"
#include "tests/support/twice.h"

namespace cudadent {
namespace {

using namespace tests;

// Adds a constant, so that every one is a binary of its own; counts its blocks in a zeroed workspace, sums
// them in a second launch.
constexpr const char* manifest = R"({
  "template": "add", "backend": "host",
  "parameters": { "MORE": [1, 2, 3] },
  "let": { "scratch": 64 },
  "workspace": { "counts": { "bytes": 64, "zero": true } },
  "launches": [
    { "entry": "add", "grid": [4, 2, 3], "shared_memory": "scratch",
      "args": ["x", "y", "counts", "n", { "value": 10000000000, "type": "i64" }, 0.5] },
    { "entry": "finish", "grid": [1], "args": ["y", "counts"] }] })";

constexpr const char* source = R"(
void add(const Block& block, const float* x, float* y, int* counts, int n, i64 large, float half) {
  *static_cast<int*>(block.scratch) = block.x;
  const int linear = block.x + block.grid_x * (block.y + block.grid_y * block.z);
  const int blocks = block.grid_x * block.grid_y * block.grid_z;
  const bool well = large == 10000000000 && half == 0.5f && block.worker < block.workers;
  for (int i = linear; i < n; i += blocks) y[i] = well ? x[i] + MORE : -1;
  __atomic_fetch_add(counts, 1, __ATOMIC_RELAXED);
}
void finish(const Block&, float* y, const int* counts) { y[0] = static_cast<float>(*counts); }
)";

constexpr int n = 100;

struct Fixture {
  Folder folder;
  Environment environment = host_environment();
  std::unique_ptr<Backend> backend = make_host_backend(environment);
  std::shared_ptr<const OperatorEntry> entry;
  Problem problem;

  explicit Fixture(const std::string& text = manifest, const std::string& code = source) {
    folder.write("twice/op.json", twice_manifest);
    folder.write("twice/add.json", text);
    folder.write("twice/add.cpp", code);
    entry = TemplateLibrary({folder.path()}).find("twice");
    problem = make_problem(entry->manifest, twice_problem(n));
  }

  Specialization specialization(std::int64_t more = 1) const {
    return specialize(entry->templates[0], problem, {{"MORE", more}}, backend->device());
  }
  std::unique_ptr<const Executable> executable(std::int64_t more = 1) const {
    const auto wanted = specialization(more);
    return backend->prepare(backend->load(backend->compile(wanted)), wanted.plan);
  }
};

// y for x = 0, 1, 2, …
std::array<float, n> result_of(const Executable& executable) {
  std::array<float, n> x{}, y{};
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i);
  const std::array<void*, 2> tensors{x.data(), y.data()};
  executable.launch({tensors, {}, nullptr});
  return y;
}

bool is_right(const std::array<float, n>& y, int more) {
  bool right = y[0] == 24;  // blocks counted
  for (std::size_t i = 1; i < n; ++i)
    right = right && y[i] == static_cast<float>(i) + static_cast<float>(more);
  return right;
}

TEST_CASE("the host describes itself") {
  const auto backend = make_host_backend(host_environment());
  const Device& device = backend->device();
  CHECK(device.backend == "host");
  CHECK(device.cores == 2);
  CHECK(!device.name.empty());
  CHECK(!device.architecture.empty());
  CHECK(device.simd_bytes >= 16);
  CHECK(device.l2_bytes > 0);
  CHECK(backend->lost() == Loss::none);
  CHECK(!backend->capturing(nullptr));
}

TEST_CASE("templates compile, load and launch, several at once") {
  Fixture fixture;
  const auto one = fixture.executable(1), two = fixture.executable(2);
  CHECK(is_right(result_of(*one), 1));
  CHECK(is_right(result_of(*two), 2));
  // Workspaces are zero again for every launch.
  CHECK(is_right(result_of(*one), 1));
  CHECK(fixture.backend->time(*one, {std::array<void*, 2>{}, {}, nullptr}, 0).empty());
}

TEST_CASE("an executable keeps its module; a binary outlives its backend") {
  Fixture fixture;
  const auto wanted = fixture.specialization();
  const Binary binary = fixture.backend->compile(wanted);
  CHECK(binary.specialization_hash == wanted.hash);
  CHECK(binary.compiler == fixture.backend->compiler());
  CHECK(binary.compile_seconds > 0);
  CHECK(binary.resources.size() == 2);
  const auto another = make_host_backend(fixture.environment);
  const auto executable = another->prepare(another->load(binary), wanted.plan);
  CHECK(is_right(result_of(*executable), 1));
}

TEST_CASE("one executable launches from many threads at once") {
  Fixture fixture;
  const auto executable = fixture.executable();
  std::atomic<int> wrong{0};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        for (int j = 0; j < 50; ++j)
          if (!is_right(result_of(*executable), 1)) ++wrong;
      });
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "what is prepared takes no file descriptor, and objects that come and go are told apart") {
  Fixture fixture;
  const std::array<Binary, 2> binaries{fixture.backend->compile(fixture.specialization(1)),
                                       fixture.backend->compile(fixture.specialization(2))};
  const auto before = open_files();
  std::vector<std::unique_ptr<const Executable>> kept;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t more = 1 + i % 2;
    const auto module = fixture.backend->load(binaries.at(static_cast<std::size_t>(more - 1)));
    auto executable = fixture.backend->prepare(module, fixture.specialization(more).plan);
    CHECK(is_right(result_of(*executable), static_cast<int>(more)));
    if (i % 3 == 0) kept.push_back(std::move(executable));
  }
  CHECK(open_files() == before);
  CHECK(is_right(result_of(*kept.front()), 1));
}

TEST_CASE("the child of a fork launches what was prepared, compiles, and loads") {
  Fixture fixture;
  const auto executable = fixture.executable(1);
  CHECK(is_right(result_of(*executable), 1));
  std::atomic<bool> end{false};
  std::jthread other([&] {  // so that what a launch uses is often in use when a fork copies it
    while (!end) result_of(*executable);
  });
  for (int i = 0; i < 5; ++i)
    CHECK(wait_for(start_child([&] {
            return is_right(result_of(*executable), 1) &&
                   (i > 0 || is_right(result_of(*fixture.executable(2)), 2));
          })) == 0);
  end = true;
}

TEST_CASE("a device with fewer threads than it should have says so") {
  CHECK(wait_for(start_child([] {
          Fixture fixture;
          const auto wanted = fixture.specialization();
          const Binary binary = fixture.backend->compile(wanted);
          if (!limit_threads(0)) return false;
          std::vector<std::string> log;
          const auto backend = make_host_backend(
              host_environment(),
              [&](LogLevel, std::string_view message) { log.emplace_back(message); });
          const auto executable = backend->prepare(backend->load(binary), wanted.plan);
          return is_right(result_of(*executable), 1) && is_right(result_of(*executable), 1) &&
                 log.size() == 1 && mentions(log[0], {"1 of its 2 threads", "ulimit -u"});
        })) == 0);
}

TEST_CASE("times are as many as asked, and positive") {
  Fixture fixture;
  const auto executable = fixture.executable();
  std::array<float, n> x{}, y{};
  const std::array<void*, 2> tensors{x.data(), y.data()};
  const auto seconds = fixture.backend->time(*executable, {tensors, {}, nullptr}, 3);
  REQUIRE(seconds.size() == 3);
  for (const double run : seconds) CHECK(run > 0);
}

TEST_CASE("memory") {
  const auto backend = make_host_backend(host_environment());
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1000}}) {
    const Buffer buffer = backend->allocate(bytes);
    CHECK(buffer.bytes() == bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 256 == 0);
    std::vector<std::byte> copy(bytes);
    backend->fill(buffer.data(), std::byte{7}, bytes);
    backend->copy_to_host(copy.data(), buffer.data(), bytes);
    CHECK(copy == std::vector<std::byte>(bytes, std::byte{7}));
  }
}

TEST_CASE("a template that does not compile fails with the compiler's words") {
  Fixture fixture(manifest, "void add(const Block&) { no_such_function(); }\n");
  const auto error = error_of([&] { fixture.backend->compile(fixture.specialization()); });
  REQUIRE(error);
  CHECK(error->code() == ErrorCode::compile_failed);
  CHECK(mentions(error->what(), {"twice/add MORE=1 for twice n=100"}));
  CHECK(mentions(error->detail(), {"no_such_function"}));
}

TEST_CASE("a binary that cannot be used is refused") {
  Fixture fixture;
  constexpr auto code = ErrorCode::launch_failed;
  Binary binary;
  binary.architecture = "s390x";
  CHECK(fails(code, {"s390x", fixture.backend->device().architecture},
              [&] { fixture.backend->load(binary); }));
  binary.architecture = fixture.backend->device().architecture;
  binary.image.assign(1000, std::byte{1});
  CHECK(fails(code, {"cannot load"}, [&] { fixture.backend->load(binary); }));
  auto wanted = fixture.specialization();
  const auto loaded = fixture.backend->load(fixture.backend->compile(wanted));
  wanted.plan.launches[0].entry = "subtract";
  CHECK(fails(code, {"subtract"}, [&] { fixture.backend->prepare(loaded, wanted.plan); }));
}

TEST_CASE("more scratch than the device has is refused, and so are tensor maps") {
  Fixture fixture(
      replaced(manifest, "\"scratch\": 64", "\"scratch\": \"device.max_shared_memory + 1\""));
  auto wanted = fixture.specialization();
  const auto loaded = fixture.backend->load(fixture.backend->compile(wanted));
  CHECK(fails(ErrorCode::launch_failed, {"add", "shared memory"},
              [&] { fixture.backend->prepare(loaded, wanted.plan); }));
  wanted.plan.tensor_maps.emplace_back();
  CHECK(fails(ErrorCode::invalid_manifest, {"tensor maps"},
              [&] { fixture.backend->prepare(loaded, wanted.plan); }));
}

// PATH is the process's; tests of one program run one after another.
class WithoutPath {
 public:
  WithoutPath() : path_(std::getenv("PATH")) { ::setenv("PATH", "/no/such/folder", 1); }
  ~WithoutPath() { ::setenv("PATH", path_.c_str(), 1); }
  WithoutPath(const WithoutPath&) = delete;
  WithoutPath& operator=(const WithoutPath&) = delete;

 private:
  std::string path_;
};

TEST_CASE("without a compiler everything else still works") {
  Fixture fixture;
  const auto wanted = fixture.specialization();
  const Binary binary = fixture.backend->compile(wanted);
  const WithoutPath without;
  Environment environment = fixture.environment;
  environment.host_compiler = "/no/such/compiler";
  const auto backend = make_host_backend(environment);
  CHECK(fails(ErrorCode::compiler_unavailable, {"/no/such/compiler", "CUDADENT_HOST_COMPILER"},
              [&] { backend->compiler(); }));
  CHECK(fails(ErrorCode::compiler_unavailable, {"tried c++", "CUDADENT_HOST_COMPILER"},
              [&] { make_host_backend(fixture.environment)->compile(wanted); }));
  CHECK(is_right(result_of(*backend->prepare(backend->load(binary), wanted.plan)), 1));
}

TEST_CASE("a compiler that was named is taken, or none is") {
  Fixture fixture;
  const auto compile_with = [&](const std::string& compiler) {
    Environment environment = fixture.environment;
    environment.host_compiler = compiler;
    return make_host_backend(environment)->compile(fixture.specialization());
  };
  for (const char* compiler : {"/no/such/compiler", "no-such-compiler", "/", "false", " "})
    CHECK(fails(ErrorCode::compiler_unavailable,
                {"cannot use the C++ compiler", compiler, "CUDADENT_HOST_COMPILER", "CXX"},
                [&] { compile_with(compiler); }));
  // Words before it, and blanks in a path.
  const auto script = fixture.folder.write("my compiler", "#!/bin/sh\nexec c++ \"$@\"\n");
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  CHECK(!compile_with(script.string()).image.empty());
  CHECK(!compile_with("env CUDADENT_NOTHING=1 c++").image.empty());
}

}  // namespace
}  // namespace cudadent
