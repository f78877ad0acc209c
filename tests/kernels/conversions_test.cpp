// The 8-bit floats of kernel_templates/host/types.h and kernel_templates/ptx/types.cuh, against the formula
// of their specification: every code read, and rounding against a search for the nearest value.

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "api/parts.h"
#include "emulator/backend.h"
#include "runtime/backends/cuda/backend.h"
#include "runtime/backends/cuda/nvrtc.h"
#include "runtime/operators/specialization.h"
#include "tests/support/folder.h"
#include "tests/support/nvrtc.h"
#include "tuner/inputs.h"

namespace cudadent {
namespace {

struct Format {
  const char* name;
  DataType dtype;
  int exponent_bits;
  int largest;  // code of the largest finite value
};
constexpr Format e4m3{"e4m3", DataType::e4m3, 4, 0x7E};
constexpr Format e5m2{"e5m2", DataType::e5m2, 5, 0x7B};

// OCP 8-bit Floating Point Specification 1.0, section 5.
double value_of(const Format& format, int code) {
  const int fraction_bits = 7 - format.exponent_bits;
  const int exponent = (code & 0x7F) >> fraction_bits;
  const int fraction = code & ((1 << fraction_bits) - 1);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int hidden = exponent == 0 ? 0 : 1 << fraction_bits;
  double magnitude = std::ldexp(hidden + fraction, std::max(exponent, 1) - bias - fraction_bits);
  if ((code & 0x7F) > format.largest)
    magnitude = format.exponent_bits == 5 && fraction == 0 ? INFINITY : NAN;
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

// The code of the finite value nearest to x, of two the even one.
int nearest_code(const Format& format, double x) {
  const double wanted = std::min(std::abs(x), value_of(format, format.largest));
  int nearest = 0;
  for (int code = 0; code <= format.largest; ++code) {
    const double here = std::abs(value_of(format, code) - wanted);
    const double best = std::abs(value_of(format, nearest) - wanted);
    if (here < best || (here == best && code % 2 == 0)) nearest = code;
  }
  return nearest | (std::signbit(x) ? 0x80 : 0);
}

// Every value, what lies halfway to the next and beside both, and random floats.
std::vector<float> floats_to_round(const Format& format) {
  std::vector<float> all{0.0F, INFINITY, 3e38F, 1e-38F, 1e-40F};
  for (int code = 0; code < format.largest; ++code) {
    const auto here = static_cast<float>(value_of(format, code));
    const auto half = static_cast<float>((here + value_of(format, code + 1)) / 2);
    for (const float x : {here, half})
      all.insert(all.end(), {x, std::nextafter(x, 0.0F), std::nextafter(x, INFINITY)});
  }
  const auto top = static_cast<float>(value_of(format, format.largest));
  for (const float factor : {1.0F, 1.01F, 1.03F, 1.06F, 1.07F, 1.2F, 2.0F})
    all.push_back(factor * top);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 4000; ++i) {
    all.push_back(normal(generator) * top / 2);
    all.push_back(normal(generator));
    all.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator()) & 0x7F7FFFFFU));
  }
  const std::size_t positive = all.size();
  for (std::size_t i = 0; i < positive; ++i) all.push_back(-all[i]);
  while (all.size() % 16 != 0) all.push_back(1);
  return all;
}

constexpr const char* manifest = R"({
  "op": "convert",
  "dtypes": {
    "from": { "values": ["e4m3", "e5m2", "f32"] },
    "to": { "values": ["e4m3", "e5m2", "f32"] } },
  "options": { "width": [1, 2, 4, 8, 16], "by_integers": [false, true] },
  "tensors": {
    "x": { "shape": ["n"], "dtype": "from" },
    "y": { "shape": ["n"], "dtype": "to", "role": "output" } },
  "requires": ["n % 16 == 0"] })";

constexpr const char* host_template = R"({
  "template": "host", "backend": "host", "compile_time": ["from", "to", "width"], "requires": ["not by_integers"],
  "launches": [{ "entry": "convert", "grid": [1], "args": ["x", "y", "n"] }] })";

constexpr const char* host_source = R"(
void convert(const Block&, const from* x, to* y, int n) {
  for (int i = 0; i < n; i += width) {
    if constexpr (width == 1)
      y[i] = from_f32<to>(to_f32(x[i]));
    else
      store<width>(y + i, load<width>(x + i));
  }
}
)";

