#include "runtime/backends/cuda/nvrtc.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "runtime/language/device.h"
#include "tests/support/nvrtc.h"

using namespace cudadent;
using namespace cudadent::cuda;

namespace {

CudaCompiler& compiler() {
  static CudaCompiler instance(nvrtc_search(Environment::read()));
  return instance;
}

bool have_nvrtc() { return cudadent::have_nvrtc(compiler()); }

Specialization specialization_of(std::string source, std::string architecture) {
  Specialization specialization;
  specialization.source = std::move(source);
  specialization.architecture = std::move(architecture);
  specialization.hash = "hash";
  return specialization;
}

constexpr const char* scale = R"(
constexpr int half(int x) { return x / 2; }   // without __device__: -default-device makes it one
extern "C" __global__ void __launch_bounds__(128) scale(float* out, const float* in, float by) {
  __shared__ float tile[128];
  tile[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[127 - threadIdx.x] * by + half(8);
})";

struct TemporaryFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("cudadent_nvrtc_test_" + std::to_string(getpid()));
  TemporaryFolder() { std::filesystem::create_directories(path); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_CASE("a kernel compiles for every architecture, and its resources are known") {
  if (!have_nvrtc()) return;
  for (const std::string architecture : {"sm_75", "sm_80", "sm_90a", "sm_100a", "sm_120a"}) {
    CAPTURE(architecture);
    const Binary binary = compiler().compile(specialization_of(scale, architecture));
    REQUIRE(binary.image.size() > 64);
    CHECK(std::memcmp(binary.image.data(),
                      "\x7f"
                      "ELF",
                      4) == 0);
    CHECK(binary.specialization_hash == "hash");
    CHECK(binary.architecture == architecture);
    CHECK(binary.compile_seconds > 0);
    CHECK(binary.log == "");
    REQUIRE(binary.resources.size() == 1);
    const KernelResources& resources = binary.resources.front();
    CHECK(resources.entry == "scale");
    CHECK(resources.registers >= 4);
    CHECK(resources.registers <= 255);
    CHECK(resources.spill_bytes == 0);
    CHECK(resources.local_bytes == 0);
    CHECK(resources.shared_bytes == 512);
    CHECK(resources.constant_bytes >= 20);  // at least the parameters: two pointers and a float
  }
}

TEST_CASE("every nominal architecture is one NVRTC 13 knows") {
  if (!have_nvrtc() || compiler().name() < "nvrtc 13") return;
  for (const std::string& architecture : nominal_cuda_architectures()) {
    CAPTURE(architecture);
    CHECK_NOTHROW(compiler().compile(specialization_of("", architecture)));
  }
}

TEST_CASE("warnings are kept, the resource report is not repeated in the log") {
  if (!have_nvrtc()) return;
  const Binary binary = compiler().compile(specialization_of(
      R"(extern "C" __global__ void first(int* p) { int unused; *p = 1; }
         extern "C" __global__ void second(int* p) { *p = 2; })",
      "sm_80"));
  CHECK(binary.log.find("unused") != std::string::npos);
  CHECK(binary.log.find("ptxas") == std::string::npos);
  REQUIRE(binary.resources.size() == 2);
  CHECK(binary.resources[0].entry != binary.resources[1].entry);
}

TEST_CASE("a failed compile is an error with the log, never an empty binary") {
  if (!have_nvrtc()) return;
  const auto failing = [](const Specialization& specialization) {
    try {
      compiler().compile(specialization);
    } catch (const Error& error) {
      return error;
    }
    FAIL("compiled");
    throw;
  };
  const Error broken =
      failing(specialization_of("__global__ void f() { undeclared = 1; }", "sm_90a"));
  CHECK(broken.code() == ErrorCode::compile_failed);
  CHECK(std::string(broken.what()).find("kernel.cu(1): error") != std::string::npos);
  CHECK(broken.detail().find("undeclared") != std::string::npos);

  const Error unknown = failing(specialization_of("", "sm_12"));
  CHECK(unknown.code() == ErrorCode::compile_failed);
  CHECK(std::string(unknown.what()).find("Architectures: 75") != std::string::npos);

  const Error virtual_only = failing(specialization_of("", "compute_80"));
  CHECK(virtual_only.code() == ErrorCode::compile_failed);

  Specialization option = specialization_of("", "sm_80");
  option.compile_options = {"--no-such-option"};
  CHECK(failing(option).code() == ErrorCode::compile_failed);

  // Assembler errors arrive from ptxas, after the front end has succeeded.
  const Error assembler = failing(specialization_of(
      R"(extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;"); })", "sm_80"));
  CHECK(assembler.code() == ErrorCode::compile_failed);
  CHECK(assembler.detail().find("wgmma") != std::string::npos);
}

TEST_CASE("threads compile at once") {
  if (!have_nvrtc()) return;
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const auto binary = compiler().compile(specialization_of(
          "extern \"C\" __global__ void f(int* p) { *p = " + std::to_string(i) + "; }", "sm_90a"));
      if (binary.resources.size() == 1 && binary.resources[0].entry == "f") ++good;
    });
  for (auto& thread : threads) thread.join();
  CHECK(good == 4);
}

TEST_CASE("the compiler's name has all three numbers") {
  if (!have_nvrtc()) return;
  const std::string name = compiler().name();
  CAPTURE(name);
  CHECK(name.starts_with("nvrtc 1"));
  CHECK(std::count(name.begin(), name.end(), '.') == 2);
}

