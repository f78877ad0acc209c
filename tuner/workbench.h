// One problem laid out on a device: its inputs, the reference's outputs, and what candidates are verified
// and timed with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backends/backend.h"
#include "runtime/launch/configuration_source.h"
#include "runtime/operators/problem.h"
#include "runtime/operators/template_library.h"

namespace cudadent {

struct Verdict {
  double error = 0;            // ‖out − ref‖ / ‖ref‖ of the worst output
  std::string complaint;       // empty when every output is right
  bool out_of_bounds = false;  // it wrote beside an output
};

class Workbench {
 public:
  // Allocates and fills the tensors and runs the reference. Throws Error: machine_failed when the device
  // has not enough memory, what compiling the reference raises, and cancelled.
  Workbench(Backend& backend, TemplateLibrary& library, BinaryStore& binaries,
            const OperatorEntry& entry, const Problem& problem, std::uint64_t seed);

  // The name of the template that outputs are compared with; empty when the operator has no reference on
  // this device, in which case the first executable verified whose outputs are finite becomes it.
  [[nodiscard]] const std::string& reference() const noexcept { return reference_; }

  // Poisons the outputs, runs once, and compares. Throws Error(launch_failed) when the launch fails.
  Verdict verify(const Executable& executable);

  // Seconds of `count` runs, each with a cold cache.
  std::vector<double> time(const Executable& executable, int count);

  std::unique_ptr<const Executable> load(const Specialization& specialization);

 private:
  struct Output {
    std::size_t tensor = 0;    // index in the manifest
    std::size_t elements = 0;  // without gaps
    std::size_t span = 0;      // elements and what lies between them
    std::size_t bytes = 0;     // of the span
    Buffer expected;           // between two guards
    double tolerance = 0;
    std::unique_ptr<const Executable> compare;

    [[nodiscard]] void* expected_data() const;
  };

  void fill_tensors(std::uint64_t seed);
  void fill_input(std::size_t tensor, std::uint64_t seed);
  void repeat(std::size_t tensor, const std::vector<std::byte>& pattern, std::size_t period,
              std::size_t count);
  std::unique_ptr<const Executable> load_internal(const char* op, const Values& values);
  void prepare_outputs();
  void poison_outputs();
  std::string why_out_of_bounds();
  void expect(const Executable& executable);
  // Launches and waits.
  void run(const Executable& executable, const LaunchArguments& arguments);
  Verdict compare(Output& output);
  [[nodiscard]] LaunchArguments arguments() const;

  Backend& backend_;
  TemplateLibrary& library_;
  BinaryStore& binaries_;
  Problem problem_;
  std::vector<Buffer>
      tensors_;  // in manifest order, each between two guards; empty ones are absent
  std::vector<void*> pointers_;  // of tensors_
  std::vector<Output> outputs_;
  Buffer comparison_;  // what the internal operator writes
  std::string reference_;
  bool has_expected_ = false;
};

// The template outputs are verified against on this backend, named by the operator: `reference`, or
// `host_reference` on the host; null when there is none.
std::shared_ptr<const KernelTemplate> reference_template(const OperatorEntry& entry,
                                                         const std::string& backend);

}  // namespace cudadent