constexpr const char* cuda_template = R"({
  "template": "cuda", "backend": "cuda", "compile_time": ["from", "to", "width", "by_integers"],
  "launches": [{ "entry": "convert", "grid": [1], "block": [32], "args": ["x", "y", "n"] }] })";

// Vectors of as many as fit in 16 bytes at a time, and what devices without instructions do.
constexpr const char* cuda_source = R"(
template <typename From, typename To>
__device__ void convert_all(const From* x, To* y, int n) {
  constexpr int part = minimum(width, minimum(per_16_bytes<From>, per_16_bytes<To>));
  constexpr bool reads_16 = width == 16 && is_8bit_float<From>;
  constexpr bool writes_16 = width == 16 && is_8bit_float<To>;
  constexpr int step = reads_16 || writes_16 ? 16 : part;
  for (int i = threadIdx.x * step; i < n; i += 32 * step) {
    if constexpr (by_integers && same_type<From, e4m3>) {
      y[i] = from_f32<To>(detail::e4m3_to_f32_by_integers(x[i]));
    } else if constexpr (by_integers && is_8bit_float<To>) {
      y[i] = To{static_cast<u8>(detail::f32_to_f8_by_integers<To>(x[i]))};
    } else if constexpr (reads_16) {
      float values[16];
      unpack_16<From>(load_16(x + i), values);
      for (int j = 0; j < 16; ++j) y[i + j] = from_f32<To>(values[j]);
    } else if constexpr (writes_16) {
      float values[16];
      for (int j = 0; j < 16; ++j) values[j] = to_f32(x[i + j]);
      store_16(y + i, pack_16<To>(values));
    } else if constexpr (part == 1) {
      y[i] = from_f32<To>(to_f32(x[i]));
    } else {
      Vector<From, part> in;
      Vector<To, part> out;
      in.load(x + i);
      float values[part];
#pragma unroll
      for (int j = 0; j < part; ++j) values[j] = in.get(j);
      out.set(values);
      out.store(y + i);
    }
  }
}

extern "C" __global__ void convert(const from* x, to* y, int n) { convert_all(x, y, n); }
)";

struct Converter {
  tests::Folder folder;
  std::unique_ptr<TemplateLibrary> library;
  std::shared_ptr<const OperatorEntry> entry;

  Converter() {
    folder.write("convert/op.json", manifest);
    folder.write("convert/host.json", host_template);
    folder.write("convert/host.cpp", host_source);
    folder.write("convert/cuda.json", cuda_template);
    folder.write("convert/cuda.cu", cuda_source);
    library = std::make_unique<TemplateLibrary>(std::vector{folder.path()});
    entry = library->find("convert");
  }

  Specialization specialization(const Device& device, DataType from, DataType to, std::size_t count,
                                std::int64_t width, bool by_integers) const {
    const Problem problem = make_problem(entry->manifest, {{"n", static_cast<std::int64_t>(count)},
                                                           {"from", std::string(name_of(from))},
                                                           {"to", std::string(name_of(to))},
                                                           {"width", width},
                                                           {"by_integers", by_integers}});
    for (const auto& kernel : entry->templates)
      if (kernel->backend == device.backend) return specialize(kernel, problem, {}, device);
    FAIL("no template");
    return {};
  }

  template <class To, class From>
  std::vector<To> run(Backend& backend, DataType from, DataType to, const std::vector<From>& x,
                      std::int64_t width, bool by_integers) const {
    const auto plan = specialization(backend.device(), from, to, x.size(), width, by_integers);
    const auto executable = backend.prepare(backend.load(backend.compile(plan)), plan.plan);
    const Buffer in = backend.allocate(x.size() * sizeof(From));
    const Buffer out = backend.allocate(x.size() * sizeof(To));
    backend.copy_to_device(in.data(), x.data(), in.bytes());
    const std::array<void*, 2> tensors{in.data(), out.data()};
    executable->launch({tensors, {}, nullptr});
    backend.synchronize();
    std::vector<To> y(x.size());
    backend.copy_to_host(y.data(), out.data(), out.bytes());
    return y;
  }
};