TEST_CASE("without NVRTC the error lists what was tried and says what to install") {
  NvrtcSearch nowhere;
  nowhere.loaded = false;
  nowhere.loader_path = false;
  nowhere.site_packages = {"/nowhere/site-packages"};
  nowhere.toolkit_homes = {"/nowhere/cuda"};
  CudaCompiler missing(nowhere);
  for (int attempt = 0; attempt < 2; ++attempt) {  // fails the same way each time
    try {
      missing.compile(specialization_of(scale, "sm_80"));
      FAIL("compiled without a compiler");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::compiler_unavailable);
      CHECK(std::string(error.what()).find("pip install nvidia-cuda-nvrtc") != std::string::npos);
      CHECK(error.detail().find("/nowhere/site-packages/nvidia/cu13/lib/libnvrtc.so.13") !=
            std::string::npos);
      CHECK(error.detail().find("/nowhere/cuda/lib64/libnvrtc.so.12") != std::string::npos);
    }
  }
}

TEST_CASE("CUDADENT_NVRTC is that file or an error") {
  const TemporaryFolder folder;
  NvrtcSearch search;
  search.file = folder.path / "libnvrtc.so.13";
  CHECK_THROWS_WITH_AS(load_nvrtc(search), doctest::Contains("CUDADENT_NVRTC"), Error);
  std::ofstream(search.file) << "not a library";
  CHECK_THROWS_WITH_AS(load_nvrtc(search), doctest::Contains("CUDADENT_NVRTC"), Error);
}

TEST_CASE("the search goes through wheels, conda, the loader's path and toolkits, in this order") {
  const TemporaryFolder folder;
  const auto packages = folder.path / "lib/python3.11/site-packages";
  std::filesystem::create_directories(packages);
  Environment environment;
  environment.virtual_env = folder.path;
  environment.conda_prefix = "/conda";
  environment.cuda_homes = {"/toolkit"};
  const std::vector<std::filesystem::path> given{"/given"};
  const auto candidates = nvrtc_candidates(nvrtc_search(environment, given));
  const auto place = [&](const std::filesystem::path& file) {
    CAPTURE(file.string());
    const auto found = std::find(candidates.begin(), candidates.end(), file);
    REQUIRE(found != candidates.end());
    return found - candidates.begin();
  };
  const std::vector<std::ptrdiff_t> places{place("/given/nvidia/cu13/lib/libnvrtc.so.13"),
                                           place("/given/nvidia/cuda_nvrtc/lib/libnvrtc.so.12"),
                                           place(packages / "nvidia/cu13/lib/libnvrtc.so.13"),
                                           place("/conda/lib/libnvrtc.so.13"),
                                           place("libnvrtc.so.13"),
                                           place("libnvrtc.so.12"),
                                           place("/toolkit/lib64/libnvrtc.so.13"),
                                           place("/usr/local/cuda/lib64/libnvrtc.so.13")};
  CHECK(std::is_sorted(places.begin(), places.end()));
}

TEST_CASE("a wheel's NVRTC is found, with its builtins beside it") {
  if (!have_nvrtc()) return;
  // A wheel made of links to the NVRTC this machine has. A second copy is not loaded by the
  // dynamic loader when it is the same file, so this checks look-up and binding.
  NvrtcSearch here = nvrtc_search(Environment::read());
  const Nvrtc known = load_nvrtc(here);
  const TemporaryFolder folder;
  const auto lib = folder.path / "nvidia/cu13/lib";
  std::filesystem::create_directories(lib);
  std::filesystem::create_symlink(known.file, lib / "libnvrtc.so.13");
  NvrtcSearch search;
  search.loaded = false;
  search.loader_path = false;
  search.site_packages = {folder.path};
  const Nvrtc found = load_nvrtc(search);
  CHECK(found.major == known.major);
  CHECK(found.minor == known.minor);
}

TEST_CASE("resource reports: spills, frames, functions that were not inlined, several kernels") {
  const auto resources = parse_resources(R"(x.cu(7): warning #177-D: variable "unused"
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k2' for 'sm_75'
ptxas info    : Function properties for helper
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Function properties for k2
ptxas         .     384 bytes stack frame, 440 bytes spill stores, 444 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 384 bytes cumulative stack size, 364 bytes cmem[0], 8 bytes cmem[2]
ptxas info    : Compile time = 39.750 ms
ptxas info    : Compiling entry function 'k1' for 'sm_75'
ptxas info    : Function properties for k1
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, 256 bytes smem
)");
  REQUIRE(resources.size() == 2);
  CHECK(resources[0].entry == "k2");
  CHECK(resources[0].registers == 64);
  CHECK(resources[0].local_bytes == 384);
  CHECK(resources[0].spill_bytes == 884);
  CHECK(resources[0].shared_bytes == 0);
  CHECK(resources[0].constant_bytes == 372);
  CHECK(resources[1].entry == "k1");
  CHECK(resources[1].shared_bytes == 256);
  CHECK(resources[1].constant_bytes == -1);
  CHECK(parse_resources("").empty());
}

TEST_CASE("an image that is no ELF file tells nothing and breaks nothing") {
  std::vector<KernelResources> resources;
  std::vector<std::byte> image(100, std::byte{0xff});
  complete_resources(resources, image);
  std::memcpy(image.data(),
              "\x7f"
              "ELF\x02\x01",
              6);  // a header full of nonsense offsets
  complete_resources(resources, image);
  complete_resources(resources, {});
  CHECK(resources.empty());
}
