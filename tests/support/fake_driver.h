// A CUDA driver made of functions, so that the CUDA backend runs and is checked without a GPU.
//
// It keeps what it is handed: memory is the host's, a launch is a record with its parameters'
// bytes. Any function can be told to fail. One at a time, since the driver's table holds plain
// function pointers: its state is a global that each FakeDriver starts afresh.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/backends/cuda/driver.h"

namespace cudadent::test {

struct FakeKernel {
  std::vector<std::size_t> parameter_bytes;
  int max_threads = 1024;
  int registers = 32;
  int static_shared = 0;
  int max_dynamic_shared = 48 * 1024;
  bool non_portable_cluster = false;
  bool loaded = false;
};

struct FakeLaunch {
  std::string kernel;
  std::array<unsigned, 3> grid, block, cluster{1, 1, 1};
  unsigned shared_memory = 0;
  Stream stream = nullptr;
  std::vector<std::vector<std::byte>> parameters;
  // A parameter as a value.
  template <typename T>
  [[nodiscard]] T parameter(std::size_t i) const {
    T value;
    if (parameters.at(i).size() != sizeof value) throw std::logic_error("parameter size");
    std::memcpy(&value, parameters.at(i).data(), sizeof value);
    return value;
  }
};

struct FakeState {
  FakeState() = default;
  ~FakeState();  // frees what the driver was made to refuse to free
  FakeState(const FakeState&) = delete;
  FakeState& operator=(const FakeState&) = delete;

  std::mutex mutex;
  bool quiet = false;  // records nothing and lets nothing fail, so that it allocates nothing
  std::map<std::string, FakeKernel> kernels{{"cudadent_read", {.parameter_bytes = {8}}}};
  std::map<std::string, cuda::Result> failures;  // by symbol: what it returns
  std::vector<std::string> calls;                // symbols, in order
  std::vector<FakeLaunch> launches;
  std::map<std::thread::id, std::vector<cuda::Context>> context_stacks;
  std::set<cuda::DevicePointer> memory, stream_memory;
  std::size_t last_stream_bytes = 0;
  int encodes = 0;
  int libraries = 0, events = 0, streams = 0, pools = 0, contexts = 0;
  int capability = 90;
  cuda::CaptureStatus capture = cuda::CaptureStatus::none;

  // The calling thread's.
  std::vector<cuda::Context>& context_stack() { return context_stacks[std::this_thread::get_id()]; }

  [[nodiscard]] int count(const std::string& symbol) const {
    int found = 0;
    for (const std::string& call : calls) found += call == symbol;
    return found;
  }
};

class FakeDriver {
 public:
  FakeDriver();
  FakeState& operator*() const;
  FakeState* operator->() const { return &**this; }
  cuda::Driver table;
};

// What the fake encodes into a tensor map: everything it was told.
struct FakeTensorMap {
  std::uint64_t address;
  std::uint32_t type, rank, swizzle, l2_promotion;
  std::uint64_t dimensions[5];
  std::uint64_t stride;  // the first
  std::uint32_t box[5];
};
static_assert(sizeof(FakeTensorMap) <= sizeof(cuda::TensorMap));

}  // namespace cudadent::test
