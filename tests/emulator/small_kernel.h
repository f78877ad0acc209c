// Small kernels for the tests of the emulator: right ones, and ones with a mistake that must show.
#pragma once

#include <cudadent/cudadent.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulator/backend.h"
#include "emulator/driver.h"
#include "runtime/operators/specialization.h"
#include "runtime/operators/template_library.h"
#include "tests/support/folder.h"

namespace cudadent::emulator::tests {

// A kernel `run` that makes y of x, both f32 [rows, columns]. x holds 0, 1, 2, …
struct SmallKernel {
  std::string source;
  int rows = 1, columns = 256;
  std::string block = "256", grid = "1", cluster = "1", shared_memory = "0";
  std::string arguments = R"("x", "y", "columns")";
  std::string maps;  // JSON of "tensor_maps"
  int sm = 90;
};

class SmallOperator {
 public:
  explicit SmallOperator(const SmallKernel& kernel)
      : kernel_(kernel),
        backend_(make_emulator_backend({.sm = kernel.sm, .sm_count = 2, .compile_options = {}},
                                       Environment::read())) {
    folder_.write("small/op.json", R"({ "op": "small", "tensors": {
        "x": { "shape": ["rows", "columns"], "dtype": "f32" },
        "y": { "shape": ["rows", "columns"], "dtype": "f32", "role": "output" } } })");
    folder_.write("small/kernel.cu", kernel.source);
    folder_.write(
        "small/kernel.json",
        fmt::format(
            R"({{ "template": "kernel", "backend": "cuda", "compile_time": ["rows", "columns"],
                  "tensor_maps": {{ {} }}, "workspace": {{ "counters": {{ "bytes": 64, "zero": true }} }},
                  "launches": [ {{ "entry": "run", "grid": [{}], "block": [{}], "cluster": [{}],
                    "shared_memory": "{}", "args": [{}] }} ] }})",
            kernel.maps, kernel.grid, kernel.block, kernel.cluster, kernel.shared_memory,
            kernel.arguments));
    TemplateLibrary library({folder_.path()});
    const auto entry = library.find("small");
    const Problem problem = make_problem(
        entry->manifest,
        {{"rows", std::int64_t{kernel.rows}}, {"columns", std::int64_t{kernel.columns}}});
    const auto specialization =
        specialize(entry->template_named("kernel"), problem, {}, backend_->device());
    executable_ =
        backend_->prepare(backend_->load(backend_->compile(specialization)), specialization.plan);
  }

  // y, when the launch is scheduled by this seed.
  std::vector<float> run(std::uint64_t seed) {
    std::vector<float> values(static_cast<std::size_t>(kernel_.rows * kernel_.columns));
    const std::size_t bytes = values.size() * sizeof(float);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    const Buffer x = backend_->allocate(bytes), y = backend_->allocate(bytes);
    backend_->copy_to_device(x.data(), values.data(), bytes);
    void* const tensors[] = {x.data(), y.data()};
    EmulatedStream stream{seed};
    executable_->launch({tensors, {}, &stream});
    backend_->copy_to_host(values.data(), y.data(), bytes);
    return values;
  }

 private:
  SmallKernel kernel_;
  cudadent::tests::Folder folder_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<const Executable> executable_;
};

constexpr std::uint64_t schedules = 32;

// What goes wrong, under any of the schedules; empty when y is always what is expected of (row, column).
inline std::string what_goes_wrong(const SmallKernel& kernel,
                                   const std::function<float(int, int)>& expected) {
  try {
    SmallOperator op(kernel);
    for (std::uint64_t seed = 0; seed < schedules; ++seed) {
      const auto y = op.run(seed);
      for (int i = 0; i < static_cast<int>(y.size()); ++i) {
        const float wanted = expected(i / kernel.columns, i % kernel.columns);
        if (!(y[static_cast<std::size_t>(i)] == wanted))
          return fmt::format("wrong: y[{}] is {}, not {}", i, y[static_cast<std::size_t>(i)],
                             wanted);
      }
    }
    return {};
  } catch (const Error& error) {
    return fmt::format("{}\n{}", error.what(), error.detail());
  }
}

}  // namespace cudadent::emulator::tests
