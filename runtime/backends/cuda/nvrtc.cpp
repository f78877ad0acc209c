#include "runtime/backends/cuda/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <system_error>

namespace cudadent::cuda {

namespace fs = std::filesystem;

namespace {

// Newest first. NVRTC's ABI is the same in both; 13 compiles for sm_75 and later.
constexpr std::array sonames{"libnvrtc.so.13", "libnvrtc.so.12"};

constexpr const char* what_to_install =
    "Install it with `pip install nvidia-cuda-nvrtc` (or nvidia-cuda-nvrtc-cu12 for a driver of "
    "CUDA "
    "12), install the CUDA toolkit, or name the file in CUDADENT_NVRTC.";

// ------------------------------------------------------------------------------------- look-up

// <prefix>/lib/python3.11/site-packages and its like; Debian says dist-packages.
void add_python_folders(const fs::path& prefix, std::vector<fs::path>& found) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(prefix / "lib", ignored)) {
    if (!entry.path().filename().string().starts_with("python3")) continue;
    for (const char* name : {"site-packages", "dist-packages"})
      if (fs::is_directory(entry.path() / name, ignored)) found.push_back(entry.path() / name);
  }
}

// The file that holds this code: the program, the shared library or the Python module.
fs::path own_file() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&nvrtc_search), &info) == 0 || info.dli_fname == nullptr)
    return {};
  std::error_code ignored;
  return fs::absolute(info.dli_fname, ignored);
}

void add_enclosing_site_packages(fs::path folder, std::vector<fs::path>& found) {
  for (; folder.has_relative_path(); folder = folder.parent_path())
    if (folder.filename() == "site-packages" || folder.filename() == "dist-packages")
      return found.push_back(folder);
}

// ------------------------------------------------------------------------------------- loading

// The table of an open library; nothing (and why) when a function is missing.
std::optional<Nvrtc> bind(void* library, std::string& why) {
  Nvrtc nvrtc;
  const char* missing = nullptr;
#define CUDADENT_BIND(member, symbol, ...)                                         \
  nvrtc.member = reinterpret_cast<decltype(nvrtc.member)>(dlsym(library, symbol)); \
  if (nvrtc.member == nullptr) missing = symbol;
  CUDADENT_NVRTC_TABLE(CUDADENT_BIND)
#undef CUDADENT_BIND
  if (missing != nullptr) {
    why = fmt::format("it has no {}", missing);
    return std::nullopt;
  }
  if (nvrtc.version(&nvrtc.major, &nvrtc.minor) != NvrtcResult::success) {
    why = "nvrtcVersion fails";
    return std::nullopt;
  }
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(nvrtc.version), &info) != 0 && info.dli_fname != nullptr)
    nvrtc.file = info.dli_fname;
  return nvrtc;
}

// NVRTC opens its builtins by bare name when it first compiles. A library of that name which is
// already loaded is taken, so load the one that lies beside NVRTC; when there is none, NVRTC looks
// along the loader's path and reports what it misses itself.
void load_builtins(const Nvrtc& nvrtc) {
  const fs::path file = nvrtc.file.parent_path() /
                        fmt::format("libnvrtc-builtins.so.{}.{}", nvrtc.major, nvrtc.minor);
  dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
}

std::optional<Nvrtc> try_load(const char* file, int flags, std::vector<std::string>& tried) {
  std::string why;
  if (void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL | flags)) {
    if (auto nvrtc = bind(library, why)) {
      load_builtins(*nvrtc);
      return nvrtc;
    }
  } else if (const char* reason = dlerror(); reason != nullptr) {
    why = reason;
  }
  tried.push_back(fmt::format("{}: {}", file, why));
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

}  // namespace

NvrtcSearch nvrtc_search(const Environment& environment, std::span<const fs::path> site_packages) {
  NvrtcSearch search;
  search.file = environment.nvrtc;
  search.site_packages.assign(site_packages.begin(), site_packages.end());
  if (!environment.virtual_env.empty())
    add_python_folders(environment.virtual_env, search.site_packages);
  add_enclosing_site_packages(own_file(), search.site_packages);
  // The running Python's, or those of the environment whose bin/ the program is installed in.
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  add_python_folders(program.parent_path().parent_path(), search.site_packages);
  search.conda_prefix = environment.conda_prefix;
  search.toolkit_homes = environment.cuda_homes;
  search.toolkit_homes.emplace_back("/usr/local/cuda");
  return search;
}

