// NVRTC, loaded at run time, and compiling with it for any architecture: no driver is needed.
#pragma once

#include <cudadent/cudadent.h>

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/backends/compiler.h"
#include "runtime/base/environment.h"
#include "runtime/operators/specialization.h"

namespace cudadent::cuda {

// ------------------------------------------------------------------------------------- table

enum class NvrtcResult : int {  // nvrtcResult; any other number may come back too
  success = 0,
  out_of_memory = 1,
  invalid_option = 5,
  compilation = 6,
  builtin_operation_failure = 7,  // libnvrtc-builtins is missing or of another version
};
using Program = struct ProgramObject*;  // nvrtcProgram

// FUNCTION(member, symbol, signature): the one list of what we use; all of it is in 11.1 and later.
#define CUDADENT_NVRTC_TABLE(FUNCTION)                                                   \
  FUNCTION(version, "nvrtcVersion", NvrtcResult(int* major, int* minor))                 \
  FUNCTION(error_string, "nvrtcGetErrorString", const char*(NvrtcResult))                \
  FUNCTION(create, "nvrtcCreateProgram",                                                 \
           NvrtcResult(Program*, const char* source, const char* name, int header_count, \
                       const char* const* headers, const char* const* header_names))     \
  FUNCTION(destroy, "nvrtcDestroyProgram", NvrtcResult(Program*))                        \
  FUNCTION(compile, "nvrtcCompileProgram",                                               \
           NvrtcResult(Program, int option_count, const char* const* options))           \
  FUNCTION(log_size, "nvrtcGetProgramLogSize", NvrtcResult(Program, std::size_t*))       \
  FUNCTION(log, "nvrtcGetProgramLog", NvrtcResult(Program, char*))                       \
  FUNCTION(cubin_size, "nvrtcGetCUBINSize", NvrtcResult(Program, std::size_t*))          \
  FUNCTION(cubin, "nvrtcGetCUBIN", NvrtcResult(Program, char*))                          \
  FUNCTION(ptx_size, "nvrtcGetPTXSize", NvrtcResult(Program, std::size_t*))              \
  FUNCTION(ptx, "nvrtcGetPTX", NvrtcResult(Program, char*))                              \
  FUNCTION(architecture_count, "nvrtcGetNumSupportedArchs", NvrtcResult(int*))           \
  FUNCTION(architectures, "nvrtcGetSupportedArchs", NvrtcResult(int*))

struct Nvrtc {
#define CUDADENT_MEMBER(member, symbol, ...) std::add_pointer_t<__VA_ARGS__> member = nullptr;
  CUDADENT_NVRTC_TABLE(CUDADENT_MEMBER)
#undef CUDADENT_MEMBER
  std::filesystem::path file;  // where it was loaded from
  int major = 0, minor = 0;
};

// ------------------------------------------------------------------------------------- look-up

// Where to look for libnvrtc, in the order of the members.
struct NvrtcSearch {
  std::filesystem::path file;  // CUDADENT_NVRTC: this one or none
  bool loaded = true;          // a copy the process has loaded already (PyTorch's, say)
  // pip's wheels below each: nvidia/cu13/lib (nvidia-cuda-nvrtc), nvidia/cuda_nvrtc/lib
  // (nvidia-cuda-nvrtc-cu12).
  std::vector<std::filesystem::path> site_packages;
  std::filesystem::path conda_prefix;
  bool loader_path = true;                           // LD_LIBRARY_PATH, ld.so.cache
  std::vector<std::filesystem::path> toolkit_homes;  // CUDA_PATH, CUDA_HOME, /usr/local/cuda
};

// The usual search. Site-packages folders are, in order: `site_packages` (a Python module hands
// in its interpreter's), the virtual environment's, the one this library itself is installed in,
// and those of the running Python.
NvrtcSearch nvrtc_search(const Environment& environment,
                         std::span<const std::filesystem::path> site_packages = {});

// The files that a search would try to load, in order; those named in `search` as folders are
// listed whether they exist or not. Leaves out `loaded`.
std::vector<std::filesystem::path> nvrtc_candidates(const NvrtcSearch& search);

// Loads NVRTC and, from the same folder, the libnvrtc-builtins of its version, which NVRTC would
// otherwise look for by name only. Throws Error(compiler_unavailable) that lists what was tried in
// detail() and says what to install.
Nvrtc load_nvrtc(const NvrtcSearch& search);

// ------------------------------------------------------------------------------------- compiling

struct Cubin {
  std::vector<std::byte> image;
  std::string log;  // warnings and ptxas's resource report
};

// Compiles for "sm_90a", say; safe from many threads at once. `name` stands for the source in the
// log. Throws Error(compile_failed) with the log in detail().
Cubin compile_cubin(const Nvrtc& nvrtc, const std::string& source, const std::string& name,
                    const std::string& architecture, std::span<const std::string> options);

// Takes the first line off a text, and returns it without its end.
std::string_view next_line(std::string_view& text);
// What ptxas -v says about each kernel in a log, in the order of the log.
std::vector<KernelResources> parse_resources(std::string_view log);
// Adds what only the image knows (bytes of constant memory, kernels the log does not mention).
void complete_resources(std::vector<KernelResources>& resources, std::span<const std::byte> image);
// The log without ptxas's resource report: what a person should read.
std::string without_resources(std::string_view log);

// Loads NVRTC when first asked for anything.
class CudaCompiler final : public Compiler {
 public:
  explicit CudaCompiler(NvrtcSearch search) : search_(std::move(search)) {}
  // "nvrtc 13.0.88". Throws Error(compiler_unavailable).
  std::string name() override;
  Binary compile(const Specialization& specialization) override;

 private:
  const Nvrtc& nvrtc();

  NvrtcSearch search_;
  std::mutex loading_;
  std::optional<Nvrtc> nvrtc_;
  std::string name_;
};

}  // namespace cudadent::cuda
