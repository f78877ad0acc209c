// A host operator y = 2x with a kernel for every way to take a process down, and a worker to run it in.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "runtime/backends/worker/worker_backend.h"
#include "tests/support/twice.h"

namespace cudadent::tests {

inline constexpr const char* fates_template = R"manifest({
  "template": "fates", "backend": "host",
  "compile_time": ["dtype"],
  "parameters": { "FATE": ["well", "hang", "segfault", "abort", "exit", "chatty", "throws", "slow",
                           "greedy", "broken", "killed"] },
  "launches": [ { "entry": "twice", "grid": [1], "args": ["x", "y", "n"] } ] })manifest";

inline constexpr const char* fates_source = R"(
extern "C" void abort();
extern "C" void _exit(int);
extern "C" long write(int, const void*, unsigned long);
extern "C" int usleep(unsigned);
extern "C" void* malloc(unsigned long);
extern "C" int kill(int, int);
extern "C" int getpid();
static_assert(FATE != FATE_kind::broken, "this one does not compile");
void twice(const Block&, const dtype* x, dtype* y, int n) {
  for (int i = 0; i < n; ++i) y[i] = 2 * x[i];
  volatile bool forever = FATE == FATE_kind::hang;
  while (forever) {}
  if (FATE == FATE_kind::segfault) *reinterpret_cast<volatile int*>(16) = 1;
  if (FATE == FATE_kind::abort) { write(2, "that is enough\n", 15); abort(); }
  if (FATE == FATE_kind::exit) _exit(3);
  if (FATE == FATE_kind::chatty) for (int i = 0; i < 20000; ++i) write(2, "says a lot\n", 11);
  if (FATE == FATE_kind::throws) throw 7;
  if (FATE == FATE_kind::killed) kill(getpid(), 9);  // as somebody else, or the system, might do
  if (FATE == FATE_kind::slow) usleep(300000);
  if (FATE == FATE_kind::greedy) for (;;) {
    char* memory = static_cast<char*>(malloc(1ul << 40));
    if (memory == nullptr) abort();
    *static_cast<volatile char*>(memory) = 1;
  }
}
)";

// Beside the tests, or where CUDADENT_WORKER says: a program of tests may have been moved away from it. Empty where
// there is none.
inline std::filesystem::path worker_program() {
  Environment environment;
  environment.worker = Environment::read().worker;
  if (environment.worker == "none") environment.worker.clear();
  return find_worker_program(environment);
}

struct Fates {
  Folder folder;
  Environment environment = host_environment();
  std::shared_ptr<const OperatorEntry> entry;

  Fates() {
    folder.write("twice/op.json", twice_manifest);
    folder.write("twice/fates.json", fates_template);
    folder.write("twice/fates.cpp", fates_source);
    entry = TemplateLibrary({folder.path()}).find("twice");
  }
  [[nodiscard]] WorkerOptions options() const { return {.program = worker_program()}; }
  [[nodiscard]] std::unique_ptr<Backend> worker() const {
    return make_worker_backend(environment, options());
  }
  [[nodiscard]] Specialization specialization(const Backend& backend, const std::string& fate,
                                              std::int64_t n = 100) const {
    return specialize(entry->templates[0], make_problem(entry->manifest, twice_problem(n)),
                      {{"FATE", fate}}, backend.device());
  }
};

// What running one candidate takes: its executable and its tensors.
class Candidate {
 public:
  Candidate(Backend& backend, const Specialization& specialization, std::size_t n = 100)
      : backend_(backend),
        x_(backend.allocate(n * sizeof(float))),
        y_(backend.allocate(n * sizeof(float))),
        executable_(
            backend.prepare(backend.load(backend.compile(specialization)), specialization.plan)),
        host_(n) {
    for (std::size_t i = 0; i < n; ++i) host_[i] = static_cast<float>(i);
    backend.copy_to_device(x_.data(), host_.data(), n * sizeof(float));
    backend.fill(y_.data(), std::byte{0xFF}, n * sizeof(float));
  }
  void launch() {
    executable_->launch({tensors(), {}, nullptr});
    backend_.synchronize();
  }
  std::vector<double> time(int count) {
    return backend_.time(*executable_, {tensors(), {}, nullptr}, count);
  }
  // y is what it should be.
  bool is_right() {
    std::vector<float> y(host_.size());
    backend_.copy_to_host(y.data(), y_.data(), y.size() * sizeof(float));
    for (std::size_t i = 0; i < y.size(); ++i)
      if (y[i] != 2 * host_[i]) return false;
    return true;
  }

 private:
  std::span<void* const> tensors() {
    pointers_ = {x_.data(), y_.data()};
    return pointers_;
  }

  Backend& backend_;
  Buffer x_, y_;
  std::unique_ptr<const Executable> executable_;
  std::vector<float> host_;
  std::array<void*, 2> pointers_{};
};

}  // namespace cudadent::tests