std::vector<fs::path> nvrtc_candidates(const NvrtcSearch& search) {
  if (!search.file.empty()) return {search.file};
  std::vector<fs::path> candidates;
  for (const fs::path& folder : search.site_packages) {
    candidates.push_back(folder / "nvidia/cu13/lib/libnvrtc.so.13");
    candidates.push_back(folder / "nvidia/cuda_nvrtc/lib/libnvrtc.so.13");
    candidates.push_back(folder / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12");
  }
  const auto add = [&](const fs::path& folder) {
    for (const char* soname : sonames) candidates.push_back(folder / soname);
  };
  if (!search.conda_prefix.empty()) add(search.conda_prefix / "lib");
  if (search.loader_path) add("");
  for (const fs::path& home : search.toolkit_homes) {
    add(home / "lib64");
    add(home / "lib");
  }
  return candidates;
}

Nvrtc load_nvrtc(const NvrtcSearch& search) {
  std::vector<std::string> tried;
  if (search.file.empty() && search.loaded)
    for (const char* soname : sonames)
      if (auto nvrtc = try_load(soname, RTLD_NOLOAD, tried)) return *nvrtc;
  tried.clear();  // not to have been loaded is no failure worth telling
  for (const fs::path& file : nvrtc_candidates(search)) {
    std::error_code ignored;
    if (file.has_parent_path() && !fs::exists(file, ignored)) {
      tried.push_back(fmt::format("{}: no such file", file.string()));
      continue;
    }
    if (auto nvrtc = try_load(file.c_str(), 0, tried)) return *nvrtc;
  }
  throw Error(
      ErrorCode::compiler_unavailable,
      search.file.empty()
          ? fmt::format("NVRTC, the compiler of CUDA templates, was not found in {} places. {}",
                        tried.size(), what_to_install)
          : fmt::format("CUDADENT_NVRTC names {}, which cannot be loaded as NVRTC. {}",
                        search.file.string(), what_to_install),
      joined(tried));
}

// ------------------------------------------------------------------------------------- compiling

namespace {

struct DestroyProgram {
  const Nvrtc* nvrtc;
  void operator()(Program program) const { nvrtc->destroy(&program); }
};
using ProgramHandle = std::unique_ptr<std::remove_pointer_t<Program>, DestroyProgram>;

Error nvrtc_error(const Nvrtc& nvrtc, NvrtcResult result, std::string_view attempted) {
  const bool builtins = result == NvrtcResult::builtin_operation_failure;
  return Error(
      builtins                               ? ErrorCode::compiler_unavailable
      : result == NvrtcResult::out_of_memory ? ErrorCode::machine_failed
                                             : ErrorCode::compile_failed,
      fmt::format("Could not {}: {} (NVRTC {}.{} of {}).{}", attempted, nvrtc.error_string(result),
                  nvrtc.major, nvrtc.minor, nvrtc.file.string(),
                  builtins ? " Its libnvrtc-builtins must lie in the same folder." : ""));
}

ProgramHandle create_program(const Nvrtc& nvrtc, const std::string& source,
                             const std::string& name) {
  Program program = nullptr;
  const NvrtcResult result =
      nvrtc.create(&program, source.c_str(), name.c_str(), 0, nullptr, nullptr);
  if (result != NvrtcResult::success)
    throw nvrtc_error(nvrtc, result, fmt::format("hand {} to the compiler", name));
  return ProgramHandle(program, {&nvrtc});
}

std::string log_of(const Nvrtc& nvrtc, Program program) {
  std::size_t bytes = 0;
  if (nvrtc.log_size(program, &bytes) != NvrtcResult::success || bytes <= 1) return {};
  std::string log(bytes, '\0');
  if (nvrtc.log(program, log.data()) != NvrtcResult::success) return {};
  // The terminating zero is counted, and 13.0 ends the log itself with another.
  while (log.ends_with('\0')) log.pop_back();
  return log;
}

std::string first_error(std::string_view log) {
  for (std::string_view rest = log; !rest.empty();) {
    const std::string_view line = next_line(rest);
    if (line.find("error") != std::string_view::npos) return std::string(line);
  }
  return "no error in the log";
}

std::string supported_architectures(const Nvrtc& nvrtc) {
  int count = 0;
  if (nvrtc.architecture_count(&count) != NvrtcResult::success || count <= 0) return "unknown";
  std::vector<int> architectures(static_cast<std::size_t>(count));
  if (nvrtc.architectures(architectures.data()) != NvrtcResult::success) return "unknown";
  return fmt::format("{}", fmt::join(architectures, " "));
}

// "13.0.88" from the header of a trivial program's PTX: "… release 13.0, V13.0.88". nvrtcVersion
// knows the first two numbers only, and code differs between builds. About 10 ms.
std::string full_version(const Nvrtc& nvrtc) {
  std::string short_version = fmt::format("{}.{}", nvrtc.major, nvrtc.minor);
  const auto program = create_program(nvrtc, "", "version.cu");
  std::size_t bytes = 0;
  if (nvrtc.compile(program.get(), 0, nullptr) != NvrtcResult::success ||
      nvrtc.ptx_size(program.get(), &bytes) != NvrtcResult::success || bytes == 0)
    return short_version;
  std::string ptx(bytes, '\0');
  if (nvrtc.ptx(program.get(), ptx.data()) != NvrtcResult::success) return short_version;
  const auto start = ptx.find(", V" + short_version);
  if (start == std::string::npos) return short_version;
  return ptx.substr(start + 3, ptx.find_first_not_of("0123456789.", start + 3) - (start + 3));
}

std::vector<const char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<const char*> pointers;
  for (const std::string& text : texts) pointers.push_back(text.c_str());
  return pointers;
}

}  // namespace

