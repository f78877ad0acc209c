// What the emulator makes of the text that NVRTC would get.

#include "emulator/translate.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "emulator/backend.h"
#include "runtime/operators/template_library.h"
#include "tests/support/errors.h"

namespace cudadent::emulator {
namespace {

using cudadent::tests::fails;

const std::set<std::string> known{"wait", "product"};
const std::string kernel = "extern \"C\" __global__ void run(int* x) { *x = 1; }\n";
const std::string exported = "CUDADENT_ENTRY(run)\n";

std::string translated(const std::string& source) {
  return translate(source + kernel, known, {"run"});
}

TEST_CASE("functions with inline assembly call their emulation") {
  CHECK(translated(
            "__device__ void wait(u32 a, const void* b) {\n  asm(\"x {\" :: \"r\"(a));\n}\n") ==
        "__device__ void wait(u32 a, const void* b) { return ::emulated::wait(a, b); }\n\n\n" +
            kernel + exported);
  CHECK(translated("template <typename T, int N>\n"
                   "__device__ float product(float (&d)[4], const T (&a)[N]) "
                   "{ asm(\"\"); }\n") ==
        "template <typename T, int N>\n"
        "__device__ float product(float (&d)[4], const T (&a)[N]) "
        "{ return ::emulated::product<T, N>(d, a); }\n" +
            kernel + exported);
}

TEST_CASE("what has the name of an emulation is replaced, what has neither is not") {
  CHECK(translated("inline int wait() { return 3; }\n") ==
        "inline int wait() { return ::emulated::wait(); }\n" + kernel + exported);
  const std::string plain =
      "// asm in a comment: wait(1) { }\n"
      "struct Waiter { int wait() { return 1; } };\n"
      "namespace { constexpr int sizes[] = {1, 2}; enum class Kind { wait }; }\n"
      "#define WAIT asm(\"\")\n"
      "constexpr auto lambda = [](int x) { return x; };\n"
      "int other(int a = 3) { if (a > 2) { return 'x'; } return 1'000; }\n";
  CHECK(translated(plain) == plain + kernel + exported);
}

TEST_CASE("assembly without an emulation fails when it is reached") {
  const auto text = translated("struct T { static int f(int x) { asm(\"\"); return x; } };\n");
  CHECK(text.find("f has inline assembly and no emulation") != std::string::npos);
}

TEST_CASE("shared variables refer to memory of the block") {
  CHECK(translated("void f() {\n  extern __shared__ __align__(1024) u8 memory[];\n}\n")
            .find("u8* const memory = static_cast<u8*>(emulated_detail::machine().dynamic_shared("
                  "1024, \"memory\"));") != std::string::npos);
  const auto text = translated("void f() { __shared__ float tile[N][M + (K > 1)]; }\n");
  CHECK(text.find("using tile_type_ = float[N][M + (K > 1)]; auto& tile = ") != std::string::npos);
  CHECK(text.find("sizeof(tile_type_), alignof(float), \"tile\"") != std::string::npos);
  CHECK(fails(ErrorCode::compile_failed, {"line 2", "one variable a declaration"},
              [] { translated("void f() {\n  __shared__ int a, b;\n}\n"); }));
}

TEST_CASE("kernels are exported with their launch bounds") {
  const std::string source =
      "extern \"C\" __global__ void __launch_bounds__(32 * (WARPS + 1), 2)\n    one(int* x) {}\n"
      "extern \"C\" __global__ void two(const __grid_constant__ Map map) {}\n";
  CHECK(translate(source, known, {"one", "two"}) ==
        source + "CUDADENT_ENTRY(one, 32 * (WARPS + 1), 2)\nCUDADENT_ENTRY(two)\n");
  CHECK(fails(ErrorCode::compile_failed, {"no kernel 'three'"},
              [&] { translate(source, known, {"three"}); }));
}

TEST_CASE("every function of ptx/ with inline assembly has an emulation") {
  const auto emulated = emulated_names(device_code("instructions.h"));
  CHECK(emulated.size() > 40);
  for (const auto& file : embedded_files()) {
    if (!file.path.starts_with("ptx/")) continue;
    const auto blanked = blank_out(file.text);
    for (const auto& function : function_definitions(blanked)) {
      const auto body = blanked.substr(function.body, function.body_end - function.body);
      if (function.member || body.find("asm") == std::string::npos) continue;
      CAPTURE(std::string(file.path));
      CHECK_MESSAGE(emulated.contains(function.name), function.name,
                    " is missing in emulator/device/instructions.h");
    }
  }
}

}  // namespace
}  // namespace cudadent::emulator
