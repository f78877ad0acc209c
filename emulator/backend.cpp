#include "emulator/backend.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "emulator/driver.h"
#include "emulator/translate.h"
#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/host/compiler.h"

namespace cudadent::emulator {

namespace {

const std::filesystem::path device_folder = CUDADENT_EMULATOR_DEVICE;

class EmulatorBackend final : public Backend {
 public:
  EmulatorBackend(const EmulatorOptions& options, const Environment& environment)
      : options_(options),
        cuda_(
            make_cuda_backend(device_number(options.sm, options.sm_count), emulated_driver(), {})),
        compiler_(environment.host_compiler),
        emulated_(emulated_names(device_code("instructions.h"))) {}

  [[nodiscard]] const Device& device() const noexcept override { return cuda_->device(); }
  std::string compiler() override { return compiler_.name(); }
  Binary compile(const Specialization& specialization) override;

  std::shared_ptr<const Module> load(const Binary& binary) override { return cuda_->load(binary); }
  std::unique_ptr<const Executable> prepare(std::shared_ptr<const Module> module,
                                            const LaunchPlan& plan) override {
    return cuda_->prepare(std::move(module), plan);
  }
  Buffer allocate(std::size_t bytes) override { return cuda_->allocate(bytes); }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    cuda_->copy_to_device(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    cuda_->copy_to_host(host, device, bytes);
  }
  void fill(void* device, std::byte value, std::size_t bytes) override {
    cuda_->fill(device, value, bytes);
  }
  void synchronize() override { cuda_->synchronize(); }
  [[nodiscard]] Loss lost() const noexcept override { return cuda_->lost(); }
  bool capturing(Stream) override { return false; }
  [[nodiscard]] std::string measurement() const override { return "none"; }
  std::vector<double> time(const Executable&, const LaunchArguments&, int) override {
    throw Error(ErrorCode::unsupported, "the emulator measures nothing");
  }

 private:
  EmulatorOptions options_;
  std::unique_ptr<Backend> cuda_;
  HostCompiler compiler_;
  std::set<std::string> emulated_;
};

Binary EmulatorBackend::compile(const Specialization& specialization) {
  Specialization translated = specialization;
  translated.source = fmt::format(
      "#define __CUDA_ARCH__ {}\n#include \"instructions.h\"\n"
      "#line 1 \"specialization\"\n{}",
      10 * options_.sm, translate(specialization.source, emulated_, specialization.entries));
  // Memory is seen through one type and another; what the hardware or NVRTC may do anything about is
  // reported (device/cuda.h); variables that nobody set have values that nobody expects.
  translated.compile_options = {"-O1",
                                "-fno-strict-aliasing",
                                "-ffp-contract=off",
                                "-fno-math-errno",
                                "-ftrivial-auto-var-init=pattern",
                                "-fsanitize=alignment,bounds,shift,integer-divide-by-zero",
                                "-fsanitize=signed-integer-overflow",
                                "-Wl,--as-needed",
                                "-fvisibility=hidden",
                                "-w",
                                "-I",
                                device_folder.string()};
  for (const auto& option : options_.compile_options) translated.compile_options.push_back(option);
  return compiler_.compile(translated);
}

}  // namespace

std::string device_code(const std::string& file) {
  std::ifstream stream(device_folder / file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream)
    throw Error(ErrorCode::compiler_unavailable,
                fmt::format("the emulator needs {}, which cannot be read",
                            (device_folder / file).string()));
  return text.str();
}

std::unique_ptr<Backend> make_emulator_backend(const EmulatorOptions& options,
                                               const Environment& environment) {
  return std::make_unique<EmulatorBackend>(options, environment);
}

}  // namespace cudadent::emulator