Cubin compile_cubin(const Nvrtc& nvrtc, const std::string& source, const std::string& name,
                    const std::string& architecture, std::span<const std::string> options) {
  std::vector<std::string> all{
      "-arch=" + architecture, "--std=c++20",
      "-default-device",      // templates hold device code only: their constexpr helpers are too
      "--ptxas-options=-v"};  // registers, spills and memory, in the log
  // NVRTC's own cache on disk (12.9 and later) would duplicate ours and falsify compile times.
  if (nvrtc.major > 12 || (nvrtc.major == 12 && nvrtc.minor >= 9)) all.emplace_back("--no-cache");
  all.insert(all.end(), options.begin(), options.end());
  const std::vector<const char*> arguments = pointers_to(all);

  const auto program = create_program(nvrtc, source, name);
  const NvrtcResult result =
      nvrtc.compile(program.get(), static_cast<int>(arguments.size()), arguments.data());
  Cubin cubin;
  cubin.log = log_of(nvrtc, program.get());
  if (result == NvrtcResult::builtin_operation_failure || result == NvrtcResult::out_of_memory)
    throw nvrtc_error(nvrtc, result, fmt::format("compile {}", name));
  if (result != NvrtcResult::success) {
    const bool wrong_option = result == NvrtcResult::invalid_option;
    throw Error(
        ErrorCode::compile_failed,
        fmt::format("{} does not compile for {} with NVRTC {}.{}: {}{}", name, architecture,
                    nvrtc.major, nvrtc.minor, first_error(cubin.log),
                    wrong_option ? fmt::format(". Options: {}. Architectures: {}",
                                               fmt::join(all, " "), supported_architectures(nvrtc))
                                 : ""),
        cubin.log);
  }
  std::size_t bytes = 0;
  // Checked for emptiness too: after some failures the size is zero without an error.
  if (const auto sized = nvrtc.cubin_size(program.get(), &bytes);
      sized != NvrtcResult::success || bytes == 0)
    throw Error(ErrorCode::compile_failed,
                fmt::format("NVRTC {}.{} made no binary of {} for {}: only real architectures "
                            "(sm_…) have one.",
                            nvrtc.major, nvrtc.minor, name, architecture),
                cubin.log);
  cubin.image.resize(bytes);
  if (const auto copied = nvrtc.cubin(program.get(), reinterpret_cast<char*>(cubin.image.data()));
      copied != NvrtcResult::success)
    throw nvrtc_error(nvrtc, copied, fmt::format("take the binary of {}", name));
  return cubin;
}

const Nvrtc& CudaCompiler::nvrtc() {
  // Not std::call_once: the thread sanitizer's never returns again once its function has thrown.
  const std::scoped_lock lock(loading_);
  if (!nvrtc_) {
    Nvrtc loaded = load_nvrtc(search_);
    name_ = "nvrtc " + full_version(loaded);
    nvrtc_ = std::move(loaded);
  }
  return *nvrtc_;
}

std::string CudaCompiler::name() {
  nvrtc();
  return name_;
}

Binary CudaCompiler::compile(const Specialization& specialization) {
  const Nvrtc& compiler = nvrtc();
  const auto start = std::chrono::steady_clock::now();
  const std::string name =
      specialization.kernel_template == nullptr
          ? "kernel.cu"
          : specialization.kernel_template->op + "_" + specialization.kernel_template->name + ".cu";
  Cubin cubin = compile_cubin(compiler, specialization.source, name, specialization.architecture,
                              specialization.compile_options);
  Binary binary;
  binary.specialization_hash = specialization.hash;
  binary.architecture = specialization.architecture;
  binary.compiler = name_;
  binary.resources = parse_resources(cubin.log);
  complete_resources(binary.resources, cubin.image);
  binary.log = without_resources(cubin.log);
  binary.image = std::move(cubin.image);
  binary.compile_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return binary;
}

}  // namespace cudadent::cuda