void check_device(Backend& backend, std::initializer_list<std::int64_t> widths,
                  bool by_integers = false) {
  const Converter converter;
  std::vector<std::uint8_t> codes(256);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i);
  for (const Format& format : {e4m3, e5m2})
    for (const std::int64_t width : widths) {
      CAPTURE(format.name);
      CAPTURE(width);
      const auto read =
          converter.run<float>(backend, format.dtype, DataType::f32, codes, width, by_integers);
      for (int code = 0; code < 256; ++code) {
        CAPTURE(code);
        const double expected = value_of(format, code);
        const float actual = read[static_cast<std::size_t>(code)];
        CHECK((std::isnan(expected) ? std::isnan(actual) : actual == expected));
        if (!std::isnan(expected)) CHECK(std::signbit(actual) == std::signbit(expected));
      }
      auto floats = floats_to_round(format);
      floats.insert(floats.end(), 16, NAN);
      const auto written = converter.run<std::uint8_t>(backend, DataType::f32, format.dtype, floats,
                                                       width, by_integers);
      for (std::size_t i = 0; i < floats.size(); ++i) {
        const int expected =
            std::isnan(floats[i]) ? (written[i] | 0x7F) : nearest_code(format, floats[i]);
        if (written[i] == expected) continue;
        CAPTURE(floats[i]);
        CHECK(written[i] == expected);
      }
    }
}

TEST_CASE("8-bit floats on the host device") {
  check_device(*open_device("host", Environment::read()), {1, 2, 4, 8, 16});
}

TEST_CASE("8-bit floats on the emulator") {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  MESSAGE("SKIPPED: the emulator's fibers are not run under sanitizers");
#else
  const auto emulated = emulator::make_emulator_backend(
      {.sm = 89, .sm_count = 2, .compile_options = {}}, Environment::read());
  check_device(*emulated, {1, 4, 16});
  check_device(*emulated, {1}, true);
#endif
}

TEST_CASE("8-bit floats on a GPU") {
  if (cuda_device_count() == 0) {
    MESSAGE("SKIPPED: no CUDA device");
    return;
  }
  check_device(*open_device("cuda", Environment::read()), {1, 2, 4, 8, 16});
  check_device(*open_device("cuda", Environment::read()), {1}, true);
}

TEST_CASE("conversions of 8-bit floats compile for every architecture") {
  cuda::CudaCompiler compiler(cuda::nvrtc_search(Environment::read()));
  if (!have_nvrtc(compiler)) return;
  const Converter converter;
  for (const char* architecture : {"sm_75", "sm_80", "sm_89", "sm_90a", "sm_120a"})
    for (const DataType format : {DataType::e4m3, DataType::e5m2})
      for (const std::int64_t width : {1, 16}) {
        CAPTURE(architecture);
        const Device device = *nominal_cuda_device(architecture);
        for (const bool reads : {false, true})
          CHECK(!compiler
                     .compile(converter.specialization(device, reads ? format : DataType::f32,
                                                       reads ? DataType::f32 : format, 256, width,
                                                       false))
                     .image.empty());
      }
}

TEST_CASE("8-bit floats of random inputs are rounded as templates round") {
  for (const float x : floats_to_round(e4m3)) {
    CAPTURE(x);
    CHECK(to_e4m3_bits(x) == nearest_code(e4m3, x));
  }
  for (const float x : floats_to_round(e5m2)) {
    CAPTURE(x);
    CHECK(to_e5m2_bits(x) == nearest_code(e5m2, x));
  }
  CHECK(value_of(e4m3, to_e4m3_bits(1000)) == 448);
  CHECK(value_of(e5m2, to_e5m2_bits(-INFINITY)) == -57344);
  CHECK(to_e4m3_bits(NAN) == 0x7F);
  CHECK(std::isnan(value_of(e5m2, to_e5m2_bits(-NAN))));
  const auto elements = random_elements(NormalInput(), DataType::e4m3, 10000, 3);
  REQUIRE(elements.size() == 10000);
  double sum = 0, squares = 0;
  for (const std::byte element : elements) {
    const double value = value_of(e4m3, std::to_integer<int>(element));
    sum += value, squares += value * value;
  }
  CHECK(std::abs(sum / 10000) < 0.05);
  CHECK(squares / 10000 == doctest::Approx(1).epsilon(0.05));
}

}  // namespace
}  // namespace cudadent
